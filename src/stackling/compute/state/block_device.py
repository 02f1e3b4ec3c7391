"""A server's disks: how each came to be, and the volume behind it, if there is one."""

import enum

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, DateTime, Integer, String, Table

from stackling.base.db import Row, Tx, metadata, one_of
from stackling.base.statement import Statement, among


class Attached(enum.StrEnum):
    """How far an attachment is."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"


block_device = Table(
    "block_device",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("server_id", String(36), nullable=False, index=True),
    Column("project_id", String(64), nullable=False),
    *one_of("state", Attached),
    Column("place", Integer, nullable=False),  # in the order in which they were given
    Column("source", String(16), nullable=False),  # image, volume, snapshot, blank
    Column("destination", String(16), nullable=False),  # volume or local
    Column("volume_id", String(36), index=True),
    Column("attachment_id", String(36)),
    Column("boot_index", Integer),
    Column("device", String(64)),
    Column("size_gib", Integer),  # of local disks, swap's in MiB; of a volume as the server last saw it
    Column("guest_format", String(32)),
    Column("delete_on_termination", Boolean, nullable=False),
    Column("tag", String(60)),
    Column("created_at", DateTime, nullable=False),
)


_VOLUMES = Statement(
    sa.select(block_device.c.server_id, block_device.c.volume_id, block_device.c.delete_on_termination)
    .where(among(block_device.c.server_id, "servers"), block_device.c.volume_id.isnot(None))
    .order_by(block_device.c.place)
)


def of(tx: Tx, server_id: str) -> list[Row]:
    """The disks of one server, in the order in which they were given."""
    return _OF_SERVER.all(tx, server_id=server_id)


_OF_SERVER = Statement(
    sa.select(block_device)
    .where(block_device.c.server_id == sa.bindparam("server_id"))
    .order_by(block_device.c.place, block_device.c.id)
)


def volumes_of(tx: Tx, server_ids: list[str]) -> dict[str, list[Row]]:
    """The volumes of many servers: rows (server_id, volume_id, delete_on_termination)."""
    return _VOLUMES.by(tx, "server_id", servers=server_ids)
