"""What compute remembers of a server's ports; all else belongs to the network service."""

import enum

import sqlalchemy as sa
from sqlalchemy import Column, DateTime, String, Table

from stackling.base.db import Row, Tx, metadata, one_of


class Plugged(enum.StrEnum):
    """Whether the port is wanted on the server, or is to be unplugged and given back."""

    WANTED = "wanted"
    UNPLUGGING = "unplugging"


nic = Table(
    "server_nic",
    metadata,
    Column("port_id", String(36), primary_key=True),
    Column("server_id", String(36), nullable=False, index=True),
    *one_of("state", Plugged),
    Column("tag", String(60)),
    Column("created_at", DateTime, nullable=False),
)


def of(tx: Tx, server_id: str) -> dict[str, Row]:
    """By port id."""
    return {r.port_id: r for r in tx.execute(sa.select(nic).where(nic.c.server_id == server_id))}
