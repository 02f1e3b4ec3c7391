"""Floating IPs."""

import ipaddress
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET, Struct
from sqlalchemy import ColumnElement

from stackling.base import db, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest
from stackling.network.actions import address, new_port, standard
from stackling.network.actions import network as network_actions
from stackling.network.actions import port as port_actions
from stackling.network.actions.ipam import WantedIP
from stackling.network.actions.standard import New, Unset, given
from stackling.network.errors import (
    ExternalGatewayForFloatingIPNotFound,
    FloatingIPNotFound,
    FloatingIPPortAlreadyAssociated,
    NetworkNotFound,
)
from stackling.network.state import floating_ip as floating_ips
from stackling.network.state import network as networks
from stackling.network.state import port as ports
from stackling.network.state import subnet as subnets
from stackling.network.state.floating_ip import OWNER, floating_ip
from stackling.network.state.network import network
from stackling.network.state.port import ip_allocation, port
from stackling.network.state.router import INTERFACE, router
from stackling.network.state.standard import State

KIND = "network.floating_ip"


class NewFloatingIP(New, kw_only=True):
    floating_network_id: str
    floating_ip_address: str | Unset | None = UNSET
    subnet_id: str | Unset | None = UNSET
    port_id: str | Unset | None = UNSET
    fixed_ip_address: str | Unset | None = UNSET
    dns_name: str = ""
    dns_domain: str = ""


class FloatingIPChanges(Struct, kw_only=True):
    port_id: str | Unset | None = UNSET
    fixed_ip_address: str | Unset | None = UNSET
    description: str | Unset = UNSET


def find(tx: Tx, caller: Caller, id: str, verb: str = "get") -> Row:
    """Raises FloatingIPNotFound, Forbidden."""
    row = floating_ips.by_id(tx, id)
    missing = FloatingIPNotFound(f"Floating IP {id} could not be found")
    if row is None:
        raise missing
    standard.guard(caller, verb, "floatingip", standard.target(row.project_id), missing)
    return row


def visible(caller: Caller) -> ColumnElement[bool] | None:
    if standard.sees_all(caller, "floatingip"):
        return None
    return floating_ip.c.project_id == caller.project_id


# A floating IP with the name of its network and the device behind it, as compute shows it.
_SHOWN: sa.Select[Any] = (
    sa.select(
        floating_ip.c.id,
        floating_ip.c.floating_ip_address,
        floating_ip.c.fixed_ip_address,
        floating_ip.c.port_id,
        network.c.name.label("pool"),
        port.c.device_id,
    )
    .join(network, network.c.id == floating_ip.c.floating_network_id)
    .outerjoin(port, port.c.id == floating_ip.c.port_id)
    .order_by(floating_ip.c.created_at, floating_ip.c.id)
)


def shown(tx: Tx, caller: Caller, id: str) -> Row:
    """One floating IP with the name of its network and the device behind it. Raises FloatingIPNotFound, Forbidden."""
    return tx.execute(_SHOWN.where(floating_ip.c.id == find(tx, caller, id).id)).one()


def of_project(tx: Tx, project_id: str, *, ip_address: str | None = None) -> list[Row]:
    """Those of a project, or the one that has the address."""
    query = _SHOWN.where(floating_ip.c.project_id == project_id)
    return list(
        tx.execute(
            query if ip_address is None else query.where(floating_ip.c.floating_ip_address == ip_address)
        )
    )


def pools(tx: Tx, caller: Caller) -> list[Row]:
    """The external networks that the caller can have floating IPs of; the default one first."""
    rows = tx.execute(
        sa.select(network)
        .where(network.c.external)
        .order_by(network.c.is_default.desc(), network.c.created_at, network.c.id)
    )
    return [n for n in rows if caller.can("get_network", network_actions.target(tx, caller, n))]


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewFloatingIP) -> Row:
    """Raises NetworkNotFound, Forbidden, QuotaExceeded, BadRequest, and what an association may be refused for."""
    project_id = standard.owner(caller, want)
    whom = standard.target(project_id)
    caller.may("create_floatingip", whom)
    standard.check_names(want, "dns_name", "dns_domain")
    net = networks.by_id(tx, want.floating_network_id)
    if net is None or not caller.can("get_network", network_actions.target(tx, caller, net)):
        raise NetworkNotFound(f"Network {want.floating_network_id} could not be found.")
    if not net.external:
        raise BadRequest(f"Bad floatingip request: Network {net.id} is not a valid external network.")
    if want.floating_ip_address:
        caller.may("create_floatingip:floating_ip_address", whom)
    standard.check_quota(tx, cloud, project_id, floatingip=1)
    ends: dict[str, Any] = {}
    if want.port_id:
        ends = _ends(tx, caller, project_id, net.id, str(want.port_id), want.fixed_ip_address or None, None)
    elif want.fixed_ip_address:
        raise BadRequest("Bad floatingip request: fixed_ip_address cannot be specified without a port_id.")
    wanted = WantedIP(subnet_id=want.subnet_id or None, ip_address=want.floating_ip_address or None)
    v4 = [s.id for s in subnets.of_networks(tx, [net.id]).get(net.id, []) if s.ip_version == 4]
    if not v4:
        raise BadRequest(f"Bad floatingip request: Network {net.id} does not contain any IPv4 subnet.")
    values = standard.fresh(cloud, project_id, want)
    fixed = [wanted] if wanted.ip_address or wanted.subnet_id else UNSET
    new = new_port.NewPort(network_id=net.id, device_id=values["id"], device_owner=OWNER, fixed_ips=fixed)
    own = new_port.insert(tx, cloud, None, net, "", new, only_ipv4=True)
    values |= {
        "state": State.BUILD,
        "floating_network_id": net.id,
        "floating_port_id": own.id,
        "floating_ip_address": ports.addresses(tx, [own.id])[own.id][0].ip_address,
        "dns_name": want.dns_name,
        "dns_domain": want.dns_domain,
        **ends,
    }
    row = standard.insert(tx, floating_ip, values)
    jobs.start(tx, KIND, row.id, now=cloud.clock.now())
    _tell_servers(tx, cloud, row.port_id)
    return row


def update(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, want: FloatingIPChanges, *, revision: int | None = None
) -> Row:
    """Lead it to another port, or to none. Raises FloatingIPNotFound, Forbidden, PortNotFound, ExternalGateway…NotFound, Conflict."""
    row = find(tx, caller, id, "update")
    standard.check_revision(row, revision)
    values: dict[str, Any] = given(want, "description")
    if want.port_id is not UNSET:
        if want.port_id:
            values |= _ends(
                tx,
                caller,
                row.project_id,
                row.floating_network_id,
                want.port_id,
                want.fixed_ip_address or None,
                id,
            )
        else:
            values |= {"port_id": None, "fixed_ip_address": None, "router_id": None}
    elif want.fixed_ip_address:
        if row.port_id is None:
            raise BadRequest(
                "Bad floatingip request: fixed_ip_address cannot be specified without a port_id."
            )
        values |= _ends(
            tx, caller, row.project_id, row.floating_network_id, row.port_id, want.fixed_ip_address, id
        )
    elif not values:  # upstream: an update that names no port parts it
        values |= {"port_id": None, "fixed_ip_address": None, "router_id": None}
    made = standard.change(tx, cloud, floating_ip, id, values)
    now = cloud.clock.now()
    jobs.start(tx, KIND, id, now=now)
    if made.port_id != row.port_id:
        _tell_servers(tx, cloud, row.port_id, made.port_id)
    return made


def remove(tx: Tx, cloud: Cloud, caller: Caller, id: str, *, revision: int | None = None) -> None:
    """Raises FloatingIPNotFound, Forbidden."""
    row = find(tx, caller, id, "delete")
    standard.check_revision(row, revision)
    tx.execute(sa.delete(floating_ip).where(floating_ip.c.id == id))
    own = ports.by_id(tx, row.floating_port_id)
    if own is not None:
        new_port.erase(tx, cloud, own)
    standard.forget_tags(tx, [id])
    jobs.start(tx, KIND, id, now=cloud.clock.now())
    _tell_servers(tx, cloud, row.port_id)


def _tell_servers(tx: Tx, cloud: Cloud, *port_ids: str | None) -> None:
    """A guest reads its public address from its metadata, which its server's step writes."""
    for port_id in port_ids:
        inside = ports.by_id(tx, port_id) if port_id else None
        if inside is not None and inside.device_owner.startswith("compute:"):
            jobs.wake(tx, "compute.server", inside.device_id, now=cloud.clock.now())


def _ends(
    tx: Tx,
    caller: Caller,
    project_id: str,
    network_id: str,
    port_id: str,
    fixed_ip: str | None,
    floating_ip_id: str | None,
) -> dict[str, Any]:
    """Where the floating IP leads: port, address, and the router between the two."""
    inside = port_actions.find(tx, caller, port_id)
    addresses = [
        a
        for a in ports.addresses(tx, [port_id]).get(port_id, [])
        if ipaddress.ip_address(a.ip_address).version == 4
    ]
    if fixed_ip is not None:
        wanted = str(address.address(fixed_ip, "fixed_ip_address"))
        addresses = [a for a in addresses if a.ip_address == wanted]
        if not addresses:
            raise BadRequest(f"Bad floatingip request: Port {port_id} does not have fixed ip {fixed_ip}.")
    if not addresses:
        raise BadRequest(
            f"Bad floatingip request: Cannot add floating IP to port {port_id} that has no fixed IPv4 addresses."
        )
    if len(addresses) > 1:
        raise BadRequest(
            f"Bad floatingip request: Port {port_id} has multiple fixed IPv4 addresses. Must provide a specific IPv4 address when assigning a floating IP."
        )
    one = addresses[0]
    db.lock(tx, f"port_floating_ip:{port_id}")
    same = sa.select(floating_ip.c.id).where(
        floating_ip.c.port_id == port_id,
        floating_ip.c.fixed_ip_address == one.ip_address,
        floating_ip.c.floating_network_id == network_id,
        floating_ip.c.id != (floating_ip_id or ""),
    )
    if tx.execute(same).first():
        raise FloatingIPPortAlreadyAssociated(
            f"Cannot associate floating IP with port {port_id} using fixed IP {one.ip_address}, as that fixed IP already has a floating IP on external network {network_id}."
        )
    leg, gateway = port.alias("leg"), port.alias("gateway")
    on_leg = ip_allocation.alias("on_leg")
    between = (
        sa.select(router.c.id, on_leg.c.ip_address)
        .join(leg, sa.and_(leg.c.device_id == router.c.id, leg.c.device_owner == INTERFACE))
        .join(on_leg, sa.and_(on_leg.c.port_id == leg.c.id, on_leg.c.subnet_id == one.subnet_id))
        .join(gateway, sa.and_(gateway.c.id == router.c.gateway_port_id, gateway.c.network_id == network_id))
        .where(leg.c.network_id == inside.network_id)
        .order_by(router.c.created_at, router.c.id)
    )
    for router_id in sorted({r.id for r in tx.execute(between)}):
        db.lock(tx, f"router:{router_id}")  # its legs stay where they are from here on
    found = list(tx.execute(between))
    if not found:
        raise ExternalGatewayForFloatingIPNotFound(
            f"External network {network_id} is not reachable from subnet {one.subnet_id}. Therefore, cannot associate Port {port_id} with a Floating IP."
        )
    row = subnets.by_id(tx, one.subnet_id)
    best = next((r for r in found if row is not None and r.ip_address == row.gateway_ip), found[0])
    return {"port_id": port_id, "fixed_ip_address": one.ip_address, "router_id": best.id}
