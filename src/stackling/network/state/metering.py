"""Metering labels and their rules: which traffic of a project's routers is to be told apart."""

from sqlalchemy import Boolean, Column, ForeignKey, String, Table

from stackling.base.db import metadata
from stackling.network.state.standard import standard

metering_label = Table(
    "metering_label",
    metadata,
    *standard(),
    Column("shared", Boolean, nullable=False, default=False),
)

metering_label_rule = Table(
    "metering_label_rule",
    metadata,
    *standard(),
    Column(
        "metering_label_id", ForeignKey("metering_label.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("direction", String(16), nullable=False),
    Column("remote_ip_prefix", String(64)),
    Column("source_ip_prefix", String(64)),
    Column("destination_ip_prefix", String(64)),
    Column("excluded", Boolean, nullable=False, default=False),
)
