"""QoS specs: limits that a volume type brings along."""

import enum

from sqlalchemy import Column, DateTime, String, Table

from stackling.base.db import JSON, metadata, one_of


class Consumer(enum.StrEnum):
    FRONT_END = "front-end"
    BACK_END = "back-end"
    BOTH = "both"


qos_specs = Table(
    "qos_specs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    *one_of("consumer", Consumer),
    Column("specs", JSON, nullable=False),
    Column("created_at", DateTime, nullable=False),
)
