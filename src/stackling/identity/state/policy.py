"""Policy documents as the Identity API keeps them for others (legacy), and what they are associated with."""

from sqlalchemy import Column, ForeignKey, String, Table, Text

from stackling.base.db import JSON, metadata

policy = Table(
    "identity_policy",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("type", String(255), nullable=False),
    Column("blob", Text, nullable=False),
    Column("extra", JSON, nullable=False),
)

policy_association = Table(
    "identity_policy_association",
    metadata,
    Column("id", String(64), primary_key=True),
    Column(
        "policy_id",
        String(64),
        ForeignKey("identity_policy.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("endpoint_id", String(64), ForeignKey("identity_endpoint.id", ondelete="CASCADE")),
    Column("service_id", String(64), ForeignKey("identity_service.id", ondelete="CASCADE")),
    Column("region_id", String(255), ForeignKey("identity_region.id", ondelete="CASCADE")),
)
