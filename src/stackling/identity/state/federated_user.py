"""Users that came from identity providers, the groups they hold for a time, and how providers speak OpenID Connect."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    String,
    Table,
    UniqueConstraint,
)

from stackling.base.db import JSON, Row, Tx, metadata
from stackling.base.statement import Statement
from stackling.identity.state.federation import identity_provider, mapping, protocol

# A provider without a row here speaks no OpenID Connect.
provider_oidc = Table(
    "identity_provider_oidc",
    metadata,
    Column("idp_id", String(64), ForeignKey("identity_provider.id", ondelete="CASCADE"), primary_key=True),
    Column("options", JSON, nullable=False),  # oidc.provider.Options, its secret encrypted
)

# A provider without a row here speaks no SAML2.
provider_saml = Table(
    "identity_provider_saml",
    metadata,
    Column("idp_id", String(64), ForeignKey("identity_provider.id", ondelete="CASCADE"), primary_key=True),
    Column("options", JSON, nullable=False),  # saml.metadata.Options
)

# Assertions that let somebody in, until they are over: none does so twice.
saml_assertion = Table(
    "identity_saml_assertion",
    metadata,
    Column("id", String(64), primary_key=True),  # SHA-256 of issuer and id
    Column("ends_at", DateTime, nullable=False, index=True),
)

# Who a user is at his provider. `shadow`: the user was made by a login and has no other way in.
federated_user = Table(
    "identity_federated_user",
    metadata,
    Column("idp_id", String(64), primary_key=True),
    Column("protocol_id", String(64), primary_key=True),
    Column("unique_id", String(255), primary_key=True),
    Column(
        "user_id", String(64), ForeignKey("identity_user.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("display_name", String(255), nullable=False),
    Column("shadow", Boolean, nullable=False),
    UniqueConstraint("user_id", "idp_id", "protocol_id"),
    ForeignKeyConstraint(
        ["idp_id", "protocol_id"],
        [protocol.c.idp_id, protocol.c.id],
        name="fk_identity_federated_user_protocol",
        ondelete="CASCADE",
    ),
)

# Groups that a mapping put a user in. They hold for a time, which each login renews.
federated_membership = Table(
    "identity_federated_membership",
    metadata,
    Column("user_id", String(64), ForeignKey("identity_user.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "group_id",
        String(64),
        ForeignKey("identity_group.id", ondelete="CASCADE"),
        primary_key=True,
        index=True,
    ),
    Column(
        "idp_id",
        String(64),
        ForeignKey("identity_provider.id", ondelete="CASCADE"),
        primary_key=True,
        index=True,
    ),
    Column("expires_at", DateTime, nullable=False),
)


def find_provider(tx: Tx, idp_id: str) -> Row | None:
    table = identity_provider
    return tx.execute(sa.select(table).where(table.c.id == idp_id)).one_or_none()


def find_protocol(tx: Tx, idp_id: str, protocol_id: str) -> Row | None:
    table = protocol.c
    query = sa.select(protocol).where(table.idp_id == idp_id, table.id == protocol_id)
    return tx.execute(query).one_or_none()


def find_mapping(tx: Tx, mapping_id: str) -> Row | None:
    return tx.execute(sa.select(mapping).where(mapping.c.id == mapping_id)).one_or_none()


def groups_of(tx: Tx, user_id: str, idp_id: str, now: datetime) -> list[str]:
    """The groups that a user is in by what the provider said of him, by id."""
    table = federated_membership.c
    query = sa.select(table.group_id).where(
        table.user_id == user_id, table.idp_id == idp_id, table.expires_at > now
    )
    return list(tx.execute(query.order_by(table.group_id)).scalars())


def providers_of(tx: Tx, user_id: str) -> list[Row]:
    """Where a user comes from: (idp_id, protocol_id, unique_id, shadow, enabled), `enabled` the provider's."""
    return _PROVIDERS.all(tx, user_id=user_id)


def first_end(tx: Tx, user_id: str, now: datetime) -> datetime | None:
    """When the first of a user's groups that hold for a time is over."""
    row = _FIRST_END.first(tx, user_id=user_id, now=now)
    return None if row is None else row.first_end


_PROVIDERS = Statement(
    sa.select(
        federated_user.c.idp_id,
        federated_user.c.protocol_id,
        federated_user.c.unique_id,
        federated_user.c.shadow,
        identity_provider.c.enabled,
    )
    .join(identity_provider, identity_provider.c.id == federated_user.c.idp_id)
    .where(federated_user.c.user_id == sa.bindparam("user_id"))
    .order_by(federated_user.c.idp_id, federated_user.c.protocol_id)
)
_FIRST_END = Statement(
    sa.select(sa.func.min(federated_membership.c.expires_at).label("first_end")).where(
        federated_membership.c.user_id == sa.bindparam("user_id"),
        federated_membership.c.expires_at > sa.bindparam("now"),
    )
)
