"""Messages: why something that ran after the request went wrong."""

from sqlalchemy import Column, DateTime, Index, String, Table, Text

from stackling.base.db import metadata

message = Table(
    "volume_message",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("project_id", String(64), nullable=False, index=True),
    Column("event_id", String(64), nullable=False),
    Column("resource_type", String(64), nullable=False),
    Column("resource_id", String(36), nullable=False),
    Column("request_id", String(64)),
    Column("says", Text, nullable=False),
    Column("created_at", DateTime, nullable=False),
    Column("until", DateTime, nullable=False),
    Index("ix_volume_message_created_at_id", "created_at", "id"),
)
