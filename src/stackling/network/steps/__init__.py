"""The steps of the network service: what makes the fabric as the tables say."""

from stackling.network.steps import fabric, floating_ip, network, port, router, security_group
from stackling.network.steps.fabric import resync

MACHINES = (
    security_group.machine,
    network.machine,
    port.machine,
    router.machine,
    floating_ip.machine,
    fabric.machine,
)

__all__ = ["MACHINES", "resync"]
