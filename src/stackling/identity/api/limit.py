"""/v3/registered_limits and /v3/limits"""

from typing import Annotated, Any

import msgspec
from falcon import Request, Response
from msgspec import UNSET, Meta, UnsetType

from stackling.base import rest
from stackling.base.db import Row
from stackling.base.errors import BadRequest
from stackling.identity.actions import limit as actions
from stackling.identity.api.catalog import RegionId
from stackling.identity.api.resource import Id, Name, Resource, empty, filtered, given
from stackling.identity.state.limit import limit, registered_limit

Amount = Annotated[int, Meta(ge=-1, le=2**31 - 1)]


class _Strict(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    pass


class Register(_Strict):
    service_id: Id
    resource_name: Name
    default_limit: Amount
    region_id: RegionId | None = None
    description: str | None = None


class UpdateRegistered(_Strict):
    service_id: Id | UnsetType = UNSET
    resource_name: Name | UnsetType = UNSET
    default_limit: Amount | UnsetType = UNSET
    region_id: RegionId | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET


class Create(_Strict):
    service_id: Id
    resource_name: Name
    resource_limit: Amount
    region_id: RegionId | None = None
    project_id: Id | None = None
    domain_id: Id | None = None
    description: str | None = None


class Update(_Strict):
    resource_limit: Amount | UnsetType = UNSET
    description: str | UnsetType | None = UNSET


def some(wants: list[Any], name: str) -> None:
    if not wants:
        raise BadRequest(f"Invalid input for field/attribute {name}: [] is too short")


class _Registered(Resource):
    def shown(self, req: Request, row: Row) -> dict[str, Any]:
        made = {
            "id": row.id,
            "service_id": row.service_id,
            "region_id": row.region_id,
            "resource_name": row.resource_name,
            "default_limit": row.default_limit,
            "description": row.description,
        }
        return self.linked(req, f"/registered_limits/{row.id}", made)


class RegisteredLimits(_Registered):
    """/v3/registered_limits"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            query = actions.registered_listing(rest.caller(req))
            query = filtered(req, query, registered_limit, "service_id", "region_id", "resource_name")
            rows = tx.execute(query.order_by(registered_limit.c.id)).all()
        resp.media = self.listed(req, "registered_limits", [self.shown(req, r) for r in rows])

    def on_post(self, req: Request, resp: Response) -> None:
        wants = rest.convert(rest.json_body(req), list[Register], key="registered_limits")
        some(wants, "registered_limits")
        new = [actions.NewRegistered(**msgspec.structs.asdict(w)) for w in wants]
        with self.db.begin() as tx:
            rows = actions.register(tx, rest.caller(req), new)
        resp.status, resp.media = "201 Created", {"registered_limits": [self.shown(req, r) for r in rows]}


class RegisteredLimit(_Registered):
    """/v3/registered_limits/{registered_limit_id}"""

    def on_get(self, req: Request, resp: Response, registered_limit_id: str) -> None:
        with self.db.read() as tx:
            row = actions.registered(tx, rest.caller(req), registered_limit_id)
        resp.media = {"registered_limit": self.shown(req, row)}

    def on_patch(self, req: Request, resp: Response, registered_limit_id: str) -> None:
        change = given(rest.body(req, UpdateRegistered, key="registered_limit"))
        with self.db.begin() as tx:
            row = actions.update_registered(tx, rest.caller(req), registered_limit_id, change)
        resp.media = {"registered_limit": self.shown(req, row)}

    def on_delete(self, req: Request, resp: Response, registered_limit_id: str) -> None:
        with self.db.begin() as tx:
            actions.unregister(tx, rest.caller(req), registered_limit_id)
        empty(resp)


class _Limits(Resource):
    def shown(self, req: Request, row: Row) -> dict[str, Any]:
        made = {
            "id": row.id,
            "project_id": row.project_id,
            "domain_id": row.domain_id,
            "service_id": row.service_id,
            "region_id": row.region_id,
            "resource_name": row.resource_name,
            "resource_limit": row.resource_limit,
            "description": row.description,
        }
        return self.linked(req, f"/limits/{row.id}", made)


class Limits(_Limits):
    """/v3/limits"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            query = actions.listing(tx, rest.caller(req))
            query = filtered(req, query, registered_limit, "service_id", "region_id", "resource_name")
            query = filtered(req, query, limit, "project_id", "domain_id")
            rows = tx.execute(query.order_by(limit.c.id)).all()
        resp.media = self.listed(req, "limits", [self.shown(req, r) for r in rows])

    def on_post(self, req: Request, resp: Response) -> None:
        wants = rest.convert(rest.json_body(req), list[Create], key="limits")
        some(wants, "limits")
        new = [actions.NewLimit(**msgspec.structs.asdict(w)) for w in wants]
        with self.db.begin() as tx:
            rows = actions.create(tx, self.cloud, rest.caller(req), new)
        resp.status, resp.media = "201 Created", {"limits": [self.shown(req, r) for r in rows]}


class Limit(_Limits):
    """/v3/limits/{limit_id}"""

    def on_get(self, req: Request, resp: Response, limit_id: str) -> None:
        with self.db.read() as tx:
            row = actions.get(tx, rest.caller(req), limit_id)
        resp.media = {"limit": self.shown(req, row)}

    def on_patch(self, req: Request, resp: Response, limit_id: str) -> None:
        change = given(rest.body(req, Update, key="limit"))
        with self.db.begin() as tx:
            row = actions.update(tx, self.cloud, rest.caller(req), limit_id, change)
        resp.media = {"limit": self.shown(req, row)}

    def on_delete(self, req: Request, resp: Response, limit_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete(tx, rest.caller(req), limit_id)
        empty(resp)


_MODELS = {
    "flat": "Limit enforcement and validation does not take project hierarchy into consideration.",
    "strict_two_level": "This model requires project hierarchy never exceeds a depth of two.",
}


class Model(Resource):
    """/v3/limits/model"""

    def on_get(self, req: Request, resp: Response) -> None:
        rest.caller(req).may("identity:get_limit_model", {})
        name = self.cloud.config.identity.limit_model
        resp.media = {"model": {"name": name, "description": _MODELS[name]}}


ROUTES = (
    ("/v3/registered_limits", RegisteredLimits),
    ("/v3/registered_limits/{registered_limit_id}", RegisteredLimit),
    ("/v3/limits", Limits),
    ("/v3/limits/model", Model),
    ("/v3/limits/{limit_id}", Limit),
)
