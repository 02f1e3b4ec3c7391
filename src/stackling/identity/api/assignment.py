"""Grants: the roles of users and groups on projects, domains and the system, inherited or not."""

from typing import Any

from falcon import Request, Response

from stackling.base import rest
from stackling.base.cloud import Cloud
from stackling.identity.actions import assignment as actions
from stackling.identity.actions.assignment import Grant
from stackling.identity.api import role as role_api
from stackling.identity.api.resource import Resource, empty
from stackling.identity.state.role import SYSTEM


class _Grants(Resource):
    actor = target = ""
    inherited = False

    def grant(self, params: dict[str, Any]) -> Grant:
        target_id = SYSTEM if self.target == SYSTEM else params[f"{self.target}_id"]
        return Grant(
            self.actor,
            params[f"{self.actor}_id"],
            self.target,
            target_id,
            params.get("role_id", ""),
            self.inherited,
        )


class Given(_Grants):
    """…/roles"""

    def on_get(self, req: Request, resp: Response, **params: Any) -> None:
        with self.db.read() as tx:
            rows = actions.given(tx, rest.caller(req), self.grant(params))
        made = [self.linked(req, f"/roles/{r.id}", role_api.shown(r)) for r in rows]
        resp.media = self.listed(req, "roles", made)


class One(_Grants):
    """…/roles/{role_id}"""

    def on_get(self, req: Request, resp: Response, **params: Any) -> None:
        with self.db.read() as tx:
            actions.check(tx, rest.caller(req), self.grant(params))
        empty(resp)

    def on_put(self, req: Request, resp: Response, **params: Any) -> None:
        with self.db.begin() as tx:
            actions.give(tx, self.cloud, rest.caller(req), self.grant(params))
        empty(resp)

    def on_delete(self, req: Request, resp: Response, **params: Any) -> None:
        with self.db.begin() as tx:
            actions.take(tx, self.cloud, rest.caller(req), self.grant(params))
        empty(resp)


def routes(cloud: Cloud) -> list[tuple[str, object]]:
    """The grants' paths: each actor on each target, and what projects inherit."""
    made: list[tuple[str, object]] = []

    def add(kind: type[_Grants], path: str, actor: str, target: str, inherited: bool) -> None:
        one = kind(cloud)
        one.actor, one.target, one.inherited = actor, target, inherited
        made.append((path, one))

    for actor in ("user", "group"):
        for target in ("project", "domain"):
            on = f"/{target}s/{{{target}_id}}/{actor}s/{{{actor}_id}}/roles"
            add(Given, f"/v3{on}", actor, target, False)
            add(One, f"/v3{on}/{{role_id}}", actor, target, False)
            add(Given, f"/v3/OS-INHERIT{on}/inherited_to_projects", actor, target, True)
            add(One, f"/v3/OS-INHERIT{on}/{{role_id}}/inherited_to_projects", actor, target, True)
        add(Given, f"/v3/system/{actor}s/{{{actor}_id}}/roles", actor, SYSTEM, False)
        add(One, f"/v3/system/{actor}s/{{{actor}_id}}/roles/{{role_id}}", actor, SYSTEM, False)
    return made
