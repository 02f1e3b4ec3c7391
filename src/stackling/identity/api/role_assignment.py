"""/v3/role_assignments"""

from typing import Any

from falcon import Request, Response

from stackling.base import rest
from stackling.base.db import Row
from stackling.base.errors import BadRequest
from stackling.identity.actions import role_assignment as actions
from stackling.identity.actions.role_assignment import Asked, Names, Shown
from stackling.identity.api.resource import Resource, truth
from stackling.identity.state.role import SYSTEM


def _flag(req: Request, name: str) -> bool:
    value = rest.one_param(req, name)
    return value is not None and truth(value)


def asked(req: Request) -> Asked:
    inherited = rest.one_param(req, "scope.OS-INHERIT:inherited_to")
    if inherited not in (None, "projects"):
        raise BadRequest(
            "Invalid input for query parameter scope.OS-INHERIT:inherited_to: it can only be projects"
        )
    return Asked(
        user_id=rest.one_param(req, "user.id"),
        group_id=rest.one_param(req, "group.id"),
        role_id=rest.one_param(req, "role.id"),
        project_id=rest.one_param(req, "scope.project.id"),
        domain_id=rest.one_param(req, "scope.domain.id"),
        system=rest.one_param(req, "scope.system") is not None,
        inherited=True if inherited else None,
        effective=_flag(req, "effective"),
        names=_flag(req, "include_names"),
        subtree=_flag(req, "include_subtree"),
    )


class RoleAssignments(Resource):
    """/v3/role_assignments"""

    def on_get(self, req: Request, resp: Response) -> None:
        want = asked(req)
        with self.db.read() as tx:
            rows = actions.listing(tx, rest.caller(req), want)
            names = actions.names(tx, rows) if want.names else None
        root = self.url(req, "")
        resp.media = self.listed(req, "role_assignments", [shown(root, row, names) for row in rows])


def shown(root: str, row: Shown, names: Names | None) -> dict[str, Any]:
    path = f"/{row.target}" if row.target == SYSTEM else f"/{row.target}s/{row.target_id}"
    if row.from_target:
        path = f"/{row.from_target[0]}s/{row.from_target[1]}"
    actor = f"/groups/{row.group_id}" if row.group_id else f"/users/{row.user_id}"
    link = f"{path}{actor}/roles/{row.prior_role_id or row.role_id}"
    if row.inherited:
        link = f"/OS-INHERIT{link}/inherited_to_projects"
    links = {"assignment": root + link}
    made: dict[str, Any] = {
        "links": links,
        "role": _named(row.role_id, names.roles if names else None, names),
    }
    scope: dict[str, Any]
    if row.target == SYSTEM:
        scope = {"system": {"all": True}}
    else:
        scope = {row.target: _named(row.target_id, names.projects if names else None, names)}
    if row.inherited:
        scope["OS-INHERIT:inherited_to"] = "projects"
    made["scope"] = scope
    if row.user_id:
        made["user"] = _named(row.user_id, names.users if names else None, names)
        if row.group_id:
            links["membership"] = f"{root}/groups/{row.group_id}/users/{row.user_id}"
    else:
        made["group"] = _named(row.group_id or "", names.groups if names else None, names)
    if row.prior_role_id:
        links["prior_role"] = f"{root}/roles/{row.prior_role_id}"
    return made


def _named(id: str, rows: dict[str, Row] | None, names: Names | None) -> dict[str, Any]:
    """A reference; with names where they are wanted, and with the domain of what has one."""
    row = rows.get(id) if rows is not None else None
    if row is None or names is None:
        return {"id": id} if names is None else {"id": id, "name": ""}
    made: dict[str, Any] = {"id": id, "name": row.name}
    if row.domain_id:
        domain = names.projects.get(row.domain_id)
        made["domain"] = {"id": row.domain_id, "name": domain.name if domain is not None else ""}
    return made


ROUTES = (("/v3/role_assignments", RoleAssignments),)
