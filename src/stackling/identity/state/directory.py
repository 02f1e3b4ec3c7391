"""Which users and groups are kept in a directory, and who they are there.

Their rows stand among all others, as copies of what the directory said last, so that roles, lists and tokens need no
second way. One that the directory has no more is `gone`: nobody finds it, and what he was given waits for his return.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, DateTime, ForeignKey, Index, String, Table

from stackling.base.db import Row, Tx, metadata

USER, GROUP = "user", "group"

directory_entry = Table(
    "identity_directory_entry",
    metadata,
    Column("id", String(64), primary_key=True),  # of the user or group
    Column("kind", String(8), nullable=False),
    Column("domain_id", String(64), ForeignKey("identity_project.id", ondelete="CASCADE"), nullable=False),
    Column("local_id", String(255), nullable=False),
    Column("checked_at", DateTime, nullable=False),
    Column("gone", Boolean, nullable=False),
)
Index("ix_identity_directory_entry_domain_id", directory_entry.c.domain_id, directory_entry.c.kind)


def find(tx: Tx, id: str) -> Row | None:
    return tx.execute(_ENTRY, {"id": id}).one_or_none()


def present(column: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """That a user or group is not one that its directory has no more."""
    table = directory_entry.c
    return ~sa.exists().where(table.id == column, table.gone.is_(True))


def oldest(tx: Tx, ids: list[str]) -> datetime | None:
    """When the one of `ids` whose directory was asked longest ago was asked; None where none is in a directory."""
    return tx.execute(_OLDEST, {"ids": ids}).scalar()


_ENTRY = sa.select(directory_entry).where(directory_entry.c.id == sa.bindparam("id"))
_OLDEST = sa.select(sa.func.min(directory_entry.c.checked_at)).where(
    directory_entry.c.id.in_(sa.bindparam("ids", expanding=True))
)
