"""Tokens: issuing them, whether they still work, and ending them.

What a token's text says is `token_format`'s, what it means `token_meaning`'s. What was found is kept for each token,
and believed for as long as `identity_revision` stays as it was, which the database announces (`Database.announced`):
whatever is revoked stops working at once in every process, and a known token costs no query meanwhile.
"""

import base64
import secrets
import threading
import weakref
from collections.abc import Callable
from datetime import datetime, timedelta

import sqlalchemy as sa

from stackling.base import db
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Database, Row, Tx
from stackling.base.errors import NotFound, Unauthorized
from stackling.identity.actions import catalog, directory
from stackling.identity.actions.keys import EXPIRED_WINDOW
from stackling.identity.actions.payload import (
    DOMAIN,
    METHODS,
    PROJECT,
    SYSTEM,
    UNSCOPED,
    Payload,
    micros,
    pack,
)
from stackling.identity.actions.token_format import decode, encode
from stackling.identity.actions.token_meaning import REFUSED, Token, read
from stackling.identity.state import credential, revision

__all__ = ["DOMAIN", "METHODS", "PROJECT", "SYSTEM", "UNSCOPED", "Payload", "Token", "Unauthorized"]

_KEPT = 20_000  # tokens remembered a process


class Tokens:
    """The tokens of one cloud as this process knows them."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = weakref.ref(cloud)
        self._lock = threading.Lock()
        self._known: dict[str, Token] = {}
        self._catalog: tuple[int, list[Row], list[dict[str, str]]] = -1, [], []
        self._revision: tuple[bytes | int | None, int] = None, -1

    def look(self, text: str, *, allow_expired: bool = False, revision_now: int | None = None) -> Token:
        """The token behind `text`. Raises Unauthorized when it does not work (any more).

        `revision_now` is the revision that this request has seen already, when it looked at its bearer.
        """
        cloud = self._cloud()
        if cloud is None:
            raise Unauthorized(REFUSED, detail="the cloud is gone")
        now = cloud.clock.now()
        latest = now - (EXPIRED_WINDOW if allow_expired else timedelta())
        kept = self._known.get(text)
        if kept is not None:
            number = self._revision_now(cloud.db) if revision_now is None else revision_now
            if kept.revision != number:
                kept = None
        payload = decode(cloud, text) if kept is None else kept.payload
        if (payload.expires_at if kept is None else kept.caller.expires_at) <= latest:
            raise Unauthorized(REFUSED, detail="the token has expired")
        if kept is not None and (kept.until is None or kept.until > now):
            return kept
        directory.freshen(cloud, payload.user_id, payload.trust_id)
        with cloud.db.read() as tx:
            number = revision.read(tx)  # before all else: what changes meanwhile has a higher one
            found = read(tx, cloud, text, payload, number, self.catalog)
        self._keep(found)
        return found

    def _revision_now(self, database: Database) -> int:
        """The revision; read again when another one was announced since, by whatever process."""
        announced = (
            database.announced()
        )  # before the revision: what is committed meanwhile shows the next time
        kept = self._revision
        if announced is None or announced != kept[0]:
            kept = self._revision = announced, revision.glance(database)
        return kept[1]

    def catalog(self, tx: Tx, number: int) -> tuple[list[Row], list[dict[str, str]]]:
        """The catalog's rows and the service providers at the revision `number`: the same for all tokens."""
        kept = self._catalog
        if kept[0] != number:
            kept = self._catalog = number, catalog.rows(tx), catalog.service_providers(tx)
        return kept[1], kept[2]

    def _keep(self, token: Token) -> None:
        with self._lock:
            if len(self._known) >= _KEPT:
                for text in list(self._known)[: _KEPT // 4]:
                    del self._known[text]
            self._known[token.text] = token


_of_clouds: "weakref.WeakKeyDictionary[Cloud, Tokens]" = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def tokens(cloud: Cloud) -> Tokens:
    found = _of_clouds.get(cloud)
    if found is None:
        with _lock:
            found = _of_clouds.setdefault(cloud, Tokens(cloud))
    return found


def authenticator(cloud: Cloud) -> Callable[[str], Caller]:
    """A function from a token's text to its bearer, who is shared by all that ask; it raises Unauthorized."""
    known = tokens(cloud)

    def authenticate(text: str, held: Cloud = cloud) -> Caller:  # `known` holds its cloud but weakly
        return known.look(text).caller

    return authenticate


def validate(
    cloud: Cloud, text: str, *, allow_expired: bool = False, revision_now: int | None = None
) -> Token:
    """The token behind `text`, as `look` has it. Raises NotFound when it does not work, as the API says of subjects."""
    try:
        return tokens(cloud).look(text, allow_expired=allow_expired, revision_now=revision_now)
    except Unauthorized as e:
        raise NotFound("Could not find token.", detail=e.detail) from None


def new_audit_id() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()


def issue(
    tx: Tx,
    cloud: Cloud,
    *,
    user: Row,
    methods: list[str],
    scope: int = UNSCOPED,
    target_id: str = "",
    expires_at: datetime | None = None,
    parent_audit_id: str | None = None,
    application_credential_id: str = "",
    trust_id: str = "",
    access_token_id: str = "",
    idp_id: str = "",
    protocol_id: str = "",
    certificate: bytes = b"",
) -> Token:
    """A new token, whose meaning was looked up already. Raises Unauthorized when the scope is not the user's.

    `expires_at` is the parent's end where there is a parent: no token outlives the one it came from.
    """
    now = cloud.clock.now()
    ends = now + timedelta(seconds=cloud.config.identity.token_lifetime)
    if expires_at is not None:
        ends = min(ends, expires_at)
    audit = (new_audit_id(),) if parent_audit_id is None else (new_audit_id(), parent_audit_id)
    payload = Payload(
        user=pack(user.id),
        generation=user.generation,
        methods=tuple(METHODS.index(m) for m in methods),
        issued=micros(now),
        expires=micros(ends.replace(microsecond=0)),
        audit=audit,
        scope=scope,
        target=pack(target_id),
        application_credential=pack(application_credential_id),
        trust=pack(trust_id),
        access_token=pack(access_token_id),
        provider=pack(idp_id),
        protocol=protocol_id,
        certificate=certificate,
    )
    number = revision.read(tx)
    # A look before it is given away: a token that would not work is not issued.
    found = read(tx, cloud, "", payload, number, tokens(cloud).catalog)
    found.text = encode(cloud, payload)
    tokens(cloud)._keep(found)
    return found


def revoke(tx: Tx, cloud: Cloud, token: Token) -> None:
    """End one token. Forget those revoked ones whose time is over."""
    table = credential.revocation
    now = cloud.clock.now()
    tx.execute(sa.delete(table).where(table.c.expires_at < now - EXPIRED_WINDOW))
    values = {"audit_id": token.payload.audit[0], "expires_at": token.payload.expires_at, "revoked_at": now}
    db.upsert(tx, table, values, {}, key=("audit_id",))
    revision.bump(tx)
