"""Offers of volumes to other projects."""

from sqlalchemy import Boolean, Column, DateTime, String, Table

from stackling.base.db import metadata

transfer = Table(
    "volume_transfer",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("project_id", String(64), nullable=False, index=True),
    Column("volume_id", String(36), nullable=False, unique=True),
    Column("name", String(255)),
    Column("key_digest", String(64), nullable=False),  # SHA-256 of id and key; the key itself isn't kept
    Column("no_snapshots", Boolean, nullable=False),
    Column("created_at", DateTime, nullable=False),
    Column("updated_at", DateTime),
)
