"""Listing role assignments: as they were made, or as what they come to for each user and project."""

from collections.abc import Iterable, Iterator

import msgspec
import sqlalchemy as sa

from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.identity.actions.permission import may, target
from stackling.identity.state import grants
from stackling.identity.state import project as projects
from stackling.identity.state import role as roles
from stackling.identity.state import user as users
from stackling.identity.state.project import project
from stackling.identity.state.role import SYSTEM, assignment, role
from stackling.identity.state.user import group, membership, user


class Asked(msgspec.Struct, kw_only=True):
    """What a list is narrowed to."""

    user_id: str | None = None
    group_id: str | None = None
    role_id: str | None = None
    project_id: str | None = None
    domain_id: str | None = None
    system: bool = False
    inherited: bool | None = None
    effective: bool = False
    names: bool = False
    subtree: bool = False


class Shown(msgspec.Struct, kw_only=True):
    """One assignment. In an effective list `group_id`, `from_target` and `prior_role_id` tell where it comes from."""

    role_id: str
    target: str
    target_id: str
    inherited: bool
    user_id: str | None = None
    group_id: str | None = None
    from_target: tuple[str, str] | None = None
    prior_role_id: str | None = None


class Names(msgspec.Struct):
    """Rows of all that a list names."""

    users: dict[str, Row]
    groups: dict[str, Row]
    projects: dict[str, Row]
    roles: dict[str, Row]


def listing(tx: Tx, caller: Caller, asked: Asked) -> list[Shown]:
    """Raises BadRequest for filters that exclude each other, and NotFound when there is nothing to look from."""
    _allow(tx, caller, asked)
    if asked.user_id and asked.group_id:
        raise BadRequest("Specify a user or a group, not both.")
    if sum(bool(x) for x in (asked.project_id, asked.domain_id, asked.system)) > 1:
        raise BadRequest("Specify a project, a domain or the system, not more than one of them.")
    if asked.effective and asked.group_id:
        raise BadRequest("Combining effective and group filter will always result in an empty list.")
    if asked.effective and asked.inherited is not None and asked.domain_id:
        raise BadRequest(
            "Combining effective, domain and inherited filters will always result in an empty list."
        )
    if asked.effective and asked.user_id and users.find(tx, asked.user_id) is None:
        raise NotFound(f"Could not find user: {asked.user_id[:64]}.")
    if asked.effective and asked.project_id and projects.find(tx, asked.project_id) is None:
        raise NotFound(f"Could not find project: {asked.project_id[:64]}.")
    shown = list(_effective(tx, asked)) if asked.effective else _as_made(tx, asked)
    if caller.domain_id:
        shown = _of_domain(tx, shown, caller.domain_id)
    return shown


def _allow(tx: Tx, caller: Caller, asked: Asked) -> None:
    if asked.subtree:
        if not asked.project_id:
            raise BadRequest("scope.project.id must be specified if include_subtree is also specified.")
        may(caller, "list_role_assignments_for_tree", target(project=projects.find(tx, asked.project_id)))
    else:
        may(
            caller,
            "list_role_assignments",
            {"target.domain_id": caller.domain_id} if caller.domain_id else {},
        )


def _of_domain(tx: Tx, shown: list[Shown], domain_id: str) -> list[Shown]:
    """What a domain's own reader sees: assignments on the domain and its projects."""
    inside = set(tx.execute(sa.select(project.c.id).where(project.c.domain_id == domain_id)).scalars())
    return [s for s in shown if s.target_id == domain_id or s.target_id in inside]


def _tree(tx: Tx, asked: Asked) -> list[str]:
    """The projects that are asked for."""
    if not asked.project_id:
        return []
    below = [p.id for p in projects.descendants(tx, asked.project_id)] if asked.subtree else []
    return [asked.project_id, *below]


_table = assignment.c
_EVERY = sa.select(
    _table.actor, _table.actor_id, _table.target, _table.target_id, _table.role_id, _table.inherited
).order_by(*assignment.primary_key)  # the order of the one index that has all of it


def _as_made(tx: Tx, asked: Asked) -> list[Shown]:
    table = assignment.c
    query = _EVERY
    if asked.user_id:
        query = query.where(table.actor == "user", table.actor_id == asked.user_id)
    if asked.group_id:
        query = query.where(table.actor == "group", table.actor_id == asked.group_id)
    if asked.role_id:
        query = query.where(table.role_id == asked.role_id)
    if asked.project_id:
        query = query.where(table.target == "project", table.target_id.in_(_tree(tx, asked)))
    if asked.domain_id:
        query = query.where(table.target == "domain", table.target_id == asked.domain_id)
    if asked.system:
        query = query.where(table.target == SYSTEM)
    if asked.inherited is not None:
        query = query.where(table.inherited.is_(asked.inherited))
    return [
        Shown(
            role_id=role_id,
            target=target,
            target_id=target_id,
            inherited=inherited,
            user_id=actor_id if actor == "user" else None,
            group_id=actor_id if actor == "group" else None,
        )
        for actor, actor_id, target, target_id, role_id, inherited in tx.execute(query).all()
    ]


def _effective(tx: Tx, asked: Asked) -> Iterator[Shown]:
    query = _EVERY
    if asked.user_id:
        query = query.where(grants.actors(asked.user_id))
    tree = _tree(tx, asked)
    if tree:
        rows = tx.execute(sa.select(project).where(project.c.id.in_(tree)))
        query = query.where(
            sa.or_(sa.false(), *(grants.on_project(tx, row).condition() for row in rows.all()))
        )
    elif asked.domain_id:
        query = query.where(grants.on_domain(asked.domain_id).condition())
    elif asked.system:
        query = query.where(grants.on_system().condition())
    if asked.inherited is not None:
        query = query.where(assignment.c.inherited.is_(asked.inherited))
    graph = roles.implications(tx)
    of_domains = set(tx.execute(sa.select(role.c.id).where(role.c.domain_id.isnot(None))).scalars())
    members: dict[str, list[str]] = {}
    heirs: dict[tuple[str, str], list[str]] = {}
    comes_to: dict[str, list[str]] = {}
    for actor, actor_id, where, where_id, given, inherited in tx.execute(query).all():
        group_id = actor_id if actor == "group" else None
        if group_id is None:
            people: Iterable[str] = (actor_id,)
        elif asked.user_id:
            people = (asked.user_id,)
        else:
            if group_id not in members:
                found = sa.select(membership.c.user_id).where(membership.c.group_id == group_id)
                members[group_id] = list(tx.execute(found).scalars())
            people = members[group_id]
        key = (where, where_id)
        reached = [key]
        if inherited:
            if key not in heirs:
                heirs[key] = _heirs(tx, where, where_id)
            reached = [("project", p) for p in heirs[key] if not tree or p in tree]
        if given not in comes_to:
            comes_to[given] = [
                r
                for r in roles.closure(graph, [given])
                if r not in of_domains and asked.role_id in (None, "", r)
            ]
        for role_id in comes_to[given]:
            for kind, id in reached:
                for user_id in people:
                    yield Shown(
                        role_id=role_id,
                        target=kind,
                        target_id=id,
                        inherited=inherited,
                        user_id=user_id,
                        group_id=group_id,
                        from_target=key if inherited else None,
                        prior_role_id=given if role_id != given else None,
                    )


def _heirs(tx: Tx, where: str, where_id: str) -> list[str]:
    """The projects that inherit from the assignment's target."""
    if where == "domain":
        return list(tx.execute(sa.select(project.c.id).where(project.c.domain_id == where_id)).scalars())
    return [p.id for p in projects.descendants(tx, where_id)]


def names(tx: Tx, shown: list[Shown]) -> Names:
    """All rows that are needed to name what `shown` tells of."""
    found_projects = {r.id: r for r in tx.execute(sa.select(project))} if shown else {}
    found_users = _rows(tx, user, {s.user_id for s in shown if s.user_id})
    found_groups = _rows(tx, group, {s.group_id for s in shown if s.group_id})
    return Names(found_users, found_groups, found_projects, _rows(tx, role, {s.role_id for s in shown}))


def _rows(tx: Tx, table: sa.Table, wanted: set[str]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    ids = sorted(wanted)
    for start in range(0, len(ids), 500):
        query = sa.select(table).where(table.c.id.in_(ids[start : start + 500]))
        found |= {r.id: r for r in tx.execute(query)}
    return found
