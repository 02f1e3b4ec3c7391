"""What users log in with besides passwords: application credentials, access rules, trusts, keys, OAuth tokens."""

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, DateTime, ForeignKey, Integer, String, Table, Text, UniqueConstraint

from stackling.base.db import JSON, Row, Tx, metadata

credential = Table(
    "identity_credential",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user_id", String(64), nullable=False, index=True),
    Column("project_id", String(64), index=True),
    Column("type", String(255), nullable=False),
    Column("blob", Text, nullable=False),  # encrypted with the keys in <state_dir>/keys/credential
    Column("extra", JSON, nullable=False),
)

application_credential = Table(
    "identity_application_credential",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user_id", String(64), ForeignKey("identity_user.id", ondelete="CASCADE"), nullable=False),
    Column(
        "project_id",
        String(64),
        ForeignKey("identity_project.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("name", String(255), nullable=False),
    Column("description", Text),
    Column("secret_hash", String(255), nullable=False),
    Column("expires_at", DateTime),
    Column("unrestricted", Boolean, nullable=False),
    Column("system", String(64)),
    UniqueConstraint("user_id", "name"),
)

application_credential_role = Table(
    "identity_application_credential_role",
    metadata,
    Column(
        "application_credential_id",
        String(64),
        ForeignKey("identity_application_credential.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("role_id", String(64), ForeignKey("identity_role.id", ondelete="CASCADE"), primary_key=True),
)

access_rule = Table(
    "identity_access_rule",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user_id", String(64), ForeignKey("identity_user.id", ondelete="CASCADE"), nullable=False),
    Column("service", String(255), nullable=False),
    Column("path", String(255), nullable=False),
    Column("method", String(16), nullable=False),
    UniqueConstraint("user_id", "service", "path", "method"),
)

application_credential_access_rule = Table(
    "identity_application_credential_access_rule",
    metadata,
    Column(
        "application_credential_id",
        String(64),
        ForeignKey("identity_application_credential.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("access_rule_id", String(64), ForeignKey("identity_access_rule.id"), primary_key=True, index=True),
)

trust = Table(
    "identity_trust",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("trustor_user_id", String(64), nullable=False, index=True),
    Column("trustee_user_id", String(64), nullable=False, index=True),
    Column("project_id", String(64)),
    Column("impersonation", Boolean, nullable=False),
    Column("expires_at", DateTime),
    Column("remaining_uses", Integer),
    Column("redelegation_count", Integer, nullable=False),
    Column("redelegated_trust_id", String(64)),
    Column("extra", JSON, nullable=False),
)

trust_role = Table(
    "identity_trust_role",
    metadata,
    Column("trust_id", String(64), ForeignKey("identity_trust.id", ondelete="CASCADE"), primary_key=True),
    Column("role_id", String(64), ForeignKey("identity_role.id", ondelete="CASCADE"), primary_key=True),
)

consumer = Table(
    "identity_oauth_consumer",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("description", Text),
    Column("secret", Text, nullable=False),  # encrypted: a signature is checked with the secret itself
    Column("extra", JSON, nullable=False),
)

request_token = Table(
    "identity_oauth_request_token",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("secret", Text, nullable=False),
    Column("verifier", String(64)),
    Column("authorizing_user_id", String(64)),
    Column("project_id", String(64), nullable=False),
    Column("role_ids", JSON),
    Column(
        "consumer_id",
        String(64),
        ForeignKey("identity_oauth_consumer.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("expires_at", DateTime),
)

access_token = Table(
    "identity_oauth_access_token",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("secret", Text, nullable=False),
    Column(
        "user_id", String(64), ForeignKey("identity_user.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("project_id", String(64), nullable=False),
    Column("role_ids", JSON, nullable=False),
    Column(
        "consumer_id",
        String(64),
        ForeignKey("identity_oauth_consumer.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("expires_at", DateTime),
)

# One row a token that was revoked by itself; gone once the token would have expired anyway.
revocation = Table(
    "identity_revocation",
    metadata,
    Column("audit_id", String(32), primary_key=True),
    Column("expires_at", DateTime, nullable=False, index=True),
    Column("revoked_at", DateTime, nullable=False),
)


def find_application_credential(tx: Tx, id: str) -> Row | None:
    table = application_credential
    return tx.execute(sa.select(table).where(table.c.id == id)).one_or_none()


def application_credential_roles(tx: Tx, id: str) -> list[str]:
    table = application_credential_role
    query = sa.select(table.c.role_id).where(table.c.application_credential_id == id)
    return list(tx.execute(query).scalars())


def access_rules_of(tx: Tx, id: str) -> list[Row]:
    """The access rules of an application credential."""
    link = application_credential_access_rule
    query = (
        sa.select(access_rule)
        .join(link, link.c.access_rule_id == access_rule.c.id)
        .where(link.c.application_credential_id == id)
        .order_by(access_rule.c.id)
    )
    return list(tx.execute(query))


def find_trust(tx: Tx, id: str) -> Row | None:
    return tx.execute(sa.select(trust).where(trust.c.id == id)).one_or_none()


def trust_roles(tx: Tx, id: str) -> list[str]:
    return list(tx.execute(sa.select(trust_role.c.role_id).where(trust_role.c.trust_id == id)).scalars())
