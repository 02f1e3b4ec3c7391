"""The roles that assignments come to: through groups, inheritance and implication."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from stackling.base.db import Row, Tx
from stackling.base.statement import Statement, among
from stackling.identity.state import project as projects
from stackling.identity.state import role as roles
from stackling.identity.state.federated_user import federated_membership
from stackling.identity.state.role import SYSTEM, assignment
from stackling.identity.state.user import membership


def actors(user_id: Any, now: Any = None) -> sa.ColumnElement[bool]:
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


def memberships(user_id: str, now: datetime) -> sa.Subquery:
    """The groups that a user is in (`group_id`), and until when (`expires_at`): null for good, else by a provider."""
    mine, held = membership.c, federated_membership.c
    for_good = sa.select(mine.group_id, sa.cast(sa.null(), sa.DateTime).label("expires_at")).where(
        mine.user_id == user_id
    )
    for_a_time = (
        sa.select(held.group_id, sa.func.max(held.expires_at).label("expires_at"))
        .where(held.user_id == user_id, held.expires_at > now)
        .where(held.group_id.notin_(sa.select(mine.group_id).where(mine.user_id == user_id)))
        .group_by(held.group_id)
    )
    return for_good.union_all(for_a_time).subquery()


class Reach(NamedTuple):
    """Where assignments stand that reach something: on itself, or above it if they are inherited."""

    target: str
    target_id: str
    above: tuple[str, ...] = ()  # ids of projects, and of the domain

    def condition(self) -> sa.ColumnElement[bool]:
        table = assignment.c
        here = sa.and_(
            table.target == self.target, table.target_id == self.target_id, table.inherited.is_(False)
        )
        return sa.or_(here, sa.and_(table.target_id.in_(self.above), table.inherited.is_(True)))


def on_project(tx: Tx, project: Row) -> Reach:
    """What reaches the project: its own assignments, and those that its ancestors and its domain hand down."""
    above = [project.domain_id] if project.domain_id else []
    if project.parent_id is not None and project.parent_id != project.domain_id:
        above += [project.parent_id, *(p.id for p in projects.ancestors(tx, project.parent_id))]
    return Reach("project", project.id, tuple(above))


def on_domain(domain_id: str) -> Reach:
    return Reach("domain", domain_id)


def on_system() -> Reach:
    return Reach(SYSTEM, SYSTEM)


_table = assignment.c
_ROLES = Statement(
    sa.select(_table.role_id)
    .where(
        actors(sa.bindparam("user_id"), sa.bindparam("now")),
        sa.or_(
            sa.and_(
                _table.target == sa.bindparam("target"),
                _table.target_id == sa.bindparam("target_id"),
                _table.inherited.is_(False),
            ),
            sa.and_(among(_table.target_id, "above"), _table.inherited.is_(True)),
        ),
    )
    .distinct()
)


def roles_of(tx: Tx, user_id: str, reach: Reach, now: datetime | None = None) -> list[Row]:
    """The global roles that a user has where `reach` says, implied ones included, by name. `now` as for `actors`."""
    rows = _ROLES.all(
        tx,
        user_id=user_id,
        now=now or datetime.min,
        target=reach.target,
        target_id=reach.target_id,
        above=list(reach.above),
    )
    return expand(tx, [r.role_id for r in rows])


def expand(tx: Tx, role_ids: Iterable[str]) -> list[Row]:
    """The global roles among `role_ids` and what they imply, by name. A domain's own role gives only what it implies."""
    given = list(role_ids)
    if not given:
        return []
    found = roles.by_id(tx, roles.closure(roles.implications(tx), given)).values()
    return sorted((r for r in found if r.domain_id is None), key=lambda r: (r.name, r.id))
