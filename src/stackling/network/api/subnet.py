"""`/v2.0/subnets`, `/v2.0/subnetpools`, `/v2.0/address-scopes`"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from falcon import Request, Response

from stackling.base import rest
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest
from stackling.base.statement import Statement, among
from stackling.network.actions import subnet, subnetpool
from stackling.network.actions.subnet import NewSubnet, SubnetChanges
from stackling.network.actions.subnetpool import NewPool, NewScope, PoolChanges, ScopeChanges
from stackling.network.api import body
from stackling.network.api.resource import STANDARD, Kind, standard_view, tags_for
from stackling.network.state import subnet as subnets
from stackling.network.state.network import network

_SHOWN = (
    "network_id", "ip_version", "cidr", "gateway_ip", "enable_dhcp", "allocation_pools", "dns_nameservers", "host_routes",
    "ipv6_ra_mode", "ipv6_address_mode", "subnetpool_id", "service_types",
)  # fmt: skip
_POOL = (
    "ip_version", "prefixes", "default_quota", "shared", "is_default", "address_scope_id",
)  # fmt: skip
_POOL_LENGTHS = ("default_prefixlen", "min_prefixlen", "max_prefixlen")


def view(tx: Tx, cloud: Cloud, caller: Caller, rows: Sequence[Row]) -> list[dict[str, Any]]:
    tags = tags_for(tx, rows)
    external = {r.id: r.external for r in _OUTSIDE.all(tx, ids=list({r.network_id for r in rows}))}
    return [
        {
            **standard_view(row, tags),
            **{name: getattr(row, name) for name in _SHOWN},
            "router:external": external[row.network_id],
        }
        for row in rows
    ]


_OUTSIDE = Statement(sa.select(network.c.id, network.c.external).where(among(network.c.id, "ids")))


def pool_view(tx: Tx, cloud: Cloud, caller: Caller, rows: Sequence[Row]) -> list[dict[str, Any]]:
    tags = tags_for(tx, rows)
    return [
        {
            **standard_view(row, tags),
            **{name: getattr(row, name) for name in _POOL},
            **{name: str(getattr(row, name)) for name in _POOL_LENGTHS},  # strings, as upstream
        }
        for row in rows
    ]


def scope_view(tx: Tx, cloud: Cloud, caller: Caller, rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "id": r.id,
            "name": r.name,
            "tenant_id": r.project_id,
            "project_id": r.project_id,
            "ip_version": r.ip_version,
            "shared": r.shared,
        }
        for r in rows
    ]


KIND = Kind(
    singular="subnet",
    plural="subnets",
    paths=("subnets",),
    noun="Subnet",
    table=subnets.subnet,
    new=NewSubnet,
    changes=SubnetChanges,
    attributes=STANDARD | {*_SHOWN, "router:external"},
    find=subnet.find,
    create=subnet.create,
    update=subnet.update,
    remove=subnet.remove,
    visible=subnet.visible,
    view=view,
    conditions={
        "router:external": lambda texts: subnets.subnet.c.network_id.in_(
            sa.select(network.c.id).where(
                network.c.external.in_([rest.boolean(t, "router:external") for t in texts])
            )
        ),
        "shared": lambda texts: subnets.subnet.c.network_id.in_(
            sa.select(network.c.id).where(network.c.shared.in_([rest.boolean(t, "shared") for t in texts]))
        ),
    },
    tags="subnets",
)

POOLS = Kind(
    singular="subnetpool",
    plural="subnetpools",
    paths=("subnetpools",),
    noun="Subnet pool",
    table=subnets.subnetpool,
    new=NewPool,
    changes=PoolChanges,
    attributes=STANDARD | {*_POOL, *_POOL_LENGTHS},
    find=subnetpool.find,
    create=subnetpool.create,
    update=subnetpool.update,
    remove=subnetpool.remove,
    visible=subnetpool.visible,
    view=pool_view,
    tags="subnetpools",
)

SCOPES = Kind(
    singular="address_scope",
    plural="address_scopes",
    paths=("address-scopes", "address_scopes"),
    noun="Address scope",
    table=subnets.address_scope,
    new=NewScope,
    changes=ScopeChanges,
    attributes=frozenset({"id", "name", "tenant_id", "project_id", "ip_version", "shared"}),
    find=subnetpool.find_scope,
    create=subnetpool.create_scope,
    update=subnetpool.update_scope,
    remove=subnetpool.remove_scope,
    visible=subnetpool.visible_scopes,
    view=scope_view,
)


class Prefixes:
    """`/v2.0/subnetpools/{id}/add_prefixes` and `remove_prefixes`"""

    def __init__(self, cloud: Cloud, *, add: bool) -> None:
        self.cloud, self.add = cloud, add

    def on_put(self, req: Request, resp: Response, id: str) -> None:
        whole = rest.json_body(req)
        if not isinstance(whole, dict) or set(whole) != {"prefixes"}:
            raise BadRequest("Unable to find 'prefixes' in request body")
        texts = body.words(whole["prefixes"], "prefixes")
        with self.cloud.db.begin() as tx:
            made = subnetpool.change_prefixes(tx, self.cloud, rest.caller(req), id, texts, add=self.add)
        resp.media = {"prefixes": made}
