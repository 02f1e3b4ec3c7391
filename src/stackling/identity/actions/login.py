"""What a login sends, and whom and what it names."""

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, Struct, UnsetType

from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Unauthorized
from stackling.identity.actions.token import Token
from stackling.identity.state import project as projects
from stackling.identity.state import user as users

_REFUSED = "The request you have made requires authentication."


class DomainRef(Struct):
    id: str | None = None
    name: str | None = None


class UserRef(Struct):
    id: str | None = None
    name: str | None = None
    domain: DomainRef | None = None
    password: str | None = None
    passcode: str | None = None


class ByPassword(Struct):
    user: UserRef


class ByToken(Struct):
    id: str


class ByApplicationCredential(Struct):
    secret: str
    id: str | None = None
    name: str | None = None
    user: UserRef | None = None


class ByTotp(Struct):
    user: UserRef


class ByMapped(Struct):
    """`id` exchanges a token of a user from an identity provider; else a signed token of the provider proves him.

    `access_token` is ours: upstream knows only the header `Authorization: Bearer`.
    """

    id: str | None = None
    identity_provider: str | None = None
    protocol: str | None = None
    access_token: str | None = None


class ByOauth1(Struct):
    """The header `Authorization` proves; what stands here is nothing."""

    signed: Any = None  # the request as it was signed, put here by the API


class Identity(Struct):
    methods: list[str]
    password: ByPassword | None = None
    token: ByToken | None = None
    application_credential: ByApplicationCredential | None = None
    totp: ByTotp | None = None
    oauth1: ByOauth1 | None = None
    mapped: ByMapped | None = None
    openid: ByMapped | None = None
    saml2: ByMapped | None = None


class ProjectRef(Struct):
    id: str | None = None
    name: str | None = None
    domain: DomainRef | None = None


class SystemRef(Struct):
    all: bool | None = None


class TrustRef(Struct):
    id: str


class Scope(Struct):
    project: ProjectRef | None = None
    domain: DomainRef | None = None
    system: SystemRef | None = None
    trust: TrustRef | None = msgspec.field(default=None, name="OS-TRUST:trust")
    unscoped: Any = UNSET


class Auth(Struct):
    """What a login sends under `auth`."""

    identity: Identity
    scope: Scope | str | UnsetType | None = UNSET


class Proof(Struct):
    """Who was proven to be logging in, and what the token must remember of it."""

    user_id: str
    methods: list[str]
    expires_at: datetime | None = None
    parent: Token | None = None
    application_credential: Row | None = None
    access_token: Row | None = None
    certificate: bytes = b""  # SHA-256 of the client certificate that the token is bound to
    federation: tuple[str, str] | None = None  # identity provider and protocol that the user came by


def refuse(detail: str) -> Unauthorized:
    return Unauthorized(_REFUSED, detail=detail)


def find_user(tx: Tx, ref: UserRef) -> Row | None:
    """The user that a login names, by id or by name and domain, if he and his domain are enabled."""
    row = None
    if ref.id:
        row = users.find(tx, ref.id)
    elif ref.name is not None:
        if ref.domain is None or not (ref.domain.id or ref.domain.name):
            raise BadRequest(
                "Expecting to find domain in user. The server could not comply with the request since it is either malformed or otherwise incorrect."
            )
        domain = find_domain(tx, ref.domain)
        row = users.find_by_name(tx, ref.name, domain.id) if domain is not None else None
    else:
        raise BadRequest(
            "Expecting to find id or name in user. The server could not comply with the request since it is either malformed or otherwise incorrect."
        )
    return row


def find_domain(tx: Tx, ref: DomainRef) -> Row | None:
    if ref.id:
        return projects.find_domain(tx, ref.id)
    table = projects.project
    return tx.execute(
        sa.select(table).where(table.c.is_domain.is_(True), table.c.name == ref.name)
    ).one_or_none()


def usable(tx: Tx, user: Row | None) -> bool:
    if user is None or not user.enabled:
        return False
    domain = projects.find(tx, user.domain_id)
    return domain is not None and domain.enabled
