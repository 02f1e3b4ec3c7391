"""/v3/groups"""

from typing import Any

import msgspec
from falcon import Request, Response
from msgspec import UNSET, UnsetType

from stackling.base import rest
from stackling.base.db import Row
from stackling.identity.actions import directory
from stackling.identity.actions import group as actions
from stackling.identity.api.resource import Id, Name, Resource, empty, filtered, given, paged, wanted
from stackling.identity.state import user as users


class CreateGroup(msgspec.Struct, kw_only=True):
    name: Name
    domain_id: Id | None = None
    description: str | None = ""


class UpdateGroup(msgspec.Struct, kw_only=True):
    name: Name | UnsetType = UNSET
    domain_id: Id | UnsetType = UNSET
    description: str | UnsetType | None = UNSET


def shown(row: Row) -> dict[str, Any]:
    return {
        **row.extra,
        "id": row.id,
        "name": row.name,
        "domain_id": row.domain_id,
        "description": row.description,
    }


class Groups(Resource):
    """/v3/groups"""

    def on_get(self, req: Request, resp: Response) -> None:
        caller, domain_id = rest.caller(req), rest.one_param(req, "domain_id")
        actions.look(self.cloud, caller, domain_id, rest.one_param(req, "name"))
        with self.db.read() as tx:
            query = actions.listing(caller, domain_id)
            rows, more = paged(req, tx, filtered(req, query, users.group, "name"), users.group)
        made = [self.linked(req, f"/groups/{r.id}", shown(r)) for r in rows]
        resp.media = self.listed(req, "groups", made, next_marker=more)

    def on_post(self, req: Request, resp: Response) -> None:
        want, extra = wanted(req, "group", CreateGroup)
        new = actions.NewGroup(
            name=want.name, domain_id=want.domain_id, description=want.description or "", extra=extra
        )
        with self.db.begin() as tx:
            row = actions.create(tx, self.cloud, rest.caller(req), new)
        resp.status, resp.media = "201 Created", {"group": self.linked(req, f"/groups/{row.id}", shown(row))}


class Group(Resource):
    """/v3/groups/{group_id}"""

    def on_get(self, req: Request, resp: Response, group_id: str) -> None:
        rest.caller(req)
        directory.refresh_one(self.cloud, group_id)
        with self.db.read() as tx:
            row = actions.get(tx, rest.caller(req), group_id)
        resp.media = {"group": self.linked(req, f"/groups/{group_id}", shown(row))}

    def on_patch(self, req: Request, resp: Response, group_id: str) -> None:
        want, extra = wanted(req, "group", UpdateGroup)
        change = given(want)
        if change.get("description", "") is None:
            change["description"] = ""
        if extra:
            change["extra"] = extra
        with self.db.begin() as tx:
            row = actions.update(tx, self.cloud, rest.caller(req), group_id, change)
        resp.media = {"group": self.linked(req, f"/groups/{group_id}", shown(row))}

    def on_delete(self, req: Request, resp: Response, group_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete(tx, self.cloud, rest.caller(req), group_id)
        empty(resp)


ROUTES = (
    ("/v3/groups", Groups),
    ("/v3/groups/{group_id}", Group),
)
