"""/v3/projects with tags, and /v3/domains."""

from typing import Any

import msgspec
import sqlalchemy as sa
from falcon import Request, Response
from msgspec import UNSET, UnsetType

from stackling.base import rest
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.identity.actions import project as actions
from stackling.identity.actions import project_tree
from stackling.identity.actions.permission import can
from stackling.identity.api.resource import (
    Id,
    Resource,
    ShortName,
    Truth,
    empty,
    filtered,
    given,
    lenient,
    paged,
    truth,
    wanted,
)
from stackling.identity.state import project as projects
from stackling.identity.state.project import project, project_tag


class CreateProject(msgspec.Struct, kw_only=True):
    name: ShortName
    domain_id: Id | None = None
    parent_id: Id | None = None
    is_domain: Truth = False
    enabled: Truth = True
    description: str | None = None
    options: dict[str, Any] = {}
    tags: list[str] = []
    explicit_domain_id: str | None = None


class UpdateProject(msgspec.Struct, kw_only=True):
    name: ShortName | UnsetType = UNSET
    domain_id: Id | UnsetType | None = UNSET
    parent_id: Id | UnsetType | None = UNSET
    is_domain: Truth | UnsetType = UNSET
    enabled: Truth | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    options: dict[str, Any] | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET


def _words(change: dict[str, Any]) -> dict[str, Any]:
    return {k: lenient(v, k) if k in ("enabled", "is_domain") else v for k, v in change.items()}


def shown(row: Row, tags: list[str]) -> dict[str, Any]:
    return {
        **row.extra,
        "id": row.id,
        "name": row.name,
        "domain_id": row.domain_id,
        "description": row.description,
        "enabled": row.enabled,
        "parent_id": row.parent_id,
        "is_domain": row.is_domain,
        "tags": tags,
        "options": row.options,
    }


def domain_shown(row: Row, tags: list[str]) -> dict[str, Any]:
    return {
        **row.extra,
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "enabled": row.enabled,
        "tags": tags,
        "options": row.options,
    }


def many(self: Resource, req: Request, tx: Tx, rows: list[Row]) -> list[dict[str, Any]]:
    tags = projects.tags(tx, [r.id for r in rows])
    return [self.linked(req, f"/projects/{r.id}", shown(r, tags[r.id])) for r in rows]


def many_domains(self: Resource, req: Request, tx: Tx, rows: list[Row]) -> list[dict[str, Any]]:
    tags = projects.tags(tx, [r.id for r in rows])
    return [self.linked(req, f"/domains/{r.id}", domain_shown(r, tags[r.id])) for r in rows]


def _tagged(req: Request, query: sa.Select[Any]) -> sa.Select[Any]:
    """`query` narrowed by tags, tags-any, not-tags and not-tags-any."""
    for name in ("tags", "tags-any", "not-tags", "not-tags-any"):
        text = rest.one_param(req, name)
        if text is None:
            continue
        names = [n for n in text.split(",") if n]
        has = sa.select(project_tag.c.project_id).where(project_tag.c.name.in_(names))
        if name in ("tags", "not-tags"):
            has = has.group_by(project_tag.c.project_id).having(sa.func.count() == len(set(names)))
        query = query.where(project.c.id.not_in(has) if name.startswith("not-") else project.c.id.in_(has))
    return query


class Projects(Resource):
    """/v3/projects"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            query = actions.listing(tx, rest.caller(req), rest.one_param(req, "domain_id"))
            query = filtered(req, query, project, "name", "enabled", "parent_id", "id")
            # Domains are projects only for those who ask for them.
            query = query.where(project.c.is_domain.is_(truth(rest.one_param(req, "is_domain") or "false")))
            rows, more = paged(req, tx, _tagged(req, query), project)
            made = many(self, req, tx, rows)
        resp.media = self.listed(req, "projects", made, next_marker=more)

    def on_post(self, req: Request, resp: Response) -> None:
        want, extra = wanted(req, "project", CreateProject)
        new = actions.NewProject(
            name=want.name,
            domain_id=want.domain_id,
            parent_id=want.parent_id,
            is_domain=lenient(want.is_domain, "is_domain"),
            enabled=lenient(want.enabled, "enabled"),
            description=want.description or "",
            options=want.options,
            tags=want.tags,
            extra=extra,
        )
        with self.db.begin() as tx:
            row = actions.create(tx, self.cloud, rest.caller(req), new)
            made = many(self, req, tx, [row])[0]
        resp.status, resp.media = "201 Created", {"project": made}


class Project(Resource):
    """/v3/projects/{project_id}"""

    def on_get(self, req: Request, resp: Response, project_id: str) -> None:
        caller = rest.caller(req)
        with self.db.read() as tx:
            row = actions.get(tx, caller, project_id)
            made = many(self, req, tx, [row])[0]
            above, below = projects.ancestors(tx, row.id), projects.descendants(tx, row.id)
            if _asks(req, "parents_as_ids"):
                tree: dict[str, Any] | None = None
                for p in reversed(above):
                    tree = {p.id: tree}
                made["parents"] = tree
            elif _asks(req, "parents_as_list"):
                visible = [p for p in above if not p.is_domain and can(caller, "get_project", _aim(p))]
                made["parents"] = [{"project": p} for p in many(self, req, tx, visible)]
            if _asks(req, "subtree_as_ids"):
                made["subtree"] = _tree(row.id, below)
            elif _asks(req, "subtree_as_list"):
                visible = [p for p in below if can(caller, "get_project", _aim(p))]
                made["subtree"] = [{"project": p} for p in many(self, req, tx, visible)]
        if (_asks(req, "parents_as_ids") and _asks(req, "parents_as_list")) or (
            _asks(req, "subtree_as_ids") and _asks(req, "subtree_as_list")
        ):
            raise BadRequest("as_list and as_ids exclude each other.")
        resp.media = {"project": made}

    def on_patch(self, req: Request, resp: Response, project_id: str) -> None:
        want, extra = wanted(req, "project", UpdateProject)
        change = _words(given(want))
        if "description" in change:
            change["description"] = change["description"] or ""
        if extra:
            change["extra"] = extra
        with self.db.begin() as tx:
            row = actions.update(tx, self.cloud, rest.caller(req), project_id, change)
            made = many(self, req, tx, [row])[0]
        resp.media = {"project": made}

    def on_delete(self, req: Request, resp: Response, project_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete(tx, self.cloud, rest.caller(req), project_id)
        empty(resp)


class SwitchTree(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    enabled: bool


class Cascade(Resource):
    """/v3/projects/{project_id}/cascade: the project with all below it"""

    def on_patch(self, req: Request, resp: Response, project_id: str) -> None:
        want = rest.body(req, SwitchTree, key="project")
        with self.db.begin() as tx:
            row = project_tree.switch(tx, self.cloud, rest.caller(req), project_id, enabled=want.enabled)
            made = many(self, req, tx, [row])[0]
        resp.media = {"project": made}

    def on_delete(self, req: Request, resp: Response, project_id: str) -> None:
        with self.db.begin() as tx:
            project_tree.delete(tx, self.cloud, rest.caller(req), project_id)
        empty(resp)


def _asks(req: Request, name: str) -> bool:
    """A parameter that is asked for by being there."""
    value = rest.one_param(req, name)
    return value is not None and truth(value)


def _aim(row: Row) -> dict[str, Any]:
    return {"target.project.id": row.id, "target.project.domain_id": row.domain_id}


def _tree(top: str, rows: list[Row]) -> dict[str, Any] | None:
    inside = {r.id: _tree(r.id, rows) for r in rows if r.parent_id == top}
    return inside or None


class Tags(Resource):
    """/v3/projects/{project_id}/tags"""

    def on_get(self, req: Request, resp: Response, project_id: str) -> None:
        with self.db.read() as tx:
            actions.get(tx, rest.caller(req), project_id, "list_project_tags")
            names = projects.tags(tx, [project_id])[project_id]
        resp.media = {
            "tags": names,
            "links": {"self": rest.self_url(req, self.cloud), "next": None, "previous": None},
        }

    def on_put(self, req: Request, resp: Response, project_id: str) -> None:
        names = rest.convert(rest.json_body(req), list[str], key="tags")
        with self.db.begin() as tx:
            made = actions.put_tags(tx, rest.caller(req), project_id, names)
        resp.media = {
            "tags": made,
            "links": {"self": rest.self_url(req, self.cloud), "next": None, "previous": None},
        }

    def on_delete(self, req: Request, resp: Response, project_id: str) -> None:
        with self.db.begin() as tx:
            actions.remove_tags(tx, rest.caller(req), project_id)
        empty(resp)


class Tag(Resource):
    """/v3/projects/{project_id}/tags/{value}"""

    def on_get(self, req: Request, resp: Response, project_id: str, value: str) -> None:
        with self.db.read() as tx:
            actions.get(tx, rest.caller(req), project_id, "get_project_tag")
            if value not in projects.tags(tx, [project_id])[project_id]:
                raise NotFound(f"Could not find project tag: {value[:64]}.")
        empty(resp)

    def on_put(self, req: Request, resp: Response, project_id: str, value: str) -> None:
        with self.db.begin() as tx:
            actions.add_tag(tx, rest.caller(req), project_id, value)
        resp.status = "201 Created"
        resp.set_header("Location", rest.self_url(req, self.cloud))

    def on_delete(self, req: Request, resp: Response, project_id: str, value: str) -> None:
        with self.db.begin() as tx:
            actions.remove_tags(tx, rest.caller(req), project_id, value)
        empty(resp)


class Domains(Resource):
    """/v3/domains"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            query = filtered(
                req, actions.domain_listing(tx, rest.caller(req)), project, "name", "enabled", "id"
            )
            rows, more = paged(req, tx, query, project)
            made = many_domains(self, req, tx, rows)
        resp.media = self.listed(req, "domains", made, next_marker=more)

    def on_post(self, req: Request, resp: Response) -> None:
        want, extra = wanted(req, "domain", CreateProject)
        new = actions.NewProject(
            name=want.name,
            enabled=lenient(want.enabled, "enabled"),
            description=want.description or "",
            options=want.options,
            tags=want.tags,
            extra=extra,
            id=want.explicit_domain_id,
        )
        with self.db.begin() as tx:
            row = actions.create_domain(tx, self.cloud, rest.caller(req), new)
            made = many_domains(self, req, tx, [row])[0]
        resp.status, resp.media = "201 Created", {"domain": made}


class Domain(Resource):
    """/v3/domains/{domain_id}"""

    def on_get(self, req: Request, resp: Response, domain_id: str) -> None:
        with self.db.read() as tx:
            row = actions.get_domain(tx, rest.caller(req), domain_id)
            made = many_domains(self, req, tx, [row])[0]
        resp.media = {"domain": made}

    def on_patch(self, req: Request, resp: Response, domain_id: str) -> None:
        want, extra = wanted(req, "domain", UpdateProject)
        change = {
            k: v for k, v in _words(given(want)).items() if k not in ("domain_id", "parent_id", "is_domain")
        }
        if "description" in change:
            change["description"] = change["description"] or ""
        if extra:
            change["extra"] = extra
        with self.db.begin() as tx:
            row = actions.update_domain(tx, self.cloud, rest.caller(req), domain_id, change)
            made = many_domains(self, req, tx, [row])[0]
        resp.media = {"domain": made}

    def on_delete(self, req: Request, resp: Response, domain_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete_domain(tx, self.cloud, rest.caller(req), domain_id)
        empty(resp)


ROUTES = (
    ("/v3/projects", Projects),
    ("/v3/projects/{project_id}", Project),
    ("/v3/projects/{project_id}/cascade", Cascade),
    ("/v3/projects/{project_id}/tags", Tags),
    ("/v3/projects/{project_id}/tags/{value}", Tag),
    ("/v3/domains", Domains),
    ("/v3/domains/{domain_id}", Domain),
)
