"""Roles, what they imply, and who has which on what."""

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, ForeignKey, Index, String, Table, Text

from stackling.base.db import JSON, Row, Tx, metadata
from stackling.base.statement import Statement, among

role = Table(
    "identity_role",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("domain_id", String(64), ForeignKey("identity_project.id")),  # null: a role of the whole cloud
    Column("description", Text),
    Column("options", JSON, nullable=False),
    Column("extra", JSON, nullable=False),
)
Index(
    "uq_identity_role_global_name",
    role.c.name,
    unique=True,
    sqlite_where=role.c.domain_id.is_(None),
    postgresql_where=role.c.domain_id.is_(None),
)
Index("uq_identity_role_name", role.c.domain_id, role.c.name, unique=True)

implied_role = Table(
    "identity_implied_role",
    metadata,
    Column("prior_role_id", String(64), ForeignKey("identity_role.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "implied_role_id", String(64), ForeignKey("identity_role.id", ondelete="CASCADE"), primary_key=True
    ),
)

# No foreign keys to actors and targets: a group or user may be gone from where it was kept, and the assignment stays
# listed until it is revoked.
assignment = Table(
    "identity_assignment",
    metadata,
    Column("actor", String(8), primary_key=True),  # user or group
    Column("actor_id", String(64), primary_key=True),
    Column("target", String(8), primary_key=True),  # project, domain or system
    Column("target_id", String(64), primary_key=True),  # "system" for the system
    Column("role_id", String(64), ForeignKey("identity_role.id", ondelete="CASCADE"), primary_key=True),
    Column("inherited", Boolean, primary_key=True),
    Index("ix_identity_assignment_target", "target", "target_id"),
    Index("ix_identity_assignment_role_id", "role_id"),
)

SYSTEM = "system"


def find(tx: Tx, role_id: str) -> Row | None:
    return tx.execute(sa.select(role).where(role.c.id == role_id)).one_or_none()


def implications(tx: Tx) -> dict[str, list[str]]:
    """The roles that each role implies at one remove."""
    made: dict[str, list[str]] = {}
    for row in _IMPLIED.all(tx):
        made.setdefault(row.prior_role_id, []).append(row.implied_role_id)
    return made


_IMPLIED = Statement(sa.select(implied_role).order_by(*implied_role.c))
_SOME = Statement(sa.select(role).where(among(role.c.id, "ids")))


def closure(graph: dict[str, list[str]], role_ids: Iterable[str]) -> list[str]:
    """`role_ids` and all roles that they imply at any remove, each once, in the order they are met."""
    seen: dict[str, None] = {}
    left = list(role_ids)
    while left:
        one = left.pop(0)
        if one not in seen:
            seen[one] = None
            left += graph.get(one, [])
    return list(seen)


def by_id(tx: Tx, role_ids: Iterable[str]) -> dict[str, Row]:
    return {r.id: r for r in _SOME.all(tx, ids=list(role_ids))}
