"""Which address a port gets. Allocation happens in the caller's transaction, alone with the subnet until it ends."""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import db
from stackling.base.db import Row, Tx
from stackling.base.statement import Statement, among
from stackling.network.actions import address
from stackling.network.errors import (
    InvalidInput,
    InvalidIpForNetwork,
    InvalidIpForSubnet,
    IpAddressAlreadyAllocated,
    IpAddressGenerationFailure,
    SubnetNotFound,
)
from stackling.network.state.port import ip_allocation
from stackling.network.state.subnet import subnet

_FEW, _MANY = 16, 1024  # candidates looked at in the first statement, and in further ones


class WantedIP(Struct, frozen=True):
    """One of the fixed IPs that a port asks for: either or both of a subnet and an address."""

    subnet_id: str | None = None
    ip_address: str | None = None


class Fixed(NamedTuple):
    subnet_id: str
    ip_address: str


def is_auto(row: Row) -> bool:
    """Whether guests of the subnet make their own addresses."""
    return row.ip_version == 6 and row.ipv6_address_mode in address.AUTO


def serves(row: Row, device_owner: str) -> bool:
    """Whether the subnet may serve ports of this owner by its `service_types`."""
    return not row.service_types or any(device_owner.startswith(kind) for kind in row.service_types)


def choose(
    tx: Tx,
    network_id: str,
    subnets: Sequence[Row],
    mac: str,
    device_owner: str,
    wanted: Sequence[WantedIP] | None,
) -> list[Fixed]:
    """Addresses for a port, reserved by locks until `keep` writes them.

    `wanted=None`: one IPv4 and one IPv6 address, as far as there are subnets, and one of each subnet whose
    guests make their own. Raises IpAddressGenerationFailure when a subnet is full, and what `_asked` raises.
    """
    router_port = device_owner.startswith("network:router") or device_owner == "network:distributed"
    fixed: list[Fixed] = []
    if wanted is not None:
        for want in wanted:
            fixed.append(_asked(tx, network_id, subnets, mac, want, fixed, router_port))
        if not wanted or router_port:
            return fixed
    else:
        fitting = [s for s in subnets if serves(s, device_owner)]
        if subnets and not fitting:
            raise IpAddressGenerationFailure(
                f"No subnet of network {network_id} serves ports of type {device_owner!r}."
            )
        # A subnet made for the owner's type goes before those that serve everybody.
        fitting.sort(key=lambda s: not s.service_types)
        for version in (4, 6):
            candidates = [s for s in fitting if s.ip_version == version and (router_port or not is_auto(s))]
            if candidates:
                fixed.append(_first_free(tx, network_id, candidates))
    if not router_port:
        have = {f.subnet_id for f in fixed}
        fixed += [Fixed(s.id, address.eui64(s.cidr, mac)) for s in subnets if is_auto(s) and s.id not in have]
    return fixed


def first_free(tx: Tx, row: Row) -> Fixed | None:
    """A free address of one subnet, or None."""
    ip = _next_free(tx, row)
    return None if ip is None else Fixed(row.id, ip)


def _first_free(tx: Tx, network_id: str, candidates: Sequence[Row]) -> Fixed:
    for row in candidates:
        ip = _next_free(tx, row)
        if ip is not None:
            return Fixed(row.id, ip)
    raise IpAddressGenerationFailure(f"No more IP addresses available on network {network_id}.")


def _next_free(tx: Tx, row: Row, promised: Sequence[Fixed] = ()) -> str | None:
    """A free address of the subnet's pools, or None.

    The search goes on where the last one ended, so that an address rests before it is given again.
    """
    db.lock(tx, f"subnet:{row.id}")
    now = _NEXT.first(tx, id=row.id)
    order = address.walk(row.allocation_pools, now.next_ip if now is not None else None)
    most = _FEW
    while batch := list(islice(order, most)):
        taken = {r.ip_address for r in _TAKEN.all(tx, subnet_id=row.id, ips=batch)}
        taken |= {f.ip_address for f in promised if f.subnet_id == row.id}
        for ip in batch:
            if ip not in taken:
                tx.execute(_REMEMBER, {"this": row.id, "next_ip": address.next_of(ip)})
                return ip
        most = _MANY
    return None


_NEXT = Statement(sa.select(subnet.c.next_ip).where(subnet.c.id == sa.bindparam("id")))
_TAKEN = Statement(
    sa.select(ip_allocation.c.ip_address).where(
        ip_allocation.c.subnet_id == sa.bindparam("subnet_id"), among(ip_allocation.c.ip_address, "ips")
    )
)
_REMEMBER = sa.update(subnet).where(subnet.c.id == sa.bindparam("this"))


def _asked(
    tx: Tx,
    network_id: str,
    subnets: Sequence[Row],
    mac: str,
    want: WantedIP,
    fixed: list[Fixed],
    router_port: bool,
) -> Fixed:
    if want.subnet_id is None and want.ip_address is None:
        raise InvalidInput("Invalid input for operation: IP allocation requires subnet_id or ip_address.")
    row: Row | None = None
    if want.subnet_id is not None:
        row = next((s for s in subnets if s.id == want.subnet_id), None)
        if row is None:
            if tx.execute(sa.select(subnet.c.id).where(subnet.c.id == want.subnet_id)).first() is None:
                raise SubnetNotFound(f"Subnet {want.subnet_id} could not be found.")
            raise InvalidInput(
                f"Invalid input for operation: Failed to create port on network {network_id}, because fixed_ips included "
                f"invalid subnet {want.subnet_id}."
            )
    if want.ip_address is None:
        assert row is not None
        if is_auto(row) and not router_port:
            return Fixed(row.id, address.eui64(row.cidr, mac))
        ip = _next_free(tx, row, fixed)
        if ip is None:
            raise IpAddressGenerationFailure(f"No more IP addresses available on network {network_id}.")
        return Fixed(row.id, ip)
    ip_wanted = address.address(want.ip_address, "fixed_ips")
    if row is None:
        row = next((s for s in subnets if ip_wanted in address.prefix(s.cidr, "cidr")), None)
        if row is None:
            raise InvalidIpForNetwork(
                f"IP address {ip_wanted} is not a valid IP for any of the subnets on the specified network."
            )
    if ip_wanted not in address.prefix(row.cidr, "cidr"):
        raise InvalidIpForSubnet(f"IP address {ip_wanted} is not a valid IP for the specified subnet.")
    ip = str(ip_wanted)
    if is_auto(row) and not router_port and ip != address.eui64(row.cidr, mac):
        raise InvalidInput(
            f"Invalid input for operation: IPv6 address {ip} can not be directly assigned to a port on subnet {row.id} "
            "since the subnet is configured for automatic addresses."
        )
    net = address.prefix(row.cidr, "cidr")
    first, last = address.usable(net)
    if not first <= int(ip_wanted) <= last:
        raise InvalidIpForSubnet(f"IP address {ip_wanted} is not a valid IP for the specified subnet.")
    db.lock(tx, f"subnet:{row.id}")
    used = tx.execute(
        sa.select(ip_allocation.c.port_id).where(
            ip_allocation.c.subnet_id == row.id, ip_allocation.c.ip_address == ip
        )
    ).first()
    if used is not None or any(f.ip_address == ip and f.subnet_id == row.id for f in fixed):
        raise IpAddressAlreadyAllocated(f"IP address {ip} already allocated in subnet {row.id}")
    return Fixed(row.id, ip)


def keep(tx: Tx, port_id: str, fixed: Sequence[Fixed]) -> None:
    """Make these the port's addresses, and no others."""
    tx.execute(sa.delete(ip_allocation).where(ip_allocation.c.port_id == port_id))
    add(tx, port_id, fixed)


def add(tx: Tx, port_id: str, fixed: Sequence[Fixed], *, position: int = 0) -> None:
    if fixed:
        rows = [
            {
                "subnet_id": f.subnet_id,
                "ip_address": f.ip_address,
                "port_id": port_id,
                "position": position + n,
            }
            for n, f in enumerate(fixed)
        ]
        tx.execute(_ADD, rows)


_ADD = sa.insert(ip_allocation)
