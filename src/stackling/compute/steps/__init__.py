"""The lives of servers and hosts."""

from stackling.base.jobs import Machine
from stackling.compute.steps import host, housekeeping, server, server_image

MACHINES: tuple[Machine, ...] = (server.machine, server_image.machine, host.machine, housekeeping.machine)
