"""The tables of the network service."""

from stackling.network.state import (
    floating_ip,
    metering,
    network,
    port,
    rbac,
    router,
    security_group,
    standard,
    subnet,
    topology,
)

__all__ = [
    "floating_ip",
    "metering",
    "network",
    "port",
    "rbac",
    "router",
    "security_group",
    "standard",
    "subnet",
    "topology",
]
