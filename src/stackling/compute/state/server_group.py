"""Server groups: which servers should share a host, and which must not."""

from sqlalchemy import Column, String, Table

from stackling.base.db import JSON, metadata, resource

server_group = Table(
    "server_group",
    metadata,
    *resource(),
    Column("user_id", String(255), nullable=False),
    Column("name", String(255), nullable=False),
    Column("policy", String(32), nullable=False),
    Column("rules", JSON, nullable=False),
)
