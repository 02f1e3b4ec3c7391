"""Unified limits: what a project may hold of a service's resource, by default and in particular."""

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table, Text

from stackling.base.db import metadata

registered_limit = Table(
    "identity_registered_limit",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("service_id", String(64), ForeignKey("identity_service.id"), nullable=False),
    Column("region_id", String(255), ForeignKey("identity_region.id")),
    Column("resource_name", String(255), nullable=False),
    Column("default_limit", Integer, nullable=False),
    Column("description", Text),
    # What the configuration said when it last set the default; null for what an administrator registered.
    Column("configured", Integer),
    Index("uq_identity_registered_limit", "service_id", "resource_name", "region_id", unique=True),
)

limit = Table(
    "identity_limit",
    metadata,
    Column("id", String(64), primary_key=True),
    Column(
        "registered_limit_id",
        String(64),
        ForeignKey("identity_registered_limit.id"),
        nullable=False,
    ),
    Column("project_id", String(64), ForeignKey("identity_project.id", ondelete="CASCADE"), index=True),
    Column("domain_id", String(64), ForeignKey("identity_project.id", ondelete="CASCADE"), index=True),
    Column("resource_limit", Integer, nullable=False),
    Column("description", Text),
    Index("uq_identity_limit_project", "registered_limit_id", "project_id", unique=True),
    Index("uq_identity_limit_domain", "registered_limit_id", "domain_id", unique=True),
)
