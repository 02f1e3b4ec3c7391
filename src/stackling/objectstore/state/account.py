"""Accounts: one a project, made at the first write."""

import enum

from sqlalchemy import Column, DateTime, String, Table, Text

from stackling.base.db import JSON, metadata, one_of


class State(enum.StrEnum):
    ACTIVE = "active"
    DELETING = "deleting"  # its containers and objects are being removed


account = Table(
    "objectstore_account",
    metadata,
    Column("id", String(36), primary_key=True),
    *one_of("state", State),
    Column("name", Text, nullable=False, unique=True),  # AUTH_ and a project's id
    Column("headers", JSON, nullable=False),  # metadata, quotas and keys, as they are sent
    Column("created_at", DateTime, nullable=False),
    Column("updated_at", DateTime, nullable=False),
)
