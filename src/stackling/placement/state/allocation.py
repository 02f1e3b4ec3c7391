"""Who uses how much of what: one consumer (a server), one row per provider and resource class."""

from sqlalchemy import Column, DateTime, Index, Integer, String, Table

from stackling.base.db import metadata

consumer = Table(
    "consumer",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("project_id", String(255), nullable=False),
    Column("user_id", String(255), nullable=False),
    Column("consumer_type", String(255)),  # null: made by a call below 1.38
    Column("created_at", DateTime, nullable=False),
    Column("updated_at", DateTime, nullable=False),
    Index("ix_consumer_project_id", "project_id", "user_id"),
)

allocation = Table(
    "allocation",
    metadata,
    Column("consumer_id", String(36), primary_key=True),
    Column("provider_id", String(36), primary_key=True),
    Column("resource_class", String(255), primary_key=True),
    Column("used", Integer, nullable=False),
    Index("ix_allocation_provider_id", "provider_id", "resource_class"),
)
