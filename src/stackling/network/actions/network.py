"""Networks."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET, Struct
from sqlalchemy import ColumnElement

from stackling.base import db, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.network.actions import security_group, sharing, standard
from stackling.network.actions.standard import New, Unset, given
from stackling.network.errors import (
    ExternalNetworkInUse,
    InvalidInput,
    InvalidSharedSetting,
    NetworkInUse,
    NetworkNotFound,
    VlanIdInUse,
)
from stackling.network.state import network as networks
from stackling.network.state import rbac
from stackling.network.state.floating_ip import floating_ip
from stackling.network.state.network import network
from stackling.network.state.port import ip_allocation, port
from stackling.network.state.standard import State
from stackling.network.state.subnet import subnet

KIND = "network.network"
DISTRIBUTED = "network:distributed"  # the port through which guests reach the metadata service
SELF_MADE = (DISTRIBUTED, "network:dhcp")  # ports that go with their network or subnet
GENEVE_BYTES = 58  # what Geneve in IPv4 adds to a packet
_GUARDED = {
    "shared": "shared",
    "external": "router:external",
    "is_default": "is_default",
    "network_type": "provider:network_type",
    "physical_network": "provider:physical_network",
    "segmentation_id": "provider:segmentation_id",
    "port_security_enabled": "port_security_enabled",
}


class NewNetwork(New, kw_only=True):
    admin_state_up: bool = True
    shared: bool | Unset = UNSET
    external: bool | Unset = UNSET
    is_default: bool | Unset = UNSET
    mtu: int | Unset = UNSET  # bytes; 0 is the largest that fits
    network_type: str | Unset | None = UNSET
    physical_network: str | Unset | None = UNSET
    segmentation_id: int | Unset | None = UNSET
    port_security_enabled: bool | Unset = UNSET
    dns_domain: str = ""
    availability_zone_hints: list[str] = []


class NetworkChanges(Struct, kw_only=True):
    name: str | Unset = UNSET
    description: str | Unset = UNSET
    admin_state_up: bool | Unset = UNSET
    shared: bool | Unset = UNSET
    external: bool | Unset = UNSET
    is_default: bool | Unset = UNSET
    mtu: int | Unset = UNSET
    network_type: str | Unset | None = UNSET
    physical_network: str | Unset | None = UNSET
    segmentation_id: int | Unset | None = UNSET
    port_security_enabled: bool | Unset = UNSET
    dns_domain: str | Unset = UNSET


def target(tx: Tx, caller: Caller, row: Row) -> dict[str, Any]:
    """The network as the policy sees it for this caller: also shared when it is shared with the caller's project alone."""
    ways: set[str] = set()
    if row.project_id != caller.project_id and not (row.shared and row.external):
        ways = rbac.actions_for(tx, row.id, caller.project_id)
    return standard.target(
        row.project_id,
        shared=row.shared or rbac.SHARED in ways,
        **{"router:external": row.external or rbac.EXTERNAL in ways, "network:tenant_id": row.project_id},
    )


def find(tx: Tx, caller: Caller, id: str, verb: str = "get") -> Row:
    """Raises NetworkNotFound when the caller can't see it, Forbidden when it can see it only."""
    row = networks.by_id(tx, id)
    missing = NetworkNotFound(f"Network {id} could not be found.")
    if row is None:
        raise missing
    standard.guard(caller, verb, "network", target(tx, caller, row), missing)
    return row


def visible(caller: Caller) -> ColumnElement[bool] | None:
    """The condition of a list; None: everything."""
    return None if standard.sees_all(caller, "network") else mine(caller)


def mine(caller: Caller) -> ColumnElement[bool]:
    """The networks that the caller's project owns or may use."""
    by_name = rbac.among("network", network.c.id, caller.project_id)
    return sa.or_(network.c.project_id == caller.project_id, network.c.shared, network.c.external, by_name)


def for_servers(tx: Tx, caller: Caller) -> list[Row]:
    """Networks that a server of the caller's project may be put on when none is named, in order of creation.

    The project's own; those shared with everybody only when it has none (both as upstream).
    """
    order = (network.c.created_at, network.c.id)
    own = list(
        tx.execute(
            sa.select(network)
            .where(network.c.project_id == caller.project_id, ~network.c.external)
            .order_by(*order)
        )
    )
    if own:
        return own
    by_name = rbac.shared_with("network", network.c.id, caller.project_id)
    return list(tx.execute(sa.select(network).where(sa.or_(network.c.shared, by_name)).order_by(*order)))


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewNetwork) -> Row:
    """Raises Forbidden, InvalidInput, VlanIdInUse, QuotaExceeded."""
    project_id = standard.owner(caller, want)
    whom = standard.target(project_id)
    caller.may("create_network", whom)
    standard.check_names(want, "dns_domain")
    standard.check_zones(want.availability_zone_hints)
    standard.may_set(caller, "create_network", want, _GUARDED, whom)
    standard.check_quota(tx, cloud, project_id, network=1)
    security_group.ensure_default(tx, cloud, project_id)
    return insert(tx, cloud, project_id, want)


def insert(tx: Tx, cloud: Cloud, project_id: str, want: NewNetwork, **more: Any) -> Row:
    """The network itself, without asking who wants it."""
    values = standard.fresh(cloud, project_id, want) | _provider(tx, cloud, want)
    _check_mtu(cloud, values["network_type"], want.mtu)
    if want.is_default is True:
        tx.execute(sa.update(network).where(network.c.is_default).values(is_default=False))
    values |= {
        "state": State.BUILD,
        "admin_state_up": want.admin_state_up,
        "shared": want.shared is True,
        "external": want.external is True,
        "is_default": want.is_default is True,
        "mtu": want.mtu or _most(cloud, values["network_type"])
        if want.mtu is not UNSET
        else _most(cloud, values["network_type"]),
        "port_security_enabled": want.port_security_enabled is not False,
        "dns_domain": want.dns_domain,
        "availability_zone_hints": want.availability_zone_hints,
    }
    row = standard.insert(tx, network, values | more)
    sharing.follow(tx, cloud, "network", row, {"shared": row.shared, "external": row.external})
    jobs.start(tx, KIND, row.id, now=cloud.clock.now())
    return row


def _most(cloud: Cloud, network_type: str) -> int:
    """The largest packet that a network of this type carries, bytes."""
    return cloud.config.network.mtu - (GENEVE_BYTES if network_type == "geneve" else 0)


def _check_mtu(cloud: Cloud, network_type: str, mtu: int | Unset) -> None:
    if mtu is not UNSET and mtu != 0 and not 68 <= mtu <= _most(cloud, network_type):
        raise InvalidInput(
            f"Invalid input for mtu. Reason: '{mtu}' is not from 68 to {_most(cloud, network_type)}."
        )


def _provider(tx: Tx, cloud: Cloud, want: NewNetwork) -> dict[str, Any]:
    kind = want.network_type or "geneve"
    physical = want.physical_network or None
    tag = want.segmentation_id if isinstance(want.segmentation_id, int) else None
    if kind not in ("geneve", "flat", "vlan"):
        raise InvalidInput(
            f"Invalid input for operation: provider:network_type {kind[:32]!r} is not supported: geneve, flat or vlan."
        )
    if kind == "geneve":
        if physical is not None:
            raise InvalidInput(
                "Invalid input for operation: provider:physical_network specified for geneve network."
            )
        return {"network_type": kind, "physical_network": None, "segmentation_id": tag}
    if physical is None:
        raise InvalidInput(
            f"Invalid input for operation: provider:physical_network required for {kind} network."
        )
    if physical not in {e.name for e in cloud.config.network.external}:
        raise InvalidInput(
            f"Invalid input for operation: physical_network '{physical[:64]}' unknown for {kind} provider network."
        )
    if kind == "flat" and tag is not None:
        raise InvalidInput(
            "Invalid input for operation: provider:segmentation_id specified for flat network."
        )
    if tag is not None and not 1 <= tag <= 4094:
        raise InvalidInput("Invalid input for operation: segmentation_id out of range (1 through 4094).")
    db.lock(tx, f"physical_network:{physical}")
    used = set(
        tx.execute(
            sa.select(network.c.segmentation_id).where(network.c.physical_network == physical)
        ).scalars()
    )
    if kind == "vlan" and tag is None:
        tag = next((t for t in range(1, 4095) if t not in used), None)
        if tag is None:
            raise VlanIdInUse(
                f"Unable to create the network. No VLAN is left on physical network {physical}."
            )
    if tag in used:
        what = f"The VLAN {tag}" if kind == "vlan" else "The flat network"
        raise VlanIdInUse(f"Unable to create the network. {what} on physical network {physical} is in use.")
    return {"network_type": kind, "physical_network": physical, "segmentation_id": tag}


def update(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, want: NetworkChanges, *, revision: int | None = None
) -> Row:
    """Raises NetworkNotFound, Forbidden, InvalidInput, InvalidSharedSetting, ExternalNetworkInUse."""
    row = find(tx, caller, id, "update")
    standard.check_revision(row, revision)
    standard.may_set(caller, "update_network", want, _GUARDED, target(tx, caller, row))
    for attr in ("network_type", "physical_network", "segmentation_id"):
        asked = getattr(want, attr)
        if asked is not UNSET and asked != getattr(row, attr):
            raise InvalidInput(
                f"Invalid input for operation: Plugin does not support updating provider:{attr}."
            )
    standard.check_names(want, "dns_domain")
    _check_mtu(cloud, row.network_type, want.mtu)
    if want.shared is False and row.shared:
        foreign = sa.select(port.c.id).where(
            port.c.network_id == id,
            port.c.project_id != row.project_id,
            ~port.c.device_owner.like("network:%"),
        )
        if tx.execute(foreign.limit(1)).first():
            raise InvalidSharedSetting(
                f"Unable to reconfigure sharing settings for network {id}. Multiple projects are using it."
            )
    if want.external is False and row.external and _serves_outside(tx, id):
        raise ExternalNetworkInUse(
            f"External network {id} cannot be updated to be made non-external, since it has existing gateway ports."
        )
    if want.is_default is True:
        tx.execute(sa.update(network).where(network.c.is_default).values(is_default=False))
    values = given(
        want,
        "name",
        "description",
        "admin_state_up",
        "shared",
        "external",
        "is_default",
        "mtu",
        "port_security_enabled",
        "dns_domain",
    )
    if values.get("mtu") == 0:
        values["mtu"] = _most(cloud, row.network_type)
    made = standard.change(tx, cloud, network, id, values)
    sharing.follow(tx, cloud, "network", made, given(want, "shared", "external"))
    jobs.start(tx, KIND, id, now=cloud.clock.now())
    if values.get("mtu", row.mtu) != row.mtu:
        wake_routers(tx, cloud, id)
    return made


def _serves_outside(tx: Tx, id: str) -> bool:
    if tx.execute(
        sa.select(floating_ip.c.id).where(floating_ip.c.floating_network_id == id).limit(1)
    ).first():
        return True
    legs = sa.select(port.c.id).where(
        port.c.network_id == id, port.c.device_owner == "network:router_gateway"
    )
    return tx.execute(legs.limit(1)).first() is not None


def wake_routers(tx: Tx, cloud: Cloud, network_id: str) -> None:
    """Have the routers that stand on a network described anew."""
    legs = sa.select(port.c.device_id).where(
        port.c.network_id == network_id, port.c.device_owner.like("network:router%")
    )
    for id in set(tx.execute(legs).scalars()):
        jobs.start(tx, "network.router", id, now=cloud.clock.now())


def remove(tx: Tx, cloud: Cloud, caller: Caller, id: str, *, revision: int | None = None) -> None:
    """Raises NetworkNotFound, Forbidden, NetworkInUse."""
    row = find(tx, caller, id, "delete")
    standard.check_revision(row, revision)
    tx.execute(sa.select(network.c.id).where(network.c.id == id).with_for_update())  # no port comes meanwhile
    ports = list(tx.execute(sa.select(port.c.id, port.c.device_owner).where(port.c.network_id == id)))
    idle = _idle_floating_ips(tx, id)
    held = [p.id for p in ports if p.device_owner not in SELF_MADE and p.id not in idle]
    if held:
        raise NetworkInUse(
            f"Unable to complete operation on network {id}. There are one or more ports still in use on the network, "
            f"id for these ports is: {','.join(held[:20])}."
        )
    subnets = list(tx.execute(sa.select(subnet.c.id).where(subnet.c.network_id == id)).scalars())
    now = cloud.clock.now()
    for own in idle.values():
        tx.execute(sa.delete(floating_ip).where(floating_ip.c.id == own))
        jobs.start(tx, "network.floating_ip", own, now=now)
    if ports:
        tx.execute(sa.delete(ip_allocation).where(ip_allocation.c.port_id.in_([p.id for p in ports])))
        tx.execute(sa.delete(port).where(port.c.network_id == id))
    tx.execute(sa.delete(subnet).where(subnet.c.network_id == id))
    tx.execute(sa.delete(network).where(network.c.id == id))
    sharing.forget(tx, id)
    standard.forget_tags(tx, [id, *subnets, *[p.id for p in ports], *idle.values()])
    jobs.start(tx, KIND, id, now=now)
    for p in ports:
        jobs.start(tx, "network.port", p.id, now=now)


def _idle_floating_ips(tx: Tx, id: str) -> dict[str, str]:
    """Floating IPs of the network that lead nowhere, by the port that owns their address: they go with the network."""
    query = sa.select(floating_ip.c.floating_port_id, floating_ip.c.id).where(
        floating_ip.c.floating_network_id == id, floating_ip.c.port_id.is_(None)
    )
    return {row.floating_port_id: row.id for row in tx.execute(query)}


def availability(tx: Tx, ids: Sequence[str]) -> dict[str, list[tuple[Row, int]]]:
    """Per network its subnets, each with how many addresses are used."""
    found: dict[str, list[tuple[Row, int]]] = {}
    if ids:
        used = (
            sa.select(sa.func.count())
            .select_from(ip_allocation)
            .where(ip_allocation.c.subnet_id == subnet.c.id)
            .scalar_subquery()
        )
        query = (
            sa.select(subnet, used.label("used"))
            .where(subnet.c.network_id.in_(ids))
            .order_by(subnet.c.created_at, subnet.c.id)
        )
        for row in tx.execute(query):
            found.setdefault(row.network_id, []).append((row, row.used))
    return found


__all__ = [
    "KIND",
    "NetworkChanges",
    "NewNetwork",
    "availability",
    "create",
    "find",
    "for_servers",
    "remove",
    "update",
    "visible",
]
