"""The lives of servers and hosts."""

from stackling.base.jobs import Machine
from stackling.compute.steps import housekeeping, host, server

MACHINES: tuple[Machine, ...] = (server.machine, host.machine, housekeeping.machine)
