"""The number that changes whenever anything a token's meaning depends on has changed."""

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Integer, Table

from stackling.base import db
from stackling.base.db import Database, Tx, metadata

identity_revision = Table(
    "identity_revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
)


def read(tx: Tx) -> int:
    """The number now; 0 in a database that was never bootstrapped."""
    return tx.execute(_READ).scalar() or 0


def glance(database: Database) -> int:
    """The number now, read on its own, past SQLAlchemy's layers."""
    row = database.glance(LATEST)
    return row[0] if row else 0


def bump(tx: Tx) -> None:
    """Make every process look at the database again before it believes a token that it knows."""
    db.upsert(tx, identity_revision, {"id": 1, "number": 1}, {"number": _ONE_MORE}, key=("id",))
    db.announce(tx, read)


_ONE_MORE = identity_revision.c.number + 1
LATEST = "SELECT number FROM identity_revision WHERE id = 1"
_READ = sa.select(identity_revision.c.number).where(identity_revision.c.id == 1)
