"""The hosts that run servers, as they last reported themselves."""

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, DateTime, Integer, String, Table, Text

from stackling.base.db import JSON, Row, Tx, metadata

# A host that was silent for so long counts as down.
DOWN_AFTER = timedelta(seconds=60)

host = Table(
    "compute_host",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),  # the id that clients below 2.53 see
    Column("id", String(36), nullable=False, unique=True),
    Column("hostname", String(255), nullable=False, unique=True),
    Column("info", JSON, nullable=False),  # HostInfo
    Column("disabled", Boolean, nullable=False),
    Column("disabled_reason", String(255)),
    Column("forced_down", Boolean, nullable=False),
    Column("why", Text),  # why it did not answer when it was last asked
    Column("seen_at", DateTime),
    Column("created_at", DateTime, nullable=False),
    Column("updated_at", DateTime),
)


def everyone(tx: Tx) -> list[Row]:
    return list(tx.execute(sa.select(host).order_by(host.c.number)))


def by_name(tx: Tx, hostname: str) -> Row | None:
    return tx.execute(sa.select(host).where(host.c.hostname == hostname)).first()
