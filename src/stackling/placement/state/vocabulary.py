"""The words that are in use besides the standard ones: custom traits and custom resource classes."""

from sqlalchemy import Column, DateTime, String, Table

from stackling.base.db import metadata

custom_trait = Table(
    "trait",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("created_at", DateTime, nullable=False),
)

custom_class = Table(
    "resource_class",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("created_at", DateTime, nullable=False),
)
