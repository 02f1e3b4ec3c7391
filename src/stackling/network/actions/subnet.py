"""Subnets."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET, Struct
from sqlalchemy import ColumnElement

from stackling.base import db, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest
from stackling.base.statement import Statement
from stackling.network.actions import address, ipam, new_port, standard, subnetpool
from stackling.network.actions import network as network_actions
from stackling.network.actions.ipam import Fixed, WantedIP
from stackling.network.actions.network import DISTRIBUTED, SELF_MADE
from stackling.network.actions.standard import New, Unset, given
from stackling.network.errors import (
    DNSNameServersExhausted,
    GatewayIpInUse,
    HostRoutesExhausted,
    InvalidInput,
    NetworkNotFound,
    SubnetInUse,
    SubnetNotFound,
)
from stackling.network.state import network as networks
from stackling.network.state import port as ports
from stackling.network.state import subnet as subnets
from stackling.network.state.network import network
from stackling.network.state.port import ip_allocation, port
from stackling.network.state.router import GATEWAY
from stackling.network.state.subnet import subnet

_MODES = ("slaac", "dhcpv6-stateful", "dhcpv6-stateless")
_MOST_NAMESERVERS, _MOST_ROUTES = 5, 20  # upstream's defaults


class Pool(Struct, forbid_unknown_fields=True):
    start: str
    end: str


class Route(Struct, forbid_unknown_fields=True):
    destination: str
    nexthop: str


class NewSubnet(New, kw_only=True):
    network_id: str
    ip_version: int | Unset | None = UNSET
    cidr: str | Unset | None = UNSET
    prefixlen: int | Unset | None = UNSET
    subnetpool_id: str | Unset | None = UNSET
    use_default_subnetpool: bool = False
    gateway_ip: str | Unset | None = UNSET
    enable_dhcp: bool = True
    allocation_pools: list[Pool] | Unset | None = UNSET
    dns_nameservers: list[str] | None = None
    host_routes: list[Route] | None = None
    ipv6_ra_mode: str | None = None
    ipv6_address_mode: str | None = None
    service_types: list[str] | Unset | None = UNSET


class SubnetChanges(Struct, kw_only=True):
    name: str | Unset = UNSET
    description: str | Unset = UNSET
    gateway_ip: str | Unset | None = UNSET
    enable_dhcp: bool | Unset = UNSET
    allocation_pools: list[Pool] | Unset = UNSET
    dns_nameservers: list[str] | Unset | None = UNSET
    host_routes: list[Route] | Unset | None = UNSET
    service_types: list[str] | Unset | None = UNSET


def target(tx: Tx, caller: Caller, row: Row, net: Row) -> dict[str, Any]:
    return {**network_actions.target(tx, caller, net), **standard.target(row.project_id)}


def find(tx: Tx, caller: Caller, id: str, verb: str = "get") -> Row:
    """Raises SubnetNotFound, Forbidden."""
    row = subnets.by_id(tx, id)
    missing = SubnetNotFound(f"Subnet {id} could not be found.")
    if row is None:
        raise missing
    net = networks.by_id(tx, row.network_id)
    assert net is not None
    standard.guard(caller, verb, "subnet", target(tx, caller, row, net), missing)
    return row


def visible(caller: Caller) -> ColumnElement[bool] | None:
    """A project sees its own subnets, and those of networks that it sees."""
    if standard.sees_all(caller, "subnet"):
        return None
    seen = sa.select(network.c.id).where(network_actions.mine(caller))
    return sa.or_(subnet.c.project_id == caller.project_id, subnet.c.network_id.in_(seen))


# -- create ------------------------------------------------------------------------------------------------------------


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewSubnet) -> Row:
    """Raises NetworkNotFound, Forbidden, QuotaExceeded, and a BadRequest or Conflict that says what does not fit."""
    net = network_actions.find(tx, caller, want.network_id)
    project_id = standard.owner(caller, want)
    whom = {**network_actions.target(tx, caller, net), **standard.target(project_id)}
    caller.may("create_subnet", whom)
    standard.may_set(caller, "create_subnet", want, {"service_types": "service_types"}, whom)
    standard.check_quota(tx, cloud, project_id, subnet=1)
    return insert(tx, cloud, caller, net, project_id, want)


def insert(tx: Tx, cloud: Cloud, caller: Caller | None, net: Row, project_id: str, want: NewSubnet) -> Row:
    """The subnet itself, without asking whether its user may."""
    if not networks.hold(tx, net.id):
        raise NetworkNotFound(f"Network {net.id} could not be found.")
    db.lock(tx, f"subnets:{net.id}")
    cidr, pool_id = _cidr(tx, caller, project_id, want)
    version = cidr.version
    if want.ip_version not in (UNSET, None, version):
        raise InvalidInput(
            f"Invalid input for operation: cidr {cidr} does not match the ip_version '{want.ip_version}'."
        )
    present = subnets.of_networks(tx, [net.id]).get(net.id, [])
    for other in present:
        if address.prefix(other.cidr, "cidr").overlaps(cidr):
            raise InvalidInput(
                f"Invalid input for operation: Requested subnet with cidr: {cidr} for network: {net.id} overlaps with another subnet."
            )
    _check_modes(want, cidr)
    gateway = _gateway(want.gateway_ip, cidr)
    if isinstance(want.allocation_pools, list):
        pools = address.checked_pools(want.allocation_pools, cidr, gateway)
    else:
        pools = address.default_pools(cidr, gateway)
    values = standard.fresh(cloud, project_id, want) | {
        "network_id": net.id,
        "ip_version": version,
        "cidr": str(cidr),
        "gateway_ip": None if gateway is None else str(gateway),
        "enable_dhcp": want.enable_dhcp,
        "allocation_pools": pools,
        "dns_nameservers": _nameservers(want.dns_nameservers or []),
        "host_routes": routes(want.host_routes or [], "host_routes", version),
        "ipv6_ra_mode": want.ipv6_ra_mode,
        "ipv6_address_mode": want.ipv6_address_mode,
        "subnetpool_id": pool_id,
        "service_types": want.service_types or [],
    }
    row = standard.insert(tx, subnet, values)
    standard.touch(tx, cloud, network, net.id)
    jobs.start(tx, network_actions.KIND, net.id, now=cloud.clock.now())
    if row.enable_dhcp:
        _serve_metadata(tx, cloud, net, [*present, row])
    if ipam.is_auto(row):
        _address_present_ports(tx, cloud, row)
    if net.external:
        _address_gateways(tx, cloud, row)
    return row


def _cidr(
    tx: Tx, caller: Caller | None, project_id: str, want: NewSubnet
) -> tuple[address.Prefix, str | None]:
    """The CIDR, and the id of the pool that it comes from."""
    named = want.cidr if isinstance(want.cidr, str) else None
    cidr = address.prefix(named, "cidr", strict=True) if named is not None else None
    length = want.prefixlen if isinstance(want.prefixlen, int) else None
    pool: Row | None = None
    if want.subnetpool_id and want.use_default_subnetpool:
        raise BadRequest("subnetpool_id and use_default_subnetpool cannot both be specified")
    if want.subnetpool_id and caller is not None:
        if want.subnetpool_id == "prefix_delegation":
            raise InvalidInput("Invalid input for subnetpool_id. Reason: prefix delegation is not offered.")
        pool = subnetpool.find(tx, caller, str(want.subnetpool_id))
    elif (want.use_default_subnetpool or cidr is None) and caller is not None:
        pool = subnetpool.default(tx, caller, want.ip_version if isinstance(want.ip_version, int) else 4)
        if pool is None:
            raise BadRequest("Bad subnets request: a subnetpool must be specified in the absence of a cidr.")
    if pool is None:
        if cidr is None:
            raise BadRequest("Bad subnets request: a cidr is required.")
        if length is not None:
            raise BadRequest("Bad subnets request: prefixlen can only be given with a subnet pool.")
        _check_range(cidr)
        return cidr, None
    if cidr is not None and length is not None:
        raise BadRequest("Bad subnets request: cidr and prefixlen must not be supplied together")
    if pool.address_scope_id is None and want.ip_version not in (UNSET, None, pool.ip_version):
        raise BadRequest(f"Bad subnets request: the subnet pool is of IPv{pool.ip_version}.")
    return address.prefix(
        subnetpool.allocate(tx, pool, project_id, cidr=cidr, prefixlen=length), "cidr"
    ), str(pool.id)


def _check_range(cidr: address.Prefix) -> None:
    if cidr.prefixlen == 0:
        raise InvalidInput("Invalid input for operation: 0 is not a valid CIDR prefix length.")
    if cidr.is_multicast or cidr.is_loopback or (cidr.version == 6 and cidr.is_link_local):
        raise InvalidInput(f"Invalid input for operation: {cidr} is multicast, loopback or link-local.")


def _check_modes(want: NewSubnet, cidr: address.Prefix) -> None:
    modes = [m for m in (want.ipv6_ra_mode, want.ipv6_address_mode) if m is not None]
    if not modes:
        return
    if cidr.version == 4:
        raise InvalidInput(
            "Invalid input for operation: ipv6_ra_mode and ipv6_address_mode are not valid when ip_version is 4."
        )
    for mode in modes:
        if mode not in _MODES:
            raise InvalidInput(
                f"Invalid input for ipv6_ra_mode or ipv6_address_mode. Reason: '{mode[:32]}' is not in {list(_MODES)}."
            )
    if not want.enable_dhcp:
        raise InvalidInput(
            "Invalid input for operation: ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False."
        )
    if len(set(modes)) > 1:
        raise InvalidInput(
            f"Invalid input for operation: ipv6_ra_mode set to '{modes[0]}' with ipv6_address_mode set to '{modes[1]}' is not valid. "
            "If both attributes are set, they must be the same value."
        )
    if modes[0] in address.AUTO and cidr.prefixlen != 64:
        raise InvalidInput(
            f"Invalid input for operation: Invalid CIDR {cidr} for IPv6 address mode. OpenStack uses the EUI-64 address format, which requires the prefix to be /64."
        )


def _gateway(text: str | Unset | None, cidr: address.Prefix) -> address.Address | None:
    if text is None or text == "":
        return None
    if text is UNSET:
        return address.first_host(cidr)
    gateway = address.address(text, "gateway_ip")
    if gateway.version != cidr.version:
        raise InvalidInput(
            f"Invalid input for operation: gateway_ip '{gateway}' does not match the ip_version '{cidr.version}'."
        )
    first, last = address.usable(cidr)
    if gateway in cidr and not first <= int(gateway) <= last:
        raise InvalidInput(f"Invalid input for operation: Gateway {gateway} is not valid on subnet {cidr}.")
    return gateway


def _nameservers(texts: Sequence[str]) -> list[str]:
    if len(texts) > _MOST_NAMESERVERS:
        raise DNSNameServersExhausted(
            f"Unable to complete operation for subnet. The number of DNS nameservers exceeds the limit {_MOST_NAMESERVERS}."
        )
    made = [str(address.address(t, "dns_nameservers")) for t in texts]
    if len(set(made)) != len(made):
        raise InvalidInput("Invalid input for dns_nameservers. Reason: duplicate nameserver.")
    return made


def routes(
    wanted: Sequence[Route], field: str, version: int | None = None, most: int = _MOST_ROUTES
) -> list[dict[str, str]]:
    """Routes as they are kept. Raises InvalidInput naming `field`, HostRoutesExhausted."""
    if len(wanted) > most:
        raise HostRoutesExhausted(
            f"Unable to complete operation. The number of routes exceeds the limit {most}."
        )
    made: list[dict[str, str]] = []
    for route in wanted:
        destination, nexthop = address.prefix(route.destination, field), address.address(route.nexthop, field)
        if destination.version != nexthop.version or version not in (None, nexthop.version):
            raise InvalidInput(
                f"Invalid input for {field}. Reason: destination {destination} and nexthop {nexthop} differ in IP version."
            )
        one = {"destination": str(destination), "nexthop": str(nexthop)}
        if one in made:
            raise InvalidInput(f"Invalid input for {field}. Reason: Duplicate route {one}.")
        made.append(one)
    return made


def _serve_metadata(tx: Tx, cloud: Cloud, net: Row, rows: Sequence[Row]) -> None:
    """Have the network's port for metadata, with an address of each IPv4 subnet that has DHCP."""
    here = _METADATA_PORT.first(tx, network_id=net.id)
    served = [r for r in rows if r.enable_dhcp and r.ip_version == 4]
    have = (
        {a.subnet_id for a in ports.addresses(tx, [here.id]).get(here.id, [])} if here is not None else set()
    )
    fixed: list[Fixed] = []
    for row in served:
        if row.id not in have:
            found = ipam.first_free(tx, row)
            if found is not None:  # a subnet without a free address is served without metadata
                fixed.append(found)
    if here is None:
        want = new_port.NewPort(network_id=net.id, device_id=f"ovnmeta-{net.id}", device_owner=DISTRIBUTED)
        here = new_port.insert(tx, cloud, None, net, net.project_id, want, fixed=fixed)
    elif fixed:
        ipam.add(tx, here.id, fixed, position=len(have))
    if fixed:
        new_port.described_anew(tx, cloud, here)


_METADATA_PORT = Statement(
    sa.select(port).where(port.c.network_id == sa.bindparam("network_id"), port.c.device_owner == DISTRIBUTED)
)


def _stop_metadata(tx: Tx, cloud: Cloud, row: Row) -> None:
    """DHCP is off in the subnet: the port for metadata needs no address there, and no port when that was the last."""
    here = _METADATA_PORT.first(tx, network_id=row.network_id)
    if here is None:
        return
    tx.execute(
        sa.delete(ip_allocation).where(
            ip_allocation.c.port_id == here.id, ip_allocation.c.subnet_id == row.id
        )
    )
    rest = sa.select(subnet.c.id).where(
        subnet.c.network_id == row.network_id, subnet.c.enable_dhcp, subnet.c.id != row.id
    )
    if tx.execute(rest.limit(1)).first() is None:
        new_port.erase(tx, cloud, here)
    else:
        new_port.described_anew(tx, cloud, here)


def _address_present_ports(tx: Tx, cloud: Cloud, row: Row) -> None:
    """Guests that are there already make themselves an address in the new subnet."""
    query = sa.select(port).where(port.c.network_id == row.network_id, ~port.c.device_owner.like("network:%"))
    for present in list(tx.execute(query)):
        ipam.add(tx, present.id, [Fixed(row.id, address.eui64(row.cidr, present.mac_address))], position=1000)
        new_port.described_anew(tx, cloud, present)


def _address_gateways(tx: Tx, cloud: Cloud, row: Row) -> None:
    """Routers that leave through this network and have no address of the subnet's IP version get one."""
    query = sa.select(port).where(port.c.network_id == row.network_id, port.c.device_owner == GATEWAY)
    for leg in list(tx.execute(query)):
        have = ports.addresses(tx, [leg.id]).get(leg.id, [])
        if any(address.address(a.ip_address, "ip").version == row.ip_version for a in have):
            continue
        wanted = [WantedIP(subnet_id=row.id)]
        fixed = ipam.choose(tx, row.network_id, [row], leg.mac_address, GATEWAY, wanted)
        ipam.add(tx, leg.id, fixed, position=len(have))
        new_port.described_anew(tx, cloud, leg)
        jobs.start(tx, "network.router", leg.device_id, now=cloud.clock.now())


# -- update and remove -------------------------------------------------------------------------------------------------


def update(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, want: SubnetChanges, *, revision: int | None = None
) -> Row:
    """Raises SubnetNotFound, Forbidden, GatewayIpInUse, and what `create` raises."""
    row = find(tx, caller, id, "update")
    standard.check_revision(row, revision)
    net = networks.by_id(tx, row.network_id)
    assert net is not None
    standard.may_set(
        caller, "update_subnet", want, {"service_types": "service_types"}, target(tx, caller, row, net)
    )
    cidr = address.prefix(row.cidr, "cidr")
    values = given(want, "name", "description", "enable_dhcp")
    if want.dns_nameservers is not UNSET:
        values["dns_nameservers"] = _nameservers(want.dns_nameservers or [])
    if want.host_routes is not UNSET:
        values["host_routes"] = routes(want.host_routes or [], "host_routes", row.ip_version)
    if want.service_types is not UNSET:
        values["service_types"] = want.service_types or []
    gateway = _gateway(row.gateway_ip, cidr)
    if want.gateway_ip is not UNSET:
        gateway = _gateway(want.gateway_ip, cidr)
        values["gateway_ip"] = None if gateway is None else str(gateway)
        if values["gateway_ip"] != row.gateway_ip:
            _check_gateway_free(tx, row)
    if want.allocation_pools is not UNSET:
        values["allocation_pools"] = address.checked_pools(want.allocation_pools, cidr, gateway)
        values["next_ip"] = None
    elif "gateway_ip" in values and values["gateway_ip"] != row.gateway_ip:
        address.outside_pools(gateway, row.allocation_pools)
    if want.enable_dhcp is False and (row.ipv6_ra_mode or row.ipv6_address_mode):
        raise InvalidInput(
            "Invalid input for operation: ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False."
        )
    made = standard.change(tx, cloud, subnet, id, values)
    if made.enable_dhcp and not row.enable_dhcp:
        _serve_metadata(tx, cloud, net, subnets.of_networks(tx, [net.id])[net.id])
    elif row.enable_dhcp and not made.enable_dhcp:
        _stop_metadata(tx, cloud, made)
    standard.touch(tx, cloud, network, net.id)
    jobs.start(tx, network_actions.KIND, net.id, now=cloud.clock.now())
    network_actions.wake_routers(tx, cloud, net.id)
    return made


def _check_gateway_free(tx: Tx, row: Row) -> None:
    query = (
        sa.select(port.c.id)
        .join(ip_allocation, ip_allocation.c.port_id == port.c.id)
        .where(
            ip_allocation.c.subnet_id == row.id,
            ip_allocation.c.ip_address == (row.gateway_ip or ""),
            port.c.device_owner == "network:router_interface",
        )
    )
    used = tx.execute(query).first()
    if used:
        raise GatewayIpInUse(
            f"Current gateway ip {row.gateway_ip} already in use by port {used.id}. Unable to update."
        )


def remove(tx: Tx, cloud: Cloud, caller: Caller, id: str, *, revision: int | None = None) -> None:
    """Raises SubnetNotFound, Forbidden, SubnetInUse."""
    row = find(tx, caller, id, "delete")
    standard.check_revision(row, revision)
    networks.hold(tx, row.network_id)
    tx.execute(
        sa.select(subnet.c.id).where(subnet.c.id == id).with_for_update()
    )  # no address is given meanwhile
    query = (
        sa.select(port)
        .join(ip_allocation, ip_allocation.c.port_id == port.c.id)
        .where(ip_allocation.c.subnet_id == id)
        .distinct()
    )
    held: list[Any] = []
    loose: list[Any] = []
    if row.ip_version == 4 or not ipam.is_auto(row):
        query = query.where(port.c.device_owner.not_in(SELF_MADE))
        held = list(tx.execute(query.with_only_columns(port.c.id).limit(20)))
    else:  # addresses that guests made themselves go with the prefix; a router's stays
        rows = list(tx.execute(query.with_only_columns(port.c.id, port.c.device_owner)))
        held = [p for p in rows if p.device_owner.startswith("network:router")]
        loose = [p for p in rows if not p.device_owner.startswith("network:")]
    if held:
        raise SubnetInUse(
            f"Unable to complete operation on subnet {id}: One or more ports have an IP allocation from this subnet."
        )
    _stop_metadata(tx, cloud, row)
    tx.execute(sa.delete(ip_allocation).where(ip_allocation.c.subnet_id == id))
    for p in loose:
        jobs.start(tx, new_port.KIND, p.id, now=cloud.clock.now())
    tx.execute(sa.delete(subnet).where(subnet.c.id == id))
    standard.forget_tags(tx, [id])
    standard.touch(tx, cloud, network, row.network_id)
    jobs.start(tx, network_actions.KIND, row.network_id, now=cloud.clock.now())
