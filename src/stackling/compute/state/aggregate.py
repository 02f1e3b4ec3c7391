"""Host aggregates; the one whose metadata names an availability zone gives it to its hosts."""

import sqlalchemy as sa
from sqlalchemy import Column, DateTime, Integer, String, Table

from stackling.base.db import JSON, Row, Tx, metadata
from stackling.base.statement import Statement

aggregate = Table(
    "aggregate",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("uuid", String(36), nullable=False, unique=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("meta", JSON, nullable=False),
    Column("created_at", DateTime, nullable=False),
    Column("updated_at", DateTime),
)

aggregate_host = Table(
    "aggregate_host",
    metadata,
    Column("aggregate_number", Integer, primary_key=True),
    Column("hostname", String(255), primary_key=True),
)


_ZONES = Statement(
    sa.select(aggregate_host.c.hostname, aggregate.c.meta).join(
        aggregate, aggregate.c.number == aggregate_host.c.aggregate_number
    )
)


def hosts_of(tx: Tx) -> dict[int, list[str]]:
    made: dict[int, list[str]] = {}
    for row in tx.execute(sa.select(aggregate_host).order_by(aggregate_host.c.hostname)):
        made.setdefault(row.aggregate_number, []).append(row.hostname)
    return made


def everyone(tx: Tx) -> list[Row]:
    return list(tx.execute(sa.select(aggregate).order_by(aggregate.c.number)))


def zones(tx: Tx, default: str) -> "Zones":
    """The availability zone of each host that has one of its own; all others are in `default`."""
    return Zones(
        default,
        {r.hostname: r.meta["availability_zone"] for r in _ZONES.all(tx) if r.meta.get("availability_zone")},
    )


class Zones:
    """Which availability zone a host is in."""

    def __init__(self, default: str, named: dict[str, str]) -> None:
        self.default, self.named = default, named

    def of(self, hostname: str | None) -> str:
        return self.named.get(hostname or "", self.default)
