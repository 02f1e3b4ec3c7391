"""The roles that assignments come to: through groups, inheritance and implication."""

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa

from stackling.base.db import Row, Tx
from stackling.identity.state import project as projects
from stackling.identity.state import role as roles
from stackling.identity.state.federated_user import federated_membership
from stackling.identity.state.role import SYSTEM, assignment
from stackling.identity.state.user import membership


def actors(user_id: str, now: datetime | None = None) -> sa.ColumnElement[bool]:
    """Assignments of the user himself or of a group that he is in.

    Groups that an identity provider put him in count until `now` is past their end; without `now` even longer, which
    is only for what a token's reading decides again.
    """
    table = assignment.c
    mine = sa.select(membership.c.group_id).where(membership.c.user_id == user_id)
    held = federated_membership.c
    for_a_time = sa.select(held.group_id).where(held.user_id == user_id)
    if now is not None:
        for_a_time = for_a_time.where(held.expires_at > now)
    return sa.or_(
        sa.and_(table.actor == "user", table.actor_id == user_id),
        sa.and_(table.actor == "group", table.actor_id.in_(mine.union(for_a_time))),
    )


def on_project(tx: Tx, project: Row) -> sa.ColumnElement[bool]:
    """Assignments that reach the project: its own, and those that its ancestors and its domain hand down."""
    table = assignment.c
    above = (
        [project.parent_id, *(p.id for p in projects.ancestors(tx, project.parent_id))]
        if _deep(project)
        else []
    )
    ways = [sa.and_(table.target == "project", table.target_id == project.id, table.inherited.is_(False))]
    if project.domain_id:
        ways.append(
            sa.and_(table.target == "domain", table.target_id == project.domain_id, table.inherited.is_(True))
        )
    if above:
        ways.append(sa.and_(table.target == "project", table.target_id.in_(above), table.inherited.is_(True)))
    return sa.or_(*ways)


def _deep(project: Row) -> bool:
    return project.parent_id is not None and project.parent_id != project.domain_id


def on_domain(domain_id: str) -> sa.ColumnElement[bool]:
    table = assignment.c
    return sa.and_(table.target == "domain", table.target_id == domain_id, table.inherited.is_(False))


def on_system() -> sa.ColumnElement[bool]:
    table = assignment.c
    return sa.and_(table.target == SYSTEM, table.inherited.is_(False))


def roles_of(tx: Tx, user_id: str, where: sa.ColumnElement[bool], now: datetime | None = None) -> list[Row]:
    """The global roles that a user has where `where` says, implied ones included, by name."""
    query = sa.select(assignment.c.role_id).where(actors(user_id, now), where).distinct()
    return expand(tx, tx.execute(query).scalars())


def expand(tx: Tx, role_ids: Iterable[str]) -> list[Row]:
    """The global roles among `role_ids` and what they imply, by name. A domain's own role gives only what it implies."""
    given = list(role_ids)
    if not given:
        return []
    found = roles.by_id(tx, roles.closure(roles.implications(tx), given)).values()
    return sorted((r for r in found if r.domain_id is None), key=lambda r: (r.name, r.id))
