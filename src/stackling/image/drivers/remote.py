"""The image cache of another host, through its node agent."""

from __future__ import annotations

from stackling.base.rpc import Interface, Remote, Transport
from stackling.image.data_driver import CacheUnavailable, ImageDamaged, NodeCache

INTERFACE = Interface(
    "images", NodeCache, errors=(CacheUnavailable, ImageDamaged), unavailable=CacheUnavailable
)


def remote_cache(transport: Transport) -> NodeCache:
    """The cache at the other end of `transport`."""
    far: NodeCache = Remote(INTERFACE, transport)  # type: ignore[assignment]
    return far
