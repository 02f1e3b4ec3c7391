"""Volumes and their metadata."""

import enum
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, Index, Integer, String, Table, Text

from stackling.base.db import JSON, Tx, metadata, one_of, resource
from stackling.base.statement import Statement, among


class State(enum.StrEnum):
    """Upstream's status strings. The ones below `ERROR_MANAGING` only an administrator's reset brings about."""

    CREATING = "creating"
    DOWNLOADING = "downloading"
    AVAILABLE = "available"
    RESERVED = "reserved"
    ATTACHING = "attaching"
    IN_USE = "in-use"
    DETACHING = "detaching"
    EXTENDING = "extending"
    RETYPING = "retyping"
    DELETING = "deleting"
    ERROR = "error"
    ERROR_EXTENDING = "error_extending"
    ERROR_DELETING = "error_deleting"
    ERROR_RESTORING = "error_restoring"
    ERROR_BACKING_UP = "error_backing-up"
    ERROR_MANAGING = "error_managing"
    MAINTENANCE = "maintenance"
    MANAGING = "managing"
    UPLOADING = "uploading"
    BACKING_UP = "backing-up"
    RESTORING_BACKUP = "restoring-backup"
    AWAITING_TRANSFER = "awaiting-transfer"


# States that hold a volume for good: nothing is on its way, and what was asked is done or has failed.
DELETABLE = (State.AVAILABLE, State.ERROR, State.ERROR_EXTENDING, State.ERROR_RESTORING, State.ERROR_MANAGING)

volume = Table(
    "volume",
    metadata,
    *resource(),
    Column("user_id", String(64), nullable=False),
    *one_of("state", State),
    Column("name", String(255)),
    Column("description", String(255)),
    Column("size", Integer, nullable=False),  # GiB
    Column("wanted_size", Integer, nullable=False),  # GiB; larger than `size` while the volume grows
    Column("extended_by", JSON),  # {user_id, project_id, request_id} of who asked for that last
    Column("volume_type_id", String(36), nullable=False),
    Column("availability_zone", String(255), nullable=False),
    Column("host", String(255)),  # whose backend has it; null until one was chosen
    Column("bootable", Boolean, nullable=False, default=False),
    Column("readonly", Boolean),  # null: nobody said
    Column("multiattach", Boolean, nullable=False, default=False),
    Column("image_id", String(36)),  # what its content came from, one of three
    Column("snapshot_id", String(36)),
    Column("source_volid", String(36)),
    Column("near", Text),  # ids of volumes that it must share a host with, comma-separated
    Column("far", Text),  # and of those that it must not
    Column("wanted_type_id", String(36)),  # the type that it is being made to fit
    Column("upload_image_id", String(36)),  # the image that it is being copied to
    Column("upload_format", String(20)),
    Column("server_id", String(36)),  # the server that waits for it to become available
    Column("request_id", String(64)),
    Index("ix_volume_created_at_id", "created_at", "id"),
    Index("ix_volume_snapshot_id", "snapshot_id"),
    Index("ix_volume_source_volid", "source_volid"),
    Index("ix_volume_volume_type_id", "volume_type_id"),
)

volume_metadata = Table(
    "volume_metadata",
    metadata,
    Column("volume_id", String(36), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("value", String(255), nullable=False),
)

volume_image_metadata = Table(
    "volume_image_metadata",
    metadata,
    Column("volume_id", String(36), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("value", Text),
)


def _of_many(table: sa.Table) -> Statement:
    return Statement(sa.select(table).where(among(table.c.volume_id, "ids")).order_by(table.c.key))


_METADATA, _IMAGE_METADATA = _of_many(volume_metadata), _of_many(volume_image_metadata)


def _items_of(tx: Tx, statement: Statement, volume_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}
    for row in statement.all(tx, ids=list(volume_ids)):
        made.setdefault(row.volume_id, {})[row.key] = row.value
    return made


def metadata_of(tx: Tx, volume_ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """The metadata of many volumes in one statement, by volume id."""
    return _items_of(tx, _METADATA, volume_ids)


def image_metadata_of(tx: Tx, volume_ids: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """What volumes know of the images they were made from, by volume id."""
    return _items_of(tx, _IMAGE_METADATA, volume_ids)
