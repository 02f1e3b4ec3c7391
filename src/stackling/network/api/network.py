"""`/v2.0/networks`, `/v2.0/network-ip-availabilities`"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from falcon import Request, Response

from stackling.base import rest
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.network.actions import address, network, standard
from stackling.network.actions.network import NetworkChanges, NewNetwork
from stackling.network.api import query
from stackling.network.api.resource import STANDARD, Kind, only, standard_view, tags_for
from stackling.network.errors import NetworkNotFound
from stackling.network.state import network as networks
from stackling.network.state import rbac
from stackling.network.state import subnet as subnets

ZONE = standard.ZONE
_PROVIDER = ("provider:network_type", "provider:physical_network", "provider:segmentation_id")


def view(tx: Tx, cloud: Cloud, caller: Caller, rows: Sequence[Row]) -> list[dict[str, Any]]:
    tags, held = tags_for(tx, rows), subnets.of_networks(tx, [r.id for r in rows])
    given_us = _given_us(tx, caller, rows)
    shown = {name for name in _PROVIDER if caller.can(f"get_network:{name}")}
    made = []
    for row in rows:
        one = {
            **standard_view(row, tags),
            "admin_state_up": row.admin_state_up,
            "status": "ACTIVE" if row.admin_state_up else "DOWN",
            "subnets": [s.id for s in held.get(row.id, [])],
            "shared": row.shared or (row.id, rbac.SHARED) in given_us,
            "router:external": row.external or (row.id, rbac.EXTERNAL) in given_us,
            "mtu": row.mtu,
            "port_security_enabled": row.port_security_enabled,
            "dns_domain": row.dns_domain,
            "availability_zone_hints": row.availability_zone_hints,
            "availability_zones": [ZONE],
            "ipv4_address_scope": None,
            "ipv6_address_scope": None,
        }
        if row.external:
            one["is_default"] = row.is_default
        values = (row.network_type, row.physical_network, row.segmentation_id)
        one |= {name: value for name, value in zip(_PROVIDER, values, strict=True) if name in shown}
        made.append(one)
    _scopes(tx, made, held)
    return made


def _given_us(tx: Tx, caller: Caller, rows: Sequence[Row]) -> set[tuple[str, str]]:
    """(network, way) of what other projects share with the caller's by name."""
    foreign = [r.id for r in rows if r.project_id != caller.project_id]
    if not foreign:
        return set()
    columns = rbac.rbac_policy.c
    found = sa.select(columns.object_id, columns.action).where(
        columns.object_id.in_(foreign), columns.target_project == (caller.project_id or "")
    )
    return {(r.object_id, r.action) for r in tx.execute(found)}


def _scopes(tx: Tx, made: list[dict[str, Any]], held: dict[str, list[Row]]) -> None:
    """The address scopes that the networks' subnets come from by their pools."""
    pools = {s.subnetpool_id for rows in held.values() for s in rows if s.subnetpool_id}
    if not pools:
        return
    query = sa.select(subnets.subnetpool.c.id, subnets.subnetpool.c.address_scope_id).where(
        subnets.subnetpool.c.id.in_(pools)
    )
    scopes = {r.id: r.address_scope_id for r in tx.execute(query)}
    for one in made:
        for row in held.get(one["id"], []):
            if scopes.get(row.subnetpool_id):
                one[f"ipv{row.ip_version}_address_scope"] = scopes[row.subnetpool_id]


KIND = Kind(
    singular="network",
    plural="networks",
    paths=("networks",),
    noun="Network",
    table=networks.network,
    new=NewNetwork,
    changes=NetworkChanges,
    wire={
        "router:external": "external",
        "provider:network_type": "network_type",
        "provider:physical_network": "physical_network",
        "provider:segmentation_id": "segmentation_id",
    },
    attributes=STANDARD
    | {
        "admin_state_up", "status", "subnets", "shared", "router:external", "mtu", "port_security_enabled", "dns_domain",
        "availability_zone_hints", "availability_zones", "ipv4_address_scope", "ipv6_address_scope", "is_default", *_PROVIDER,
    },
    find=network.find,
    create=network.create,
    update=network.update,
    remove=network.remove,
    visible=network.visible,
    view=view,
    conditions={
        "status": lambda texts: sa.or_(
            networks.network.c.admin_state_up if "ACTIVE" in texts else sa.false(),
            ~networks.network.c.admin_state_up if "DOWN" in texts else sa.false(),
        ),
    },
    tags="networks",
)  # fmt: skip


class Availabilities:
    """`/v2.0/network-ip-availabilities`"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        columns = networks.network.c
        self._filters = {
            "network_id": query.column(columns.id, "network_id"),
            "network_name": query.column(columns.name, "network_name"),
            "tenant_id": query.column(columns.project_id, "tenant_id"),
            "project_id": query.column(columns.project_id, "project_id"),
        }

    def on_get(self, req: Request, resp: Response) -> None:
        caller, want = rest.caller(req), query.asked(req)
        version = want.filters.pop("ip_version", [])
        with self.cloud.db.read() as tx:
            visible = (
                None
                if caller.can("get_network_ip_availability")
                else networks.network.c.project_id == caller.project_id
            )
            rows = query.page(tx, networks.network, want, self._filters, {}, visible, "Network")
            made = [availability(row, used, version) for row, used in _used(tx, rows)]
        resp.media = {"network_ip_availabilities": [only(m, want.fields) for m in made]}


class Availability:
    """`/v2.0/network-ip-availabilities/{id}`"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        caller = rest.caller(req)
        with self.cloud.db.read() as tx:
            row = networks.by_id(tx, id)
            if row is None or not caller.can("get_network_ip_availability", standard.target(row.project_id)):
                raise NetworkNotFound(f"Network {id} could not be found.")
            made = availability(row, network.availability(tx, [id]).get(id, []), [])
        resp.media = {"network_ip_availability": made}


def _used(tx: Tx, rows: Sequence[Row]) -> list[tuple[Row, list[tuple[Row, int]]]]:
    found = network.availability(tx, [r.id for r in rows])
    return [(r, found.get(r.id, [])) for r in rows]


def availability(row: Row, held: Sequence[tuple[Row, int]], versions: Sequence[str]) -> dict[str, Any]:
    held = [(s, n) for s, n in held if not versions or str(s.ip_version) in versions]
    each = [
        {
            "subnet_id": s.id,
            "subnet_name": s.name,
            "cidr": s.cidr,
            "ip_version": s.ip_version,
            "total_ips": address.size(s.allocation_pools),
            "used_ips": used,
        }
        for s, used in held
    ]
    return {
        "network_id": row.id,
        "network_name": row.name,
        "tenant_id": row.project_id,
        "project_id": row.project_id,
        "total_ips": sum(e["total_ips"] for e in each),
        "used_ips": sum(e["used_ips"] for e in each),
        "subnet_ip_availability": each,
    }
