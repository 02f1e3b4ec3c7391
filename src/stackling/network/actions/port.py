"""Ports as users have them. What compute does with the ports of its servers stands in `server_port`."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET, Struct
from sqlalchemy import ColumnElement

from stackling.base import jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import Forbidden
from stackling.network.actions import address, ipam, security_group, standard
from stackling.network.actions import network as network_actions
from stackling.network.actions.ipam import Fixed, WantedIP
from stackling.network.actions.new_port import (
    KIND,
    DHCPOption,
    NewPort,
    Pair,
    address_pairs,
    checked_vnic_type,
    described_anew,
    dhcp_options,
    erase,
    insert,
    join,
    let_go,
    make_mac,
    port_groups,
)
from stackling.network.actions.plug import Face, Plug, faces, plugs, plugs_of
from stackling.network.actions.server_port import bind, create_for_server, release, take_for_server
from stackling.network.actions.standard import Unset, given
from stackling.network.errors import (
    AddressPairAndPortSecurityRequired,
    PortNotFound,
    PortSecurityPortHasSecurityGroup,
    ServicePortInUse,
)
from stackling.network.state import network as networks
from stackling.network.state import port as ports
from stackling.network.state import subnet as subnets
from stackling.network.state.floating_ip import floating_ip
from stackling.network.state.network import network
from stackling.network.state.port import ip_allocation, port, port_security_group

_ROUTED = ("network:router_interface", "network:router_gateway", "network:floatingip")


class PortChanges(Struct, kw_only=True):
    name: str | Unset = UNSET
    description: str | Unset = UNSET
    mac_address: str | Unset | None = UNSET
    fixed_ips: list[WantedIP] | Unset | None = UNSET
    admin_state_up: bool | Unset = UNSET
    device_id: str | Unset = UNSET
    device_owner: str | Unset = UNSET
    security_groups: list[str] | Unset | None = UNSET
    port_security_enabled: bool | Unset = UNSET
    allowed_address_pairs: list[Pair] | Unset | None = UNSET
    extra_dhcp_opts: list[DHCPOption] | Unset | None = UNSET
    host: str | Unset | None = UNSET
    vnic_type: str | Unset | None = UNSET
    profile: dict[str, Any] | Unset | None = UNSET
    dns_name: str | Unset = UNSET
    dns_domain: str | Unset = UNSET


_GUARDED = {
    "mac_address": "mac_address",
    "device_owner": "device_owner",
    "port_security_enabled": "port_security_enabled",
    "allowed_address_pairs": "allowed_address_pairs",
    "host": "binding:host_id",
    "profile": "binding:profile",
    "vnic_type": "binding:vnic_type",
}


def target(row: Row, net: Row | None) -> dict[str, Any]:
    """The port as the policy sees it."""
    return standard.target(row.project_id, device_owner=row.device_owner, **_of_network(net))


def _of_network(net: Row | None) -> dict[str, Any]:
    if net is None:
        return {}
    return {"network:tenant_id": net.project_id, "shared": net.shared, "router:external": net.external}


def find(tx: Tx, caller: Caller, id: str, verb: str = "get") -> Row:
    """Raises PortNotFound, Forbidden."""
    row = ports.by_id(tx, id)
    missing = PortNotFound(f"Port {id} could not be found.")
    if row is None:
        raise missing
    standard.guard(caller, verb, "port", target(row, networks.by_id(tx, row.network_id)), missing)
    return row


def visible(caller: Caller) -> ColumnElement[bool] | None:
    """A project sees its own ports, and all on networks that it owns."""
    if standard.sees_all(caller, "port"):
        return None
    own = sa.select(network.c.id).where(network.c.project_id == caller.project_id)
    return sa.or_(port.c.project_id == caller.project_id, port.c.network_id.in_(own))


# -- create ------------------------------------------------------------------------------------------------------------


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewPort) -> Row:
    """Raises NetworkNotFound, Forbidden, QuotaExceeded, and what addresses, MACs and security groups may be refused for."""
    project_id = standard.owner(caller, want)
    net = network_actions.find(tx, caller, want.network_id)
    owner = "" if want.device_owner is UNSET else want.device_owner
    whom = {**network_actions.target(tx, caller, net), **standard.target(project_id, device_owner=owner)}
    caller.may("create_port", whom)
    standard.check_names(want, "dns_name", "dns_domain")
    if net.external and not whom["shared"] and net.project_id != project_id and not caller.is_admin:
        raise Forbidden(f"Policy doesn't allow create_port on external network {net.id} to be performed.")
    if not (owner.startswith("compute:") or owner == ""):
        standard.may_set(caller, "create_port", want, {"device_owner": "device_owner"}, whom)
    _may_set(caller, "create_port", want, whom)
    standard.check_quota(tx, cloud, project_id, port=1)
    return insert(tx, cloud, caller, net, project_id, want)


def _may_set(caller: Caller, rule: str, want: NewPort | PortChanges, whom: dict[str, Any]) -> None:
    names = {a: n for a, n in _GUARDED.items() if a != "device_owner"}
    for attr in ("mac_address", "host", "profile", "vnic_type", "allowed_address_pairs"):
        if not getattr(want, attr):
            names.pop(attr)  # null and empty are what a port has anyway
    standard.may_set(caller, rule, want, names, whom)
    if isinstance(want.fixed_ips, list) and want.fixed_ips:
        caller.may(f"{rule}:fixed_ips", whom)
        if any(f.ip_address for f in want.fixed_ips):
            caller.may(f"{rule}:fixed_ips:ip_address", whom)


# -- update and remove -------------------------------------------------------------------------------------------------


def update(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, want: PortChanges, *, revision: int | None = None
) -> Row:
    """Raises PortNotFound, Forbidden, and what `create` raises."""
    row = find(tx, caller, id, "update")
    standard.check_revision(row, revision)
    net = networks.by_id(tx, row.network_id)
    assert net is not None
    standard.check_names(want, "dns_name", "dns_domain")
    whom = target(row, net)
    owner = row.device_owner if want.device_owner is UNSET else want.device_owner
    if owner != row.device_owner and owner.startswith("network:"):
        standard.may_set(
            caller, "update_port", want, {"device_owner": "device_owner"}, {**whom, "device_owner": owner}
        )
    _may_set(caller, "update_port", want, whom)
    values = given(
        want, "name", "description", "admin_state_up", "device_id", "device_owner", "dns_name", "dns_domain"
    )
    values |= _security(tx, cloud, caller, row, want)
    if want.mac_address is not UNSET and want.mac_address != row.mac_address:
        if row.up:
            raise ServicePortInUse(f"Unable to change the MAC address of port {id}: it is bound and in use.")
        values["mac_address"] = make_mac(tx, row.network_id, want.mac_address)
    if want.extra_dhcp_opts is not UNSET:
        values["extra_dhcp_opts"] = dhcp_options(row.extra_dhcp_opts, want.extra_dhcp_opts or [])
    if want.host is not UNSET:
        values["host"] = want.host or None
    if want.vnic_type is not UNSET and want.vnic_type:
        values["vnic_type"] = checked_vnic_type(want.vnic_type)
    if want.profile is not UNSET:
        values["profile"] = want.profile or {}
    if want.fixed_ips is not UNSET:
        readdress(tx, cloud, row, values.get("mac_address", row.mac_address), owner, want.fixed_ips or [])
    made = standard.change(tx, cloud, port, id, values)
    described_anew(tx, cloud, made)
    return made


def _security(tx: Tx, cloud: Cloud, caller: Caller, row: Row, want: PortChanges) -> dict[str, Any]:
    secured = row.port_security_enabled if want.port_security_enabled is UNSET else want.port_security_enabled
    have = ports.groups(tx, [row.id]).get(row.id, [])
    if want.security_groups is not UNSET:
        groups = port_groups(
            tx, cloud, caller, row.project_id, want.security_groups or [], secured, row.device_owner
        )
        if groups != have:
            tx.execute(sa.delete(port_security_group).where(port_security_group.c.port_id == row.id))
            join(tx, row.id, groups)
    elif have and not secured:
        raise PortSecurityPortHasSecurityGroup(
            "Port has security group associated. Cannot disable port security or IP address until security group is removed."
        )
    elif (
        secured and not row.port_security_enabled and not have and not row.device_owner.startswith("network:")
    ):
        join(tx, row.id, [security_group.ensure_default(tx, cloud, row.project_id)])
    pairs = row.allowed_address_pairs
    if want.allowed_address_pairs is not UNSET:
        pairs = address_pairs(want.allowed_address_pairs, secured)
    elif pairs and not secured:
        raise AddressPairAndPortSecurityRequired(
            "Port Security must be enabled in order to have allowed address pairs on a port."
        )
    return {"port_security_enabled": secured, "allowed_address_pairs": pairs}


def readdress(tx: Tx, cloud: Cloud, row: Row, mac: str, owner: str, wanted: Sequence[WantedIP]) -> None:
    """Give the port the addresses that it asks for; those that it has and asks for again stay."""
    have = [Fixed(a.subnet_id, a.ip_address) for a in ports.addresses(tx, [row.id]).get(row.id, [])]
    left, kept, asked = list(have), [], []
    for want in wanted:
        ip = str(address.address(want.ip_address, "fixed_ips")) if want.ip_address else None
        fits = (
            next((f for f in left if f.ip_address == ip and want.subnet_id in (None, f.subnet_id)), None)
            if ip
            else None
        )
        if fits is None and ip is None:
            named = {w.ip_address for w in wanted if w.ip_address}
            fits = next(
                (f for f in left if f.subnet_id == want.subnet_id and f.ip_address not in named), None
            )
        if fits is not None:
            left.remove(fits)
            kept.append(fits)
        else:
            asked.append(want)
    rows = subnets.of_networks(tx, [row.network_id]).get(row.network_id, [])
    if left:
        gone = [f.ip_address for f in left]
        leads = sa.select(floating_ip.c.id).where(
            floating_ip.c.port_id == row.id, floating_ip.c.fixed_ip_address.in_(gone)
        )
        for id in list(tx.execute(leads).scalars()):
            let_go(tx, cloud, id)
        tx.execute(
            sa.delete(ip_allocation).where(
                ip_allocation.c.port_id == row.id, ip_allocation.c.ip_address.in_(gone)
            )
        )
    chosen = (
        ipam.choose(
            tx,
            row.network_id,
            [s for s in rows if not (ipam.is_auto(s) and s.id in {k.subnet_id for k in kept})]
            if asked
            else rows,
            mac,
            owner,
            asked,
        )
        if asked
        else []
    )
    ipam.keep(tx, row.id, [*kept, *chosen])


def remove(tx: Tx, cloud: Cloud, caller: Caller, id: str, *, revision: int | None = None) -> None:
    """Raises PortNotFound, Forbidden, ServicePortInUse for a port that belongs to a router or floating IP."""
    row = find(tx, caller, id, "delete")
    standard.check_revision(row, revision)
    if row.device_owner in _ROUTED and row.device_id:
        raise ServicePortInUse(
            f"Port {id} cannot be deleted directly via the port API: has device owner {row.device_owner}."
        )
    erase(tx, cloud, row)


# -- what the fabric says ----------------------------------------------------------------------------------------------


def seen(tx: Tx, cloud: Cloud, port_id: str, up: bool) -> bool:
    """The fabric says whether the port is up: keep it and wake its server. False: nothing new."""
    changed = tx.execute(
        sa.update(port)
        .where(port.c.id == port_id, port.c.up != up)
        .values(up=up, updated_at=cloud.clock.now())
        .returning(port.c.device_id)
    ).first()
    if changed is None:
        return False
    if changed.device_id:
        jobs.wake(tx, "compute.server", changed.device_id, now=cloud.clock.now())
    return True


__all__ = [
    "KIND", "Face", "Plug", "bind", "create", "create_for_server", "faces", "find", "insert", "plugs", "plugs_of", "release", "remove",
    "seen", "take_for_server", "update", "visible",
]  # fmt: skip
