"""What an administrator said about the backends of hosts."""

from sqlalchemy import Boolean, Column, DateTime, String, Table

from stackling.base.db import metadata

volume_service = Table(
    "volume_service",
    metadata,
    Column("host", String(255), primary_key=True),
    Column("disabled", Boolean, nullable=False),
    Column("frozen", Boolean, nullable=False, default=False),  # nothing on it may come or go
    Column("reason", String(255)),
    Column("updated_at", DateTime, nullable=False),
)
