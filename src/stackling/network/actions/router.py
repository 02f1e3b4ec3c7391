"""Routers, and their legs into networks."""

import ipaddress
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
from stackling.network.actions import address, ipam, new_port, standard
from stackling.network.actions import network as network_actions
from stackling.network.actions import port as port_actions
from stackling.network.actions import subnet as subnet_actions
from stackling.network.actions.ipam import Fixed, WantedIP
from stackling.network.actions.standard import New, Unset, given
from stackling.network.actions.subnet import Route
from stackling.network.errors import (
    IpAddressAlreadyAllocated,
    NetworkNotFound,
    PortInUse,
    RouterExternalGatewayInUseByFloatingIp,
    RouterInterfaceInUseByFloatingIP,
    RouterInterfaceInUseByRoute,
    RouterInterfaceNotFound,
    RouterInterfaceNotFoundForSubnet,
    RouterInUse,
    RouterNotFound,
    RoutesExhausted,
    SubnetNotFound,
)
from stackling.network.state import network as networks
from stackling.network.state import port as ports
from stackling.network.state import router as routers
from stackling.network.state import subnet as subnets
from stackling.network.state.floating_ip import floating_ip
from stackling.network.state.port import ip_allocation, port, port_security_group
from stackling.network.state.router import GATEWAY, INTERFACE, router
from stackling.network.state.standard import State
from stackling.network.state.subnet import subnet

KIND = "network.router"
_MOST_ROUTES = 30  # upstream's default


class Gateway(Struct, forbid_unknown_fields=True, kw_only=True):
    """`external_gateway_info`."""

    network_id: str | Unset | None = UNSET
    enable_snat: bool | Unset = UNSET
    external_fixed_ips: list[WantedIP] | Unset | None = UNSET
    qos_policy_id: None = None


class NewRouter(New, kw_only=True):
    admin_state_up: bool = True
    gateway: Gateway | Unset | None = UNSET
    distributed: bool | Unset | None = UNSET
    ha: bool | Unset | None = UNSET
    availability_zone_hints: list[str] = []


class RouterChanges(Struct, kw_only=True):
    name: str | Unset = UNSET
    description: str | Unset = UNSET
    admin_state_up: bool | Unset = UNSET
    gateway: Gateway | Unset | None = UNSET
    distributed: bool | Unset = UNSET
    ha: bool | Unset = UNSET
    routes: list[Route] | Unset | None = UNSET


class Leg(Struct, kw_only=True):
    """What add and remove_router_interface are asked with: one of the two, to remove also both."""

    subnet_id: str | None = None
    port_id: str | None = None


def find(tx: Tx, caller: Caller, id: str, verb: str = "get") -> Row:
    """Raises RouterNotFound, Forbidden."""
    row = routers.by_id(tx, id)
    missing = RouterNotFound(f"Router {id} could not be found")
    if row is None:
        raise missing
    standard.guard(caller, verb, "router", standard.target(row.project_id), missing)
    return row


def visible(caller: Caller) -> ColumnElement[bool] | None:
    if standard.sees_all(caller, "router"):
        return None
    return router.c.project_id == caller.project_id


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewRouter) -> Row:
    """Raises Forbidden, QuotaExceeded, and what the gateway may be refused for."""
    project_id = standard.owner(caller, want)
    whom = standard.target(project_id)
    caller.may("create_router", whom)
    standard.check_zones(want.availability_zone_hints)
    standard.may_set(caller, "create_router", want, {"distributed": "distributed", "ha": "ha"}, whom)
    standard.check_quota(tx, cloud, project_id, router=1)
    values = standard.fresh(cloud, project_id, want) | {
        "state": State.BUILD,
        "admin_state_up": want.admin_state_up,
        "distributed": want.distributed is True,
        "ha": want.ha is not False,
        "availability_zone_hints": want.availability_zone_hints,
    }
    row = standard.insert(tx, router, values)
    if isinstance(want.gateway, Gateway):
        row = _set_gateway(tx, cloud, caller, row, want.gateway, "create_router")
    jobs.start(tx, KIND, row.id, now=cloud.clock.now())
    return row


def update(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, want: RouterChanges, *, revision: int | None = None
) -> Row:
    """Raises RouterNotFound, Forbidden, and what gateway and routes may be refused for."""
    row = find(tx, caller, id, "update")
    standard.check_revision(row, revision)
    standard.may_set(
        caller,
        "update_router",
        want,
        {"distributed": "distributed", "ha": "ha"},
        standard.target(row.project_id),
    )
    db.lock(tx, f"router:{id}")
    if want.gateway is not UNSET:
        row = _set_gateway(tx, cloud, caller, row, want.gateway, "update_router")
    values = given(want, "name", "description", "admin_state_up", "distributed", "ha")
    if want.routes is not UNSET:
        values["routes"] = _checked_routes(tx, row, want.routes or [])
    made = standard.change(tx, cloud, router, id, values)
    jobs.start(tx, KIND, id, now=cloud.clock.now())
    if made.distributed != row.distributed:
        for leads in tx.execute(sa.select(floating_ip.c.id).where(floating_ip.c.router_id == id)).scalars():
            jobs.start(tx, "network.floating_ip", leads, now=cloud.clock.now())
    return made


def remove(tx: Tx, cloud: Cloud, caller: Caller, id: str, *, revision: int | None = None) -> None:
    """Raises RouterNotFound, Forbidden, RouterInUse while it has interfaces."""
    row = find(tx, caller, id, "delete")
    standard.check_revision(row, revision)
    db.lock(tx, f"router:{id}")
    if tx.execute(
        sa.select(port.c.id).where(port.c.device_id == id, port.c.device_owner == INTERFACE).limit(1)
    ).first():
        raise RouterInUse(f"Router {id} still has ports")
    if row.gateway_port_id:
        _drop_gateway(tx, cloud, row)
    tx.execute(sa.delete(router).where(router.c.id == id))
    standard.forget_tags(tx, [id])
    jobs.start(tx, KIND, id, now=cloud.clock.now())


# -- the gateway -------------------------------------------------------------------------------------------------------


def _set_gateway(tx: Tx, cloud: Cloud, caller: Caller, row: Row, want: Gateway | None, rule: str) -> Row:
    whom = standard.target(row.project_id)
    caller.may(f"{rule}:external_gateway_info", whom)
    if (
        want is None
        or want.network_id is None
        or (want.network_id is UNSET and want.external_fixed_ips is UNSET and want.enable_snat is UNSET)
    ):
        if row.gateway_port_id:
            _drop_gateway(tx, cloud, row)
        return standard.change(tx, cloud, router, row.id, {"gateway_port_id": None, "enable_snat": True})
    if want.enable_snat is not UNSET:
        caller.may(f"{rule}:external_gateway_info:enable_snat", whom)
    if want.external_fixed_ips is not UNSET and want.external_fixed_ips:
        caller.may(f"{rule}:external_gateway_info:external_fixed_ips", whom)
    now_at = ports.by_id(tx, row.gateway_port_id) if row.gateway_port_id else None
    network_id = (
        want.network_id if isinstance(want.network_id, str) else now_at.network_id if now_at else None
    )
    if network_id is None:
        raise BadRequest("Bad router request: external_gateway_info needs a network_id.")
    net = networks.by_id(tx, network_id)
    if net is None or not caller.can("get_network", network_actions.target(tx, caller, net)):
        raise NetworkNotFound(f"Network {network_id} could not be found.")
    if not net.external:
        raise BadRequest(f"Bad router request: Network {network_id} is not an external network.")
    values: dict[str, Any] = {} if want.enable_snat is UNSET else {"enable_snat": want.enable_snat}
    wanted = (
        want.external_fixed_ips
        if isinstance(want.external_fixed_ips, list) and want.external_fixed_ips
        else UNSET
    )
    if now_at is not None and now_at.network_id != network_id:
        _drop_gateway(tx, cloud, row)
        now_at = None
    if now_at is None:
        _check_overlap_outside(tx, row, network_id)
        new = new_port.NewPort(
            network_id=network_id, device_id=row.id, device_owner=GATEWAY, fixed_ips=wanted
        )
        made = new_port.insert(tx, cloud, caller, net, "", new)
        values["gateway_port_id"] = made.id
    elif wanted is not UNSET:
        port_actions.readdress(tx, cloud, now_at, now_at.mac_address, GATEWAY, wanted)
        new_port.described_anew(tx, cloud, now_at)
    if "enable_snat" not in values and not row.gateway_port_id:
        values["enable_snat"] = True
    return standard.change(tx, cloud, router, row.id, values)


def _check_overlap_outside(tx: Tx, row: Row, network_id: str) -> None:
    outside = subnets.of_networks(tx, [network_id]).get(network_id, [])
    for inside in _inner_subnets(tx, row.id):
        _check_overlap(inside, outside, row.id)


def _drop_gateway(tx: Tx, cloud: Cloud, row: Row) -> None:
    """Raises RouterExternalGatewayInUseByFloatingIp."""
    leads = sa.select(floating_ip.c.id).where(floating_ip.c.router_id == row.id)
    if tx.execute(leads.limit(1)).first():
        raise RouterExternalGatewayInUseByFloatingIp(
            f"Gateway cannot be updated for router {row.id}, since a gateway to external network is required by one or more floating IPs."
        )
    tx.execute(sa.update(router).where(router.c.id == row.id).values(gateway_port_id=None))
    leg = ports.by_id(tx, row.gateway_port_id)
    if leg is not None:
        new_port.erase(tx, cloud, leg)


# -- interfaces --------------------------------------------------------------------------------------------------------


def _inner_subnets(tx: Tx, router_id: str) -> list[Row]:
    query = (
        sa.select(subnet)
        .join(ip_allocation, ip_allocation.c.subnet_id == subnet.c.id)
        .join(port, port.c.id == ip_allocation.c.port_id)
        .where(port.c.device_id == router_id, port.c.device_owner == INTERFACE)
    )
    return list(tx.execute(query))


def _check_overlap(new: Row, present: Sequence[Row], router_id: str) -> None:
    net = address.prefix(new.cidr, "cidr")
    for other in present:
        if other.id == new.id:
            raise BadRequest(f"Bad router request: Router already has a port on subnet {new.id}.")
        if net.overlaps(address.prefix(other.cidr, "cidr")):
            raise BadRequest(
                f"Bad router request: Cidr {new.cidr} of subnet {new.id} overlaps with cidr {other.cidr} of subnet {other.id}."
            )


def _guard_leg(tx: Tx, caller: Caller, id: str, rule: str) -> Row:
    row = find(tx, caller, id)
    caller.may(rule, standard.target(row.project_id))
    db.lock(tx, f"router:{id}")
    return row


def add_interface(tx: Tx, cloud: Cloud, caller: Caller, id: str, want: Leg) -> dict[str, Any]:
    """Returns what the call answers. Raises RouterNotFound, SubnetNotFound, PortNotFound, PortInUse, BadRequest."""
    row = _guard_leg(tx, caller, id, "add_router_interface")
    if (want.subnet_id is None) == (want.port_id is None):
        raise BadRequest("Bad router request: Either subnet_id or port_id must be specified, and not both.")
    present = [*_inner_subnets(tx, id), *_outer_subnets(tx, row)]
    leg, added = (
        _leg_by_port(tx, cloud, caller, row, want.port_id, present)
        if want.port_id
        else _leg_by_subnet(tx, cloud, caller, row, str(want.subnet_id), present)
    )
    standard.touch(tx, cloud, router, id)
    jobs.start(tx, KIND, id, now=cloud.clock.now())
    return _answer(row, leg, added)


def _outer_subnets(tx: Tx, row: Row) -> list[Row]:
    leg = ports.by_id(tx, row.gateway_port_id) if row.gateway_port_id else None
    return subnets.of_networks(tx, [leg.network_id]).get(leg.network_id, []) if leg is not None else []


def _leg_by_port(
    tx: Tx, cloud: Cloud, caller: Caller, row: Row, port_id: str, present: Sequence[Row]
) -> tuple[Row, list[str]]:
    leg = port_actions.find(tx, caller, port_id)
    if leg.device_id:
        raise PortInUse(
            f"Unable to complete operation on port {port_id} for network {leg.network_id}. Port already has an attached device {leg.device_id}."
        )
    addresses = ports.addresses(tx, [port_id]).get(port_id, [])
    if not addresses:
        raise BadRequest("Bad router request: Router port must have at least one fixed IP.")
    stand = [s for a in addresses if (s := subnets.by_id(tx, a.subnet_id)) is not None]
    if sum(s.ip_version == 4 for s in stand) > 1:
        raise BadRequest("Bad router request: Cannot have multiple IPv4 subnets on router port.")
    for one in stand:
        _check_overlap(one, present, row.id)
    tx.execute(sa.delete(port_security_group).where(port_security_group.c.port_id == port_id))
    leg = standard.change(
        tx, cloud, port, port_id,
        {"device_id": row.id, "device_owner": INTERFACE, "port_security_enabled": False, "allowed_address_pairs": []},
    )  # fmt: skip
    new_port.described_anew(tx, cloud, leg)
    return leg, [a.subnet_id for a in addresses]


def _leg_by_subnet(
    tx: Tx, cloud: Cloud, caller: Caller, row: Row, subnet_id: str, present: Sequence[Row]
) -> tuple[Row, list[str]]:
    inside = subnet_actions.find(tx, caller, subnet_id)
    if not inside.gateway_ip:
        raise BadRequest("Bad router request: Subnet for router interface must have a gateway IP.")
    net = networks.by_id(tx, inside.network_id)
    assert net is not None
    if (
        net.project_id != row.project_id
        and not caller.is_admin
        and not network_actions.target(tx, caller, net)["shared"]
    ):
        raise SubnetNotFound(f"Subnet {subnet_id} could not be found.")
    _check_overlap(inside, present, row.id)
    taken = sa.select(ip_allocation.c.port_id).where(
        ip_allocation.c.subnet_id == subnet_id, ip_allocation.c.ip_address == inside.gateway_ip
    )
    if tx.execute(taken).first():
        raise IpAddressAlreadyAllocated(
            f"IP address {inside.gateway_ip} already allocated in subnet {subnet_id}"
        )
    if inside.ip_version == 6:  # further IPv6 prefixes of a network share the router's port there
        for leg in tx.execute(
            sa.select(port).where(
                port.c.device_id == row.id, port.c.device_owner == INTERFACE, port.c.network_id == net.id
            )
        ):
            addresses = ports.addresses(tx, [leg.id]).get(leg.id, [])
            if all(ipaddress.ip_address(a.ip_address).version == 6 for a in addresses):
                ipam.add(tx, leg.id, [Fixed(subnet_id, inside.gateway_ip)], position=len(addresses))
                new_port.described_anew(tx, cloud, leg)
                return leg, [subnet_id]
    want = new_port.NewPort(network_id=net.id, device_id=row.id, device_owner=INTERFACE)
    leg = new_port.insert(
        tx, cloud, caller, net, row.project_id, want, fixed=[Fixed(subnet_id, inside.gateway_ip)]
    )
    return leg, [subnet_id]


def _answer(row: Row, leg: Row, subnet_ids: Sequence[str]) -> dict[str, Any]:
    return {
        "id": row.id,
        "tenant_id": row.project_id,
        "project_id": row.project_id,
        "port_id": leg.id,
        "network_id": leg.network_id,
        "subnet_id": subnet_ids[0] if subnet_ids else None,
        "subnet_ids": list(subnet_ids),
    }


def remove_interface(tx: Tx, cloud: Cloud, caller: Caller, id: str, want: Leg) -> dict[str, Any]:
    """Returns what the call answers. Raises RouterInterfaceNotFound, RouterInterfaceInUseByFloatingIP, …ByRoute, BadRequest."""
    row = _guard_leg(tx, caller, id, "remove_router_interface")
    if want.subnet_id is None and want.port_id is None:
        raise BadRequest("Bad router request: Either subnet_id or port_id must be specified.")
    legs = [p for p in ports.of_device(tx, id) if p.device_owner == INTERFACE]
    held = ports.addresses(tx, [p.id for p in legs])
    if want.port_id is not None:
        leg = next((p for p in legs if p.id == want.port_id), None)
        if leg is None:
            raise RouterInterfaceNotFound(f"Router {id} does not have an interface with id {want.port_id}")
        subnet_ids = [a.subnet_id for a in held.get(leg.id, [])]
        if want.subnet_id is not None and want.subnet_id not in subnet_ids:
            raise BadRequest(f"Bad router request: Subnet {want.subnet_id} is not on port {want.port_id}.")
    else:
        leg = next((p for p in legs if want.subnet_id in {a.subnet_id for a in held.get(p.id, [])}), None)
        if leg is None:
            raise RouterInterfaceNotFoundForSubnet(f"Router {id} has no interface on subnet {want.subnet_id}")
        subnet_ids = [str(want.subnet_id)]
    for subnet_id in subnet_ids:
        _check_unused(tx, row, leg, subnet_id)
    if want.port_id is None and len(held.get(leg.id, [])) > 1:
        tx.execute(
            sa.delete(ip_allocation).where(
                ip_allocation.c.port_id == leg.id, ip_allocation.c.subnet_id == want.subnet_id
            )
        )
        new_port.described_anew(tx, cloud, leg)
    else:
        new_port.erase(tx, cloud, leg)
    standard.touch(tx, cloud, router, id)
    jobs.start(tx, KIND, id, now=cloud.clock.now())
    return _answer(row, leg, subnet_ids)


def _check_unused(tx: Tx, row: Row, leg: Row, subnet_id: str) -> None:
    through = (
        sa.select(floating_ip.c.id)
        .join(
            ip_allocation,
            sa.and_(
                ip_allocation.c.port_id == floating_ip.c.port_id,
                ip_allocation.c.ip_address == floating_ip.c.fixed_ip_address,
            ),
        )
        .where(floating_ip.c.router_id == row.id, ip_allocation.c.subnet_id == subnet_id)
    )
    if tx.execute(through.limit(1)).first():
        raise RouterInterfaceInUseByFloatingIP(
            f"Router interface for subnet {subnet_id} on router {row.id} cannot be deleted, as it is required by one or more floating IPs."
        )
    inside = subnets.by_id(tx, subnet_id)
    if inside is not None:
        net = address.prefix(inside.cidr, "cidr")
        if any(ipaddress.ip_address(r["nexthop"]) in net for r in row.routes):
            raise RouterInterfaceInUseByRoute(
                f"Router interface for subnet {subnet_id} on router {row.id} cannot be deleted, as it is required by one or more routes."
            )


# -- extra routes ------------------------------------------------------------------------------------------------------


def _checked_routes(tx: Tx, row: Row, wanted: Sequence[Route]) -> list[dict[str, str]]:
    if len(wanted) > _MOST_ROUTES:
        raise RoutesExhausted(
            f"Unable to complete operation for {row.id}. The number of routes exceeds the maximum {_MOST_ROUTES}."
        )
    made = subnet_actions.routes(wanted, "routes", most=_MOST_ROUTES)
    near = [address.prefix(s.cidr, "cidr") for s in [*_inner_subnets(tx, row.id), *_outer_subnets(tx, row)]]
    own = {
        a.ip_address
        for held in ports.addresses(tx, [p.id for p in ports.of_device(tx, row.id)]).values()
        for a in held
    }
    for route in made:
        hop = ipaddress.ip_address(route["nexthop"])
        if not any(hop in net for net in near):
            raise BadRequest(f"Invalid format for routes: {route}, the nexthop is not connected with router")
        if route["nexthop"] in own:
            raise BadRequest(f"Invalid format for routes: {route}, the nexthop is used by router")
    return made


def change_routes(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, wanted: Sequence[Route], *, add: bool
) -> Row:
    """Add routes to those there are, or take some away; both are fine with what is so already."""
    row = find(tx, caller, id)
    caller.may("add_extraroutes" if add else "remove_extraroutes", standard.target(row.project_id))
    db.lock(tx, f"router:{id}")
    row = find(tx, caller, id)
    named = subnet_actions.routes(wanted, "routes", most=_MOST_ROUTES)
    left = [r for r in row.routes if r not in named]
    if add:
        _checked_routes(tx, row, wanted)
        left = [*row.routes, *[r for r in named if r not in row.routes]]
        if len(left) > _MOST_ROUTES:
            raise RoutesExhausted(
                f"Unable to complete operation for {id}. The number of routes exceeds the maximum {_MOST_ROUTES}."
            )
    made = standard.change(tx, cloud, router, id, {"routes": left})
    jobs.start(tx, KIND, id, now=cloud.clock.now())
    return made
