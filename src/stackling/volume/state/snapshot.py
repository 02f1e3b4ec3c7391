"""Snapshots of volumes and their metadata."""

import enum

from sqlalchemy import Column, Index, Integer, String, Table

from stackling.base.db import metadata, one_of, resource


class State(enum.StrEnum):
    CREATING = "creating"
    AVAILABLE = "available"
    DELETING = "deleting"
    ERROR = "error"
    ERROR_DELETING = "error_deleting"
    BACKING_UP = "backing-up"
    RESTORING = "restoring"
    UNMANAGING = "unmanaging"


snapshot = Table(
    "snapshot",
    metadata,
    *resource(),
    Column("user_id", String(64), nullable=False),
    *one_of("state", State),
    Column("name", String(255)),
    Column("description", String(255)),
    Column("volume_id", String(36), nullable=False, index=True),
    Column("volume_type_id", String(36), nullable=False),
    Column("size", Integer, nullable=False),  # GiB of the volume
    Column("host", String(255)),
    Column("request_id", String(64)),
    Index("ix_snapshot_created_at_id", "created_at", "id"),
)

snapshot_metadata = Table(
    "snapshot_metadata",
    metadata,
    Column("snapshot_id", String(36), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("value", String(255), nullable=False),
)
