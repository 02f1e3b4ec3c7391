"""Address arithmetic: what is checked and computed without the database."""

import ipaddress
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from stackling.network.errors import (
    GatewayConflictWithAllocationPools,
    InvalidAllocationPool,
    InvalidInput,
    OutOfBoundsAllocationPool,
    OverlappingAllocationPools,
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network
AUTO = ("slaac", "dhcpv6-stateless")  # modes in which guests make their addresses from their MACs
_FAMILY = {4: ipaddress.IPv4Address, 6: ipaddress.IPv6Address}


def address(text: Any, field: str) -> Address:
    """Raises InvalidInput naming `field`."""
    try:
        if not isinstance(text, str) or len(text) > 64 or "%" in text:
            raise ValueError
        return ipaddress.ip_address(text)
    except ValueError:
        raise InvalidInput(
            f"Invalid input for {field}. Reason: '{str(text)[:64]}' is not a valid IP address."
        ) from None


def prefix(text: Any, field: str, *, strict: bool = False) -> Prefix:
    """A CIDR; host bits are cleared unless `strict`. Raises InvalidInput naming `field`."""
    try:
        if not isinstance(text, str) or len(text) > 64 or "%" in text or (strict and "/" not in text):
            raise ValueError
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InvalidInput(
            f"Invalid input for {field}. Reason: '{str(text)[:64]}' is not a valid IP subnet."
        ) from None


def eui64(net: str, mac: str) -> str:
    """The address that a guest with this MAC gives itself in an IPv6 /64 (RFC 4291, appendix A)."""
    raw = bytearray(bytes.fromhex(mac.replace(":", "")))
    raw[0] ^= 2
    low = int.from_bytes(bytes(raw[:3]) + b"\xff\xfe" + bytes(raw[3:]), "big")
    return str(ipaddress.IPv6Address(int(ipaddress.IPv6Network(net).network_address) | low))


def first_host(net: Prefix) -> Address:
    """The gateway when none is named."""
    return net.network_address if net.num_addresses == 1 else net.network_address + 1


def usable(net: Prefix) -> tuple[int, int]:
    """First and last address that a host may have. Raises nothing: a /31 or /32 has all of its own."""
    first, last = int(net.network_address), int(net.broadcast_address)
    if net.version == 4:
        return (first + 1, last - 1) if net.prefixlen < 31 else (first, last)
    return (first + 1, last) if net.prefixlen < 127 else (first, last)


def default_pools(net: Prefix, gateway: Address | None) -> list[dict[str, str]]:
    """Everything but network, broadcast and gateway."""
    first, last = usable(net)
    spans = [(first, last)]
    if gateway is not None and gateway in net:
        at = int(gateway)
        spans = [(a, b) for a, b in ((first, min(last, at - 1)), (max(first, at + 1), last)) if a <= b]
    return [{"start": str(_FAMILY[net.version](a)), "end": str(_FAMILY[net.version](b))} for a, b in spans]


def spans(pools: Iterable[dict[str, str]]) -> list[tuple[int, int]]:
    return [(int(ipaddress.ip_address(p["start"])), int(ipaddress.ip_address(p["end"]))) for p in pools]


def checked_pools(pools: Iterable[Any], net: Prefix, gateway: Address | None) -> list[dict[str, str]]:
    """Pools as a user gave them. Raises InvalidAllocationPool, OutOf…, Overlapping…, GatewayConflict…."""
    made: list[tuple[Address, Address]] = []
    first, last = usable(net)
    for pool in pools:
        start, end = address(pool.start, "allocation_pools"), address(pool.end, "allocation_pools")
        if start.version != net.version or end.version != net.version or int(end) < int(start):
            raise InvalidAllocationPool(f"The allocation pool {start}-{end} is not valid.")
        if int(start) < first or int(end) > last:
            raise OutOfBoundsAllocationPool(
                f"The allocation pool {start}-{end} spans beyond the subnet cidr {net}."
            )
        made.append((start, end))
    made.sort(key=lambda p: int(p[0]))
    for (a, b), (c, d) in pairwise(made):
        if int(c) <= int(b):
            raise OverlappingAllocationPools(
                f"Found overlapping allocation pools: {a}-{b} {c}-{d} for subnet {net}."
            )
    outside_pools(gateway, [{"start": str(a), "end": str(b)} for a, b in made])
    return [{"start": str(a), "end": str(b)} for a, b in made]


def outside_pools(gateway: Address | None, pools: list[dict[str, str]]) -> None:
    """Raises GatewayConflictWithAllocationPools."""
    if gateway is not None:
        for pool, (start, end) in zip(pools, spans(pools), strict=True):
            if (
                ipaddress.ip_address(pool["start"]).version == gateway.version
                and start <= int(gateway) <= end
            ):
                raise GatewayConflictWithAllocationPools(
                    f"Gateway ip {gateway} conflicts with allocation pool {pool['start']}-{pool['end']}."
                )


def walk(pools: list[dict[str, str]], after: str | None) -> Iterator[str]:
    """Every address of the pools once, beginning at `after` and coming round."""
    ranges = spans(pools)
    family = _FAMILY[ipaddress.ip_address(pools[0]["start"]).version] if pools else ipaddress.IPv4Address
    begin = int(ipaddress.ip_address(after)) if after else None
    if begin is not None:
        for start, end in ranges:
            for n in _count(max(start, begin), end):
                yield str(family(n))
    for start, end in ranges:
        for n in _count(start, end if begin is None else min(end, begin - 1)):
            yield str(family(n))


def _count(start: int, end: int) -> Iterator[int]:
    n = start
    while n <= end:
        yield n
        n += 1


def size(pools: list[dict[str, str]]) -> int:
    return sum(end - start + 1 for start, end in spans(pools))


def next_of(ip: str) -> str | None:
    """The address after this one; None after the last there is."""
    at = ipaddress.ip_address(ip)
    try:
        return str(at + 1)
    except ipaddress.AddressValueError:
        return None


def prefixlen(cidr: str) -> int:
    return int(cidr.rpartition("/")[2])
