"""`/v2.0/routers` and what is done with them"""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from falcon import Request, Response

from stackling.base import rest
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest
from stackling.network.actions import router
from stackling.network.actions.router import Leg, NewRouter, RouterChanges
from stackling.network.actions.subnet import Route
from stackling.network.api import body
from stackling.network.api.network import ZONE
from stackling.network.api.resource import STANDARD, Kind, standard_view, tags_for
from stackling.network.state import port as ports
from stackling.network.state import router as routers
from stackling.network.state.port import port


def view(tx: Tx, cloud: Cloud, caller: Caller, rows: Sequence[Row]) -> list[dict[str, Any]]:
    tags = tags_for(tx, rows)
    outside = [r.gateway_port_id for r in rows if r.gateway_port_id]
    legs = {p.id: p for p in tx.execute(sa.select(port).where(port.c.id.in_(outside)))} if outside else {}
    addresses = ports.addresses(tx, outside)
    shown = {name for name in ("distributed", "ha") if caller.can(f"get_router:{name}")}
    made = []
    for row in rows:
        leg = legs.get(row.gateway_port_id)
        one = {
            **standard_view(row, tags),
            "admin_state_up": row.admin_state_up,
            "status": "ACTIVE",
            "external_gateway_info": _gateway(row, leg, addresses.get(leg.id, []))
            if leg is not None
            else None,
            "routes": row.routes,
            "availability_zone_hints": row.availability_zone_hints,
            "availability_zones": [ZONE],
        }
        one |= {name: getattr(row, name) for name in shown}
        made.append(one)
    return made


def _gateway(row: Row, leg: Row, addresses: Sequence[Row]) -> dict[str, Any]:
    return {
        "network_id": leg.network_id,
        "enable_snat": row.enable_snat,
        "external_fixed_ips": [{"subnet_id": a.subnet_id, "ip_address": a.ip_address} for a in addresses],
    }


KIND = Kind(
    singular="router",
    plural="routers",
    paths=("routers",),
    noun="Router",
    table=routers.router,
    new=NewRouter,
    changes=RouterChanges,
    wire={"external_gateway_info": "gateway"},
    attributes=STANDARD
    | {
        "admin_state_up", "status", "external_gateway_info", "routes", "availability_zone_hints", "availability_zones",
        "distributed", "ha",
    },
    find=router.find,
    create=router.create,
    update=router.update,
    remove=router.remove,
    visible=router.visible,
    view=view,
    conditions={"status": lambda texts: sa.true() if "ACTIVE" in texts else sa.false()},
    tags="routers",
)  # fmt: skip


class Interface:
    """`/v2.0/routers/{id}/add_router_interface` and `remove_router_interface`"""

    def __init__(self, cloud: Cloud, *, add: bool) -> None:
        self.cloud, self.act = cloud, router.add_interface if add else router.remove_interface

    def on_put(self, req: Request, resp: Response, id: str) -> None:
        whole = rest.json_body(req)
        try:
            want = msgspec.convert(whole, Leg)
        except msgspec.ValidationError as e:
            raise BadRequest(f"Invalid format: {e}") from None
        with self.cloud.db.begin() as tx:
            resp.media = self.act(tx, self.cloud, rest.caller(req), id, want)


class ExtraRoutes:
    """`/v2.0/routers/{id}/add_extraroutes` and `remove_extraroutes`"""

    def __init__(self, cloud: Cloud, *, add: bool) -> None:
        self.cloud, self.add = cloud, add

    def on_put(self, req: Request, resp: Response, id: str) -> None:
        given = body.one(req, "router")
        if set(given) != {"routes"}:
            raise BadRequest("Invalid input for router. Reason: takes 'routes' and nothing else.")
        wanted = body.struct_list(given["routes"], Route, "routes")
        caller = rest.caller(req)
        with self.cloud.db.begin() as tx:
            row = router.change_routes(tx, self.cloud, caller, id, wanted, add=self.add)
            resp.media = {"router": view(tx, self.cloud, caller, [row])[0]}
