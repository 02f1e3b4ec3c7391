"""/v3/roles, what they imply, and /v3/role_inferences."""

from typing import Any

import msgspec
from falcon import Request, Response
from msgspec import UNSET, UnsetType

from stackling.base import rest
from stackling.base.db import Row
from stackling.identity.actions import role as actions
from stackling.identity.api.resource import Id, Name, Resource, empty, filtered, given, paged, wanted
from stackling.identity.state import role as roles


class CreateRole(msgspec.Struct, kw_only=True):
    name: Name
    domain_id: Id | None = None
    description: str | None = None
    options: dict[str, Any] = {}


class UpdateRole(msgspec.Struct, kw_only=True):
    name: Name | UnsetType = UNSET
    domain_id: Id | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    options: dict[str, Any] | UnsetType = UNSET


def shown(row: Row) -> dict[str, Any]:
    return {
        **row.extra,
        "id": row.id,
        "name": row.name,
        "domain_id": row.domain_id,
        "description": row.description,
        "options": row.options,
    }


class Roles(Resource):
    """/v3/roles"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            domain_id = rest.one_param(req, "domain_id")
            domain_id = None if (domain_id or "").lower() in ("", "null", "none") else domain_id
            query = filtered(req, actions.listing(tx, rest.caller(req), domain_id), roles.role, "name")
            rows, more = paged(req, tx, query, roles.role)
        made = [self.linked(req, f"/roles/{r.id}", shown(r)) for r in rows]
        resp.media = self.listed(req, "roles", made, next_marker=more)

    def on_post(self, req: Request, resp: Response) -> None:
        want, extra = wanted(req, "role", CreateRole)
        new = actions.NewRole(
            name=want.name,
            domain_id=want.domain_id,
            description=want.description,
            options=want.options,
            extra=extra,
        )
        with self.db.begin() as tx:
            row = actions.create(tx, self.cloud, rest.caller(req), new)
        resp.status, resp.media = "201 Created", {"role": self.linked(req, f"/roles/{row.id}", shown(row))}


class Role(Resource):
    """/v3/roles/{role_id}"""

    def on_get(self, req: Request, resp: Response, role_id: str) -> None:
        with self.db.read() as tx:
            row = actions.get(tx, rest.caller(req), role_id)
        resp.media = {"role": self.linked(req, f"/roles/{role_id}", shown(row))}

    def on_patch(self, req: Request, resp: Response, role_id: str) -> None:
        want, extra = wanted(req, "role", UpdateRole)
        change = given(want)
        if extra:
            change["extra"] = extra
        with self.db.begin() as tx:
            row = actions.update(tx, self.cloud, rest.caller(req), role_id, change)
        resp.media = {"role": self.linked(req, f"/roles/{role_id}", shown(row))}

    def on_delete(self, req: Request, resp: Response, role_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete(tx, self.cloud, rest.caller(req), role_id)
        empty(resp)


class _Inference(Resource):
    def short(self, req: Request, row: Row) -> dict[str, Any]:
        return {"id": row.id, "name": row.name, "links": {"self": self.url(req, f"/roles/{row.id}")}}

    def pair(self, req: Request, prior: Row, implied: Row) -> dict[str, Any]:
        made = {"prior_role": self.short(req, prior), "implies": self.short(req, implied)}
        return {
            "role_inference": made,
            "links": {"self": self.url(req, f"/roles/{prior.id}/implies/{implied.id}")},
        }


class Implied(_Inference):
    """/v3/roles/{role_id}/implies"""

    def on_get(self, req: Request, resp: Response, role_id: str) -> None:
        with self.db.read() as tx:
            prior, rows = actions.all_implied(tx, rest.caller(req), role_id)
        made = {"prior_role": self.short(req, prior), "implies": [self.short(req, r) for r in rows]}
        resp.media = {"role_inference": made, "links": {"self": rest.self_url(req, self.cloud)}}


class ImpliedOne(_Inference):
    """/v3/roles/{role_id}/implies/{implied_role_id}"""

    def on_get(self, req: Request, resp: Response, role_id: str, implied_role_id: str) -> None:
        rule = "check_implied_role" if req.method == "HEAD" else "get_implied_role"
        with self.db.read() as tx:
            pair = actions.implied(tx, rest.caller(req), role_id, implied_role_id, rule)
        if req.method == "HEAD":
            empty(resp)
        else:
            resp.media = self.pair(req, *pair)

    def on_put(self, req: Request, resp: Response, role_id: str, implied_role_id: str) -> None:
        with self.db.begin() as tx:
            pair = actions.imply(tx, rest.caller(req), role_id, implied_role_id)
        resp.status, resp.media = "201 Created", self.pair(req, *pair)

    def on_delete(self, req: Request, resp: Response, role_id: str, implied_role_id: str) -> None:
        with self.db.begin() as tx:
            actions.imply_no_more(tx, rest.caller(req), role_id, implied_role_id)
        empty(resp)


class Inferences(_Inference):
    """/v3/role_inferences"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            found = actions.inferences(tx, rest.caller(req))
        made = [
            {"prior_role": self.short(req, prior), "implies": [self.short(req, r) for r in rows]}
            for prior, rows in found
        ]
        resp.media = {"role_inferences": made, "links": {"self": rest.self_url(req, self.cloud)}}


ROUTES = (
    ("/v3/roles", Roles),
    ("/v3/roles/{role_id}", Role),
    ("/v3/roles/{role_id}/implies", Implied),
    ("/v3/roles/{role_id}/implies/{implied_role_id}", ImpliedOne),
    ("/v3/role_inferences", Inferences),
)
