"""Which network a project got for the asking."""

from sqlalchemy import Column, ForeignKey, String, Table

from stackling.base.db import metadata

auto_allocated_topology = Table(
    "auto_allocated_topology",
    metadata,
    Column("project_id", String(64), primary_key=True),
    Column("network_id", ForeignKey("network.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("router_id", ForeignKey("router.id", ondelete="CASCADE"), nullable=False, index=True),
)
