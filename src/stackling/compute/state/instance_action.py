"""What was done to servers, by whom, and how it went."""

from sqlalchemy import Column, DateTime, Index, Integer, String, Table, Text

from stackling.base.db import JSON, metadata

instance_action = Table(
    "instance_action",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("server_id", String(36), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("action", String(255), nullable=False),
    Column("user_id", String(255)),
    Column("project_id", String(255)),
    Column("message", Text),
    Column("started_at", DateTime, nullable=False),
    Column("updated_at", DateTime, nullable=False),
    Column(
        "events", JSON, nullable=False
    ),  # [{event, start, finish, result, host, details}], times as ISO texts
    Index("ix_instance_action_server_id", "server_id", "request_id"),
)
