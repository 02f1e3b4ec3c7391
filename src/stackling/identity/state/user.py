"""Users, their passwords, groups, and who is in which.

`generation` stands in every token of the user: raising it ends all of them, without a look at any clock.
"""

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    String,
    Table,
    UniqueConstraint,
)

from stackling.base.db import JSON, Row, Tx, metadata
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
    return tx.execute(sa.select(user).where(user.c.id == user_id, present(user.c.id))).one_or_none()


def find_by_name(tx: Tx, name: str, domain_id: str) -> Row | None:
    query = sa.select(user).where(user.c.name == name, user.c.domain_id == domain_id, present(user.c.id))
    return tx.execute(query).one_or_none()


def current_password(tx: Tx, user_id: str) -> Row | None:
    """The password that is in force; earlier ones are history."""
    query = sa.select(password).where(password.c.user_id == user_id).order_by(password.c.id.desc()).limit(1)
    return tx.execute(query).one_or_none()


def find_group(tx: Tx, group_id: str) -> Row | None:
    return tx.execute(sa.select(group).where(group.c.id == group_id, present(group.c.id))).one_or_none()


def groups_of(tx: Tx, user_id: str) -> list[str]:
    return list(tx.execute(sa.select(membership.c.group_id).where(membership.c.user_id == user_id)).scalars())


def end_tokens(tx: Tx, user_id: str) -> None:
    """Every token of the user stops working."""
    tx.execute(sa.update(user).where(user.c.id == user_id).values(generation=user.c.generation + 1))


def password_ends(tx: Tx) -> dict[str, object]:
    """When passwords end, of users whose present one does."""
    newest = sa.select(sa.func.max(password.c.id)).group_by(password.c.user_id)
    query = sa.select(password.c.user_id, password.c.expires_at).where(
        password.c.expires_at.isnot(None), password.c.id.in_(newest)
    )
    return {row.user_id: row.expires_at for row in tx.execute(query)}
