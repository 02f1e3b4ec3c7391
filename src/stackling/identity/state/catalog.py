"""Regions, services and endpoints, and the filters that say which project sees which endpoint."""

from sqlalchemy import Boolean, Column, ForeignKey, String, Table, Text

from stackling.base.db import JSON, metadata

region = Table(
    "identity_region",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("description", Text, nullable=False, server_default=""),
    Column("parent_region_id", String(255), ForeignKey("identity_region.id"), index=True),
    Column("extra", JSON, nullable=False),
)

service = Table(
    "identity_service",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("type", String(255), nullable=False),
    Column("name", String(255)),
    Column("enabled", Boolean, nullable=False),
    Column("extra", JSON, nullable=False),
)

endpoint = Table(
    "identity_endpoint",
    metadata,
    Column("id", String(64), primary_key=True),
    Column(
        "service_id",
        String(64),
        ForeignKey("identity_service.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("interface", String(8), nullable=False),
    Column("region_id", String(255), ForeignKey("identity_region.id"), index=True),
    Column("url", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("extra", JSON, nullable=False),
    Column("path", String(255)),  # set while the URL is this path below the cloud's own, and follows it
)

endpoint_group = Table(
    "identity_endpoint_group",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("description", Text),
    Column("filters", JSON, nullable=False),
)

project_endpoint = Table(
    "identity_project_endpoint",
    metadata,
    Column("project_id", String(64), ForeignKey("identity_project.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "endpoint_id", String(64), ForeignKey("identity_endpoint.id", ondelete="CASCADE"), primary_key=True
    ),
)

project_endpoint_group = Table(
    "identity_project_endpoint_group",
    metadata,
    Column("project_id", String(64), ForeignKey("identity_project.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "endpoint_group_id",
        String(64),
        ForeignKey("identity_endpoint_group.id", ondelete="CASCADE"),
        primary_key=True,
    ),
)
