"""The lives of servers and hosts."""

from stackling.base.jobs import Machine
from stackling.compute.steps import host, housekeeping, server

MACHINES: tuple[Machine, ...] = (server.machine, host.machine, housekeeping.machine)
