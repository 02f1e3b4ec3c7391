"""Volume types, their extra specs, and the projects that may use private ones."""

from sqlalchemy import Boolean, Column, DateTime, String, Table, Text

from stackling.base.db import metadata

volume_type = Table(
    "volume_type",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("description", String(255)),
    Column("is_public", Boolean, nullable=False),
    Column("qos_specs_id", String(36), index=True),
    Column("created_at", DateTime, nullable=False),
    Column("updated_at", DateTime),
)

volume_type_spec = Table(
    "volume_type_spec",
    metadata,
    Column("volume_type_id", String(36), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("value", Text, nullable=False),
)

volume_type_access = Table(
    "volume_type_access",
    metadata,
    Column("volume_type_id", String(36), primary_key=True),
    Column("project_id", String(64), primary_key=True),
)
