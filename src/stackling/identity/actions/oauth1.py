"""OAuth 1.0a (RFC 5849): consumers to whom users lend roles on a project."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote, unquote

import msgspec
import sqlalchemy as sa

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden, NotFound, Unauthorized
from stackling.identity.actions import encryption
from stackling.identity.actions.permission import may
from stackling.identity.state import grants, revision
from stackling.identity.state import project as projects
from stackling.identity.state import role as roles
from stackling.identity.state.credential import access_token, consumer, request_token

_REQUEST_LIFETIME = timedelta(hours=8)
_ACCESS_LIFETIME = timedelta(hours=24)


# -- consumers ---------------------------------------------------------------------------------------------------------


def create_consumer(
    tx: Tx, cloud: Cloud, caller: Caller, description: str | None, extra: dict[str, Any]
) -> tuple[Row, str]:
    """The consumer and its secret, which is shown this once."""
    may(caller, "create_consumer")
    secret = secrets.token_hex(16)
    values = {"description": description, "secret": encryption.encrypt(cloud, secret), "extra": extra}
    return tx.execute(consumer.insert().values(id=ids.hex32(), **values).returning(consumer)).one(), secret


def get_consumer(tx: Tx, caller: Caller, id: str, rule: str = "get_consumer") -> Row:
    may(caller, rule)
    row = _consumer(tx, id)
    if row is None:
        raise NotFound("Consumer not found")
    return row


def _consumer(tx: Tx, id: str) -> Row | None:
    return tx.execute(sa.select(consumer).where(consumer.c.id == id)).one_or_none()


def consumers(caller: Caller) -> sa.Select[Any]:
    may(caller, "list_consumers")
    return sa.select(consumer).order_by(consumer.c.id)


def update_consumer(tx: Tx, caller: Caller, id: str, change: dict[str, Any]) -> Row:
    row = get_consumer(tx, caller, id, "update_consumer")
    values = dict(change)
    if "secret" in values.get("extra", {}):
        raise BadRequest("Invalid input for field/attribute secret: it can't be changed.")
    if "extra" in values:
        values["extra"] = {**row.extra, **values["extra"]}
    if values:
        tx.execute(sa.update(consumer).where(consumer.c.id == id).values(**values))
    return tx.execute(sa.select(consumer).where(consumer.c.id == id)).one()


def delete_consumer(tx: Tx, caller: Caller, id: str) -> None:
    get_consumer(tx, caller, id, "delete_consumer")
    tx.execute(sa.delete(consumer).where(consumer.c.id == id))
    revision.bump(tx)


# -- signatures --------------------------------------------------------------------------------------------------------


class Signed(msgspec.Struct):
    """A signed request: its verb, URL without query, and OAuth and other parameters."""

    verb: str
    url: str
    oauth: dict[str, str]
    params: list[tuple[str, str]] = []


def parse_header(text: str | None) -> dict[str, str]:
    """The parameters in an `Authorization: OAuth …` header. Raises BadRequest without one."""
    kind, _, rest = (text or "").partition(" ")
    if kind.lower() != "oauth":
        raise BadRequest("Invalid input for header Authorization: OAuth parameters are expected.")
    made = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        made[unquote(name)] = unquote(value.strip().strip('"'))
    return made


def _escape(text: str) -> str:
    return quote(text, safe="~")


def signature(signed: Signed, secret: str, token_secret: str = "") -> str:
    """HMAC-SHA1, as RFC 5849 section 3.4 has it."""
    pairs = [(k, v) for k, v in signed.oauth.items() if k not in ("oauth_signature", "realm")] + signed.params
    flat = "&".join(f"{k}={v}" for k, v in sorted((_escape(k), _escape(v)) for k, v in pairs))
    base = f"{_escape(signed.verb.upper())}&{_escape(signed.url)}&{_escape(flat)}"
    key = f"{_escape(secret)}&{_escape(token_secret)}".encode()
    return base64.b64encode(hmac.new(key, base.encode(), hashlib.sha1).digest()).decode()


def _verify(cloud: Cloud, signed: Signed, owner: Row | None, token_secret: str = "") -> Row:
    """The consumer who signed. Raises Unauthorized."""
    if owner is None or signed.oauth.get("oauth_signature_method") != "HMAC-SHA1":
        raise Unauthorized(detail="unknown consumer, or another method than HMAC-SHA1")
    right = signature(signed, encryption.decrypt(cloud, owner.secret), token_secret)
    if not hmac.compare_digest(right.encode(), signed.oauth.get("oauth_signature", "").encode()):
        raise Unauthorized(detail="wrong OAuth signature")
    return owner


# -- request tokens ----------------------------------------------------------------------------------------------------


def request(tx: Tx, cloud: Cloud, signed: Signed, project_id: str | None) -> tuple[Row, str]:
    """A request token for a consumer, and its secret."""
    owner = _verify(cloud, signed, _consumer(tx, signed.oauth.get("oauth_consumer_key", "")))
    if not project_id or projects.find(tx, project_id) is None:
        raise NotFound(f"Could not find project: {str(project_id)[:64]}.")
    secret = secrets.token_hex(16)
    row = tx.execute(
        request_token.insert()
        .values(
            id=ids.hex32(),
            secret=encryption.encrypt(cloud, secret),
            project_id=project_id,
            consumer_id=owner.id,
            expires_at=cloud.clock.now() + _REQUEST_LIFETIME,
        )
        .returning(request_token)
    ).one()
    return row, secret


def authorize(tx: Tx, cloud: Cloud, caller: Caller, id: str, wanted: Sequence[Mapping[str, Any]]) -> str:
    """The caller lends roles that he has on the project; the verifier that the consumer needs."""
    may(caller, "authorize_request_token")
    if caller.via is not None or caller.trust_id is not None:
        raise Forbidden("A delegated token can't authorize a request token.")
    row = tx.execute(sa.select(request_token).where(request_token.c.id == id)).one_or_none()
    if row is None:
        raise NotFound("Request token not found")
    if row.expires_at and row.expires_at <= cloud.clock.now():
        raise Unauthorized("Request token is expired")
    project = projects.find(tx, row.project_id)
    if project is None:
        raise NotFound(f"Could not find project: {row.project_id}.")
    have = grants.roles_of(tx, caller.user_id, grants.on_project(tx, project))
    chosen = [
        r.id
        for r in have
        if any(r.id == w.get("id") or (not w.get("id") and r.name == w.get("name")) for w in wanted)
    ]
    if len(chosen) != len(wanted) or not wanted:
        raise Unauthorized("authorizing user does not have role required")
    verifier = secrets.token_hex(4)
    values = {"verifier": verifier, "authorizing_user_id": caller.user_id, "role_ids": chosen}
    tx.execute(sa.update(request_token).where(request_token.c.id == id).values(**values))
    return verifier


# -- access tokens -----------------------------------------------------------------------------------------------------


def access(tx: Tx, cloud: Cloud, signed: Signed) -> tuple[Row, str]:
    """The access token that an authorized request token is exchanged for, and its secret."""
    query = sa.select(request_token).where(request_token.c.id == signed.oauth.get("oauth_token", ""))
    row = tx.execute(query).one_or_none()
    if row is None:
        raise NotFound("Request token not found")
    owner = _verify(
        cloud,
        signed,
        _consumer(tx, signed.oauth.get("oauth_consumer_key", "")),
        encryption.decrypt(cloud, row.secret),
    )
    if owner.id != row.consumer_id or (row.expires_at and row.expires_at <= cloud.clock.now()):
        raise Unauthorized(detail="the request token is another consumer's, or expired")
    given = signed.oauth.get("oauth_verifier", "")
    if row.verifier is None or not hmac.compare_digest(row.verifier.encode(), given.encode()):
        raise Unauthorized(detail="wrong verifier, or not authorized yet")
    secret = secrets.token_hex(16)
    tx.execute(sa.delete(request_token).where(request_token.c.id == row.id))
    made = tx.execute(
        access_token.insert()
        .values(
            id=ids.hex32(),
            secret=encryption.encrypt(cloud, secret),
            user_id=row.authorizing_user_id,
            project_id=row.project_id,
            role_ids=row.role_ids,
            consumer_id=owner.id,
            expires_at=cloud.clock.now() + _ACCESS_LIFETIME,
        )
        .returning(access_token)
    ).one()
    return made, secret


def signer(tx: Tx, cloud: Cloud, signed: Signed) -> Row:
    """The access token that a login was signed with. Raises Unauthorized."""
    query = sa.select(access_token).where(access_token.c.id == signed.oauth.get("oauth_token", ""))
    row = tx.execute(query).one_or_none()
    if row is None or (row.expires_at and row.expires_at <= cloud.clock.now()):
        raise Unauthorized(detail="no such access token, or expired")
    owner = _verify(
        cloud,
        signed,
        _consumer(tx, signed.oauth.get("oauth_consumer_key", "")),
        encryption.decrypt(cloud, row.secret),
    )
    if owner.id != row.consumer_id:
        raise Unauthorized(detail="the access token is another consumer's")
    return row


def _own(caller: Caller, user_id: str, rule: str) -> None:
    # Upstream asks policy of an administrator, and lets a user see to his own.
    if caller.user_id != user_id or caller.via is not None or caller.trust_id is not None:
        may(caller, rule, {"target.user.id": user_id})


def access_tokens(tx: Tx, caller: Caller, user_id: str) -> list[Row]:
    _own(caller, user_id, "list_access_tokens")
    return list(
        tx.execute(
            sa.select(access_token).where(access_token.c.user_id == user_id).order_by(access_token.c.id)
        )
    )


def access_token_of(tx: Tx, caller: Caller, user_id: str, id: str, rule: str = "get_access_token") -> Row:
    _own(caller, user_id, rule)
    query = sa.select(access_token).where(access_token.c.id == id, access_token.c.user_id == user_id)
    row = tx.execute(query).one_or_none()
    if row is None:
        raise NotFound("Access token not found")
    return row


def roles_of(tx: Tx, row: Row) -> list[Row]:
    return sorted(roles.by_id(tx, row.role_ids).values(), key=lambda r: r.name)


def delete_access_token(tx: Tx, caller: Caller, user_id: str, id: str) -> None:
    row = access_token_of(tx, caller, user_id, id, "delete_access_token")
    tx.execute(sa.delete(access_token).where(access_token.c.id == row.id))
    revision.bump(tx)
