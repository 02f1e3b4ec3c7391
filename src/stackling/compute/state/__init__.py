"""Tables of compute."""

from stackling.compute.state import (
    aggregate,
    block_device,
    flavor,
    host,
    instance_action,
    keypair,
    nic,
    server,
    server_group,
    server_image,
)

__all__ = [
    "aggregate",
    "block_device",
    "flavor",
    "host",
    "instance_action",
    "keypair",
    "nic",
    "server",
    "server_group",
    "server_image",
]
