"""Users, their passwords, groups, and who is in which.

`generation` stands in every token of the user: raising it ends all of them, without a look at any clock.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
)

from stackling.base.db import JSON, Row, Tx, metadata
from stackling.base.statement import Statement
from stackling.identity.state.directory import present

user = Table(
    "identity_user",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("domain_id", String(64), ForeignKey("identity_project.id"), nullable=False),
    Column("default_project_id", String(64)),
    Column("enabled", Boolean, nullable=False),
    Column("options", JSON, nullable=False),
    Column("extra", JSON, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("created_at", DateTime, nullable=False),
    Column("last_active_at", DateTime),
    Column("failed_logins", Integer, nullable=False, server_default="0"),
    Column("failed_at", DateTime),
    UniqueConstraint("domain_id", "name"),
    Index(None, "name"),  # clients look for a name without saying in which domain
)

password = Table(
    "identity_password",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column(
        "user_id", String(64), ForeignKey("identity_user.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("hash", String(255), nullable=False),
    Column("created_at", DateTime, nullable=False),
    Column("expires_at", DateTime),
    Column("self_service", Boolean, nullable=False),  # set by the user, not by an administrator
)

group = Table(
    "identity_group",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("domain_id", String(64), ForeignKey("identity_project.id"), nullable=False),
    Column("description", sa.Text, nullable=False, server_default=""),
    Column("extra", JSON, nullable=False),
    UniqueConstraint("domain_id", "name"),
)

membership = Table(
    "identity_membership",
    metadata,
    Column("user_id", String(64), ForeignKey("identity_user.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "group_id",
        String(64),
        ForeignKey("identity_group.id", ondelete="CASCADE"),
        primary_key=True,
        index=True,
    ),
)


def find(tx: Tx, user_id: str) -> Row | None:
    """The user; not one that his directory has no more."""
    return _ONE.first(tx, user_id=user_id)


def find_by_name(tx: Tx, name: str, domain_id: str) -> Row | None:
    return _NAMED.first(tx, name=name, domain_id=domain_id)


def current_password(tx: Tx, user_id: str) -> Row | None:
    """The password that is in force; earlier ones are history."""
    return _PASSWORD.first(tx, user_id=user_id)


_ONE = Statement(sa.select(user).where(user.c.id == sa.bindparam("user_id"), present(user.c.id)))
_NAMED = Statement(
    sa.select(user).where(
        user.c.name == sa.bindparam("name"),
        user.c.domain_id == sa.bindparam("domain_id"),
        present(user.c.id),
    )
)
_PASSWORD = Statement(
    sa.select(password)
    .where(password.c.user_id == sa.bindparam("user_id"))
    .order_by(password.c.id.desc())
    .limit(1)
)


def find_group(tx: Tx, group_id: str) -> Row | None:
    return tx.execute(sa.select(group).where(group.c.id == group_id, present(group.c.id))).one_or_none()


def groups_of(tx: Tx, user_id: str) -> list[str]:
    return list(tx.execute(sa.select(membership.c.group_id).where(membership.c.user_id == user_id)).scalars())


def end_tokens(tx: Tx, user_id: str) -> None:
    """Every token of the user stops working."""
    tx.execute(sa.update(user).where(user.c.id == user_id).values(generation=user.c.generation + 1))


# What lists show of users, which is half of a row, and when their present passwords end.
LISTED: list[sa.ColumnElement[Any]] = [
    *(user.c[n] for n in ("id", "name", "domain_id", "default_project_id", "enabled", "options", "extra")),
    sa.select(password.c.expires_at)
    .where(password.c.user_id == user.c.id)
    .order_by(password.c.id.desc())
    .limit(1)
    .scalar_subquery()
    .label("password_expires_at"),
]
