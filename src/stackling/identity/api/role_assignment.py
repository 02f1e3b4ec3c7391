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


def _id(req: Request, name: str) -> str | None:
    """What a list is narrowed to; an empty word would have it show everything. Raises BadRequest."""
    value = rest.one_param(req, name)
    if value == "":
        raise BadRequest(f"Invalid input for query parameter {name}: it is empty")
    return value


def asked(req: Request) -> Asked:
    inherited = rest.one_param(req, "scope.OS-INHERIT:inherited_to")
    if inherited not in (None, "projects"):
        raise BadRequest(
            "Invalid input for query parameter scope.OS-INHERIT:inherited_to: it can only be projects"
        )
    return Asked(
        user_id=_id(req, "user.id"),
        group_id=_id(req, "group.id"),
        role_id=_id(req, "role.id"),
        project_id=_id(req, "scope.project.id"),
        domain_id=_id(req, "scope.domain.id"),
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
        views = Views(self.url(req, ""), names)
        resp.media = self.listed(req, "role_assignments", [views.of(row) for row in rows])


class Views:
    """Shows assignments. What thousands of them share (roles, projects, users) is made once."""

    def __init__(self, root: str, names: Names | None) -> None:
        self.root, self.names = root, names
        self._roles: dict[str, dict[str, Any]] = {}
        self._targets: dict[str, dict[str, Any]] = {}
        self._users: dict[str, dict[str, Any]] = {}
        self._groups: dict[str, dict[str, Any]] = {}

    def of(self, row: Shown) -> dict[str, Any]:
        names, user_id, group_id = self.names, row.user_id, row.group_id
        path = f"/{SYSTEM}" if row.target == SYSTEM else f"/{row.target}s/{row.target_id}"
        if row.from_target:
            path = f"/{row.from_target[0]}s/{row.from_target[1]}"
        actor = f"/groups/{group_id}" if group_id else f"/users/{user_id}"
        link = f"{path}{actor}/roles/{row.prior_role_id or row.role_id}"
        if row.inherited:
            link = f"/OS-INHERIT{link}/inherited_to_projects"
        links = {"assignment": self.root + link}
        scope: dict[str, Any]
        if row.target == SYSTEM:
            scope = {"system": {"all": True}}
        else:
            scope = {row.target: self._named(row.target_id, self._targets, names.projects if names else {})}
        if row.inherited:
            scope["OS-INHERIT:inherited_to"] = "projects"
        role = self._named(row.role_id, self._roles, names.roles if names else {})
        made: dict[str, Any] = {"links": links, "role": role, "scope": scope}
        if user_id:
            made["user"] = self._named(user_id, self._users, names.users if names else {})
            if group_id:
                links["membership"] = f"{self.root}/groups/{group_id}/users/{user_id}"
        else:
            made["group"] = self._named(group_id or "", self._groups, names.groups if names else {})
        if row.prior_role_id:
            links["prior_role"] = f"{self.root}/roles/{row.prior_role_id}"
        return made

    def _named(self, id: str, made: dict[str, dict[str, Any]], rows: dict[str, Row]) -> dict[str, Any]:
        """A reference; with names where they are wanted, and with the domain of what has one."""
        found = made.get(id)
        if found is None:
            found = made[id] = {"id": id}
            if self.names is not None:
                row = rows.get(id)
                found["name"] = row.name if row is not None else ""
                if row is not None and row.domain_id:
                    domain = self.names.projects.get(row.domain_id)
                    found["domain"] = {
                        "id": row.domain_id,
                        "name": domain.name if domain is not None else "",
                    }
        return found


ROUTES = (("/v3/role_assignments", RoleAssignments),)
