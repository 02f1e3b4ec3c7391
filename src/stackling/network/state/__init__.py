"""The tables of the network service."""

from stackling.network.state import floating_ip, network, port, router, security_group, standard, subnet

__all__ = ["floating_ip", "network", "port", "router", "security_group", "standard", "subnet"]
