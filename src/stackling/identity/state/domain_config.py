"""Options of a domain that differ from the cloud's: how its users are kept."""

from sqlalchemy import Column, ForeignKey, String, Table

from stackling.base.db import JSON, metadata

domain_config = Table(
    "identity_domain_config",
    metadata,
    Column("domain_id", String(64), ForeignKey("identity_project.id", ondelete="CASCADE"), primary_key=True),
    Column("group", String(255), primary_key=True),
    Column("option", String(255), primary_key=True),
    Column("value", JSON),
)
