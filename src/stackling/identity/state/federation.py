"""Federation: identity providers and their protocols, mappings, service providers."""

from sqlalchemy import Boolean, Column, ForeignKey, Integer, String, Table, Text

from stackling.base.db import JSON, metadata

identity_provider = Table(
    "identity_provider",
    metadata,
    Column("id", String(64), primary_key=True),
    # Its users live there. No cascade: a domain that a provider uses is deleted after the provider.
    Column("domain_id", String(64), ForeignKey("identity_project.id"), nullable=False, index=True),
    Column("enabled", Boolean, nullable=False),
    Column("description", Text),
    Column("authorization_ttl", Integer),  # minutes that group memberships outlive a login
)

remote_id = Table(
    "identity_provider_remote_id",
    metadata,
    Column("remote_id", String(255), primary_key=True),
    Column(
        "idp_id",
        String(64),
        ForeignKey("identity_provider.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
)

mapping = Table(
    "identity_mapping",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("rules", JSON, nullable=False),
    Column("schema_version", String(5), nullable=False),
)

protocol = Table(
    "identity_federation_protocol",
    metadata,
    Column("idp_id", String(64), ForeignKey("identity_provider.id", ondelete="CASCADE"), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("mapping_id", String(64), nullable=False),  # upstream lets a mapping go before its protocols
    Column("remote_id_attribute", String(64)),
)

service_provider = Table(
    "identity_service_provider",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("auth_url", String(256), nullable=False),
    Column("sp_url", String(256), nullable=False),
    Column("description", Text),
    Column("enabled", Boolean, nullable=False),
    Column("relay_state_prefix", String(256), nullable=False),
)
