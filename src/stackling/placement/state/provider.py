"""Resource providers: hosts, and what is nested below them."""

from sqlalchemy import Column, DateTime, Index, Integer, String, Table

from stackling.base.db import metadata

provider = Table(
    "resource_provider",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("generation", Integer, nullable=False),
    Column("parent_id", String(36), index=True),
    Column("root_id", String(36), nullable=False, index=True),
    Column("created_at", DateTime, nullable=False),
    Column("updated_at", DateTime),
)

provider_trait = Table(
    "resource_provider_trait",
    metadata,
    Column("provider_id", String(36), primary_key=True),
    Column("trait", String(255), primary_key=True),
    Index("ix_resource_provider_trait_trait", "trait"),
)

provider_aggregate = Table(
    "resource_provider_aggregate",
    metadata,
    Column("provider_id", String(36), primary_key=True),
    Column("aggregate_id", String(36), primary_key=True),
    Index("ix_resource_provider_aggregate_aggregate_id", "aggregate_id"),
)
