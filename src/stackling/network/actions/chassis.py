"""Which hosts may carry a router's gateway."""

import zlib
from collections.abc import Sequence

from stackling.network.driver import Chassis, GatewayChassis


def gateway_chassis(
    router_id: str, physical_network: str | None, chassis: Sequence[Chassis], most: int = 5
) -> tuple[GatewayChassis, ...]:
    """At most `most` of those that reach the physical network, and among them those that were meant for it.

    Which comes first differs from router to router, so that the load is spread.
    """
    reach = [c for c in chassis if physical_network in c.physical_networks]
    meant = [c for c in reach if c.gateway] or reach
    order = sorted(meant, key=lambda c: (zlib.crc32(f"{router_id}{c.name}".encode()), c.name))[:most]
    return tuple(GatewayChassis(c.name, len(order) - n) for n, c in enumerate(order))
