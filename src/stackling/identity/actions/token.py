"""Tokens: what they hold, whether they still work, and who their bearer is.

A token is a Fernet message that names the user, the scope and the times; roles and names are looked up when it is
shown. What was found is kept for each token, and believed for as long as `identity_revision` stays as it was: so a
known token costs one row, and whatever is revoked stops working at once in every process.
"""

import base64
import secrets
import threading
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from cryptography.fernet import InvalidToken

from stackling.base import db
from stackling.base.clock import zulu_micros
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import NotFound, Unauthorized
from stackling.identity.actions import catalog, directory, keys
from stackling.identity.state import credential, grants, revision
from stackling.identity.state import federated_user as federated_users
from stackling.identity.state import project as projects
from stackling.identity.state import user as users

METHODS = (
    "password",
    "token",
    "application_credential",
    "totp",
    "oauth1",
    "mapped",
    "external",
    "trust",
    "ec2credential",
    "openid",
    "saml2",
)
UNSCOPED, PROJECT, DOMAIN, SYSTEM = range(4)
EXPIRED_WINDOW = timedelta(days=2)  # how long after its end `allow_expired` still shows a token
_LONGEST = 2048
_KEPT = 20_000  # tokens remembered a process

_Id = Any  # bytes or str, which msgspec takes no union of: 32 hex digits travel as their 16 bytes


class Payload(msgspec.Struct, array_like=True, frozen=True):
    """What a token holds. Times are microseconds since 1970."""

    user: _Id
    generation: int
    methods: tuple[int, ...]
    issued: int
    expires: int
    audit: tuple[str, ...]
    scope: int = UNSCOPED
    target: _Id = ""
    application_credential: _Id = ""
    trust: _Id = ""
    access_token: _Id = ""
    provider: _Id = ""  # of identity, for a user who came from one
    protocol: str = ""

    @property
    def user_id(self) -> str:
        return _unpack(self.user)

    @property
    def idp_id(self) -> str:
        return _unpack(self.provider)

    @property
    def target_id(self) -> str:
        return _unpack(self.target)

    @property
    def issued_at(self) -> datetime:
        return _when(self.issued)

    @property
    def expires_at(self) -> datetime:
        return _when(self.expires)

    @property
    def method_names(self) -> list[str]:
        return [METHODS[m] for m in self.methods]


def _pack(id: str) -> _Id:
    if len(id) == 32:
        try:
            packed = bytes.fromhex(id)
        except ValueError:
            return id
        return packed if packed.hex() == id else id
    return id


def _unpack(id: _Id) -> str:
    return id.hex() if isinstance(id, bytes) else id


def _micros(when: datetime) -> int:
    whole = when.replace(tzinfo=UTC)
    return int(whole.timestamp()) * 1_000_000 + when.microsecond


def _when(micros: int) -> datetime:
    return datetime(1970, 1, 1) + timedelta(microseconds=micros)


class Token(msgspec.Struct, kw_only=True):
    """A token that works, with all that it means at the revision it was read at."""

    text: str
    payload: Payload
    revision: int
    caller: Caller
    body: dict[str, Any]  # what the API shows, without the catalog
    catalog: list[dict[str, Any]] | None = None
    until: datetime | None = None  # when it means less: the first of the bearer's groups for a time is over
    _encoded: dict[bool, bytes] = {}

    @property
    def subject(self) -> dict[str, Any]:
        """The token as a policy's target."""
        return {"target.token.user_id": self.caller.user_id}

    def encoded(self, with_catalog: bool) -> bytes:
        """The body of an answer that shows the token."""
        made = self._encoded.get(with_catalog)
        if made is None:
            shown = self.body
            if with_catalog and self.catalog is not None:
                shown = {**self.body, "catalog": self.catalog}
            made = self._encoded[with_catalog] = msgspec.json.encode({"token": shown})
        return made


_REFUSED = "The request you have made requires authentication."


class Tokens:
    """The tokens of one cloud as this process knows them."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = weakref.ref(cloud)
        self._lock = threading.Lock()
        self._known: dict[str, Token] = {}
        self._catalog: tuple[int, list[Row], list[dict[str, str]]] = -1, [], []

    def look(self, text: str, *, allow_expired: bool = False) -> Token:
        """The token behind `text`. Raises Unauthorized when it does not work (any more)."""
        cloud = self._cloud()
        if cloud is None:
            raise Unauthorized(_REFUSED, detail="the cloud is gone")
        now = cloud.clock.now()
        latest = now - (EXPIRED_WINDOW if allow_expired else timedelta())
        kept = self._known.get(text)
        payload = decode(cloud, text) if kept is None else kept.payload
        if payload.expires_at <= latest:
            raise Unauthorized(_REFUSED, detail="the token has expired")
        fresh = kept is not None and (kept.until is None or kept.until > now)
        if kept is not None and fresh and kept.revision == revision.glance(cloud.db):
            return kept
        directory.freshen(cloud, payload.user_id, _unpack(payload.trust))
        with cloud.db.read() as tx:
            number = revision.read(tx)  # before all else: what changes meanwhile has a higher one
            found = read(tx, cloud, text, payload, number)
        self._keep(found)
        return found

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
    with _lock:
        if cloud not in _of_clouds:
            _of_clouds[cloud] = Tokens(cloud)
        return _of_clouds[cloud]


def authenticator(cloud: Cloud) -> Callable[[str], Caller]:
    """A function from a token's text to its bearer, who is shared by all that ask; it raises Unauthorized."""
    known = tokens(cloud)

    def authenticate(text: str, held: Cloud = cloud) -> Caller:  # `known` holds its cloud but weakly
        return known.look(text).caller

    return authenticate


def validate(cloud: Cloud, text: str, *, allow_expired: bool = False) -> Token:
    """The token behind `text`. Raises NotFound when it does not work, as the API says of subjects."""
    try:
        return tokens(cloud).look(text, allow_expired=allow_expired)
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
        user=_pack(user.id),
        generation=user.generation,
        methods=tuple(METHODS.index(m) for m in methods),
        issued=_micros(now),
        expires=_micros(ends.replace(microsecond=0)),
        audit=audit,
        scope=scope,
        target=_pack(target_id),
        application_credential=_pack(application_credential_id),
        trust=_pack(trust_id),
        access_token=_pack(access_token_id),
        provider=_pack(idp_id),
        protocol=protocol_id,
    )
    number = revision.read(tx)
    # A look before it is given away: a token that would not work is not issued.
    found = read(tx, cloud, "", payload, number)
    found.text = encode(cloud, payload)
    tokens(cloud)._keep(found)
    return found


def encode(cloud: Cloud, payload: Payload) -> str:
    _, primary = keys.repository(cloud, keys.TOKENS).fernets()
    made = primary.encrypt_at_time(msgspec.msgpack.encode(payload), payload.issued // 1_000_000)
    return made.rstrip(b"=").decode()


_decoder = msgspec.msgpack.Decoder(Payload)


def decode(cloud: Cloud, text: str) -> Payload:
    """What the token holds. Raises Unauthorized when none of the cloud's keys made it."""
    if len(text) > _LONGEST:
        raise Unauthorized(_REFUSED, detail="the token is too long")
    every, _ = keys.repository(cloud, keys.TOKENS).fernets()
    try:
        return _decoder.decode(every.decrypt(text.encode("ascii") + b"=" * (-len(text) % 4)))
    except (InvalidToken, UnicodeEncodeError, msgspec.DecodeError, ValueError):
        raise Unauthorized(_REFUSED, detail="no key of this cloud made the token") from None


def _refuse(detail: str) -> Unauthorized:
    return Unauthorized(_REFUSED, detail=detail)


def read(tx: Tx, cloud: Cloud, text: str, payload: Payload, number: int) -> Token:
    """What `payload` means now. Raises Unauthorized when it means nothing any more."""
    if tx.execute(_REVOKED, {"ids": payload.audit[0]}).first():
        raise _refuse("the token was revoked")
    found = tx.execute(_USER, {"user_id": payload.user_id}).one_or_none()
    if found is None or not found.enabled or not found.domain_enabled:
        raise _refuse("the user is gone or disabled")
    if found.generation != payload.generation:
        raise _refuse("the user's tokens were revoked")
    bearer = found
    trusted: Row | None = None
    if payload.trust:
        trusted = credential.find_trust(tx, _unpack(payload.trust))
        if trusted is None or (trusted.expires_at and trusted.expires_at <= cloud.clock.now()):
            raise _refuse("the trust is gone")
        trustor = tx.execute(_USER, {"user_id": trusted.trustor_user_id}).one_or_none()
        if trustor is None or not trustor.enabled or not trustor.domain_enabled:
            raise _refuse("the trustor is gone or disabled")
        _check_origin(federated_users.providers_of(tx, trustor.id))
        if trusted.impersonation:
            bearer = trustor
    user = {
        "id": bearer.id,
        "name": bearer.name,
        "domain": {"id": bearer.domain_id, "name": bearer.domain_name},
    }
    user["password_expires_at"] = _bare(_password_end(tx, bearer.id))
    now = cloud.clock.now()
    origin = federated_users.providers_of(tx, found.id)
    _check_origin(origin)
    if payload.provider:
        idp_id = _unpack(payload.provider)
        if not any((o.idp_id, o.protocol_id, o.enabled) == (idp_id, payload.protocol, True) for o in origin):
            raise _refuse("the user's identity provider is gone or disabled")
        user["OS-FEDERATION"] = {
            "groups": [{"id": g} for g in federated_users.groups_of(tx, found.id, idp_id, now)],
            "identity_provider": {"id": idp_id},
            "protocol": {"id": payload.protocol},
        }
    body: dict[str, Any] = {"methods": payload.method_names, "user": user}
    caller: dict[str, Any] = {}
    where: sa.ColumnElement[bool] | None = None
    if payload.scope == PROJECT:
        project = tx.execute(_PROJECT, {"project_id": payload.target_id}).one_or_none()
        if project is None or not project.enabled or project.domain_enabled is False:
            raise _refuse("the project is gone or disabled")
        body["is_domain"] = project.is_domain
        body["project"] = {
            "id": project.id,
            "name": project.name,
            "domain": {"id": project.domain_id, "name": project.domain_name}
            if project.domain_id
            else {"id": None, "name": None},
        }
        caller |= {
            "project_id": project.id,
            "project_name": project.name,
            "project_domain_id": project.domain_id,
        }
        where = grants.on_project(tx, project)
    elif payload.scope == DOMAIN:
        domain = projects.find_domain(tx, payload.target_id)
        if domain is None or not domain.enabled:
            raise _refuse("the domain is gone or disabled")
        body["domain"] = {"id": domain.id, "name": domain.name}
        caller["domain_id"] = domain.id
        where = grants.on_domain(domain.id)
    elif payload.scope == SYSTEM:
        body["system"] = {"all": True}
        caller["system"] = True
        where = grants.on_system()
    if trusted is not None:
        body["OS-TRUST:trust"] = {
            "id": trusted.id,
            "impersonation": trusted.impersonation,
            "trustee_user": {"id": trusted.trustee_user_id},
            "trustor_user": {"id": trusted.trustor_user_id},
        }
        caller["trust_id"] = trusted.id
    roles: list[Row] = []
    if where is not None:
        roles = grants.roles_of(tx, trusted.trustor_user_id if trusted else found.id, where, now)
    if payload.application_credential:
        roles = _by_application_credential(tx, cloud, payload, roles, body, caller)
    elif trusted is not None:
        roles = _only(tx, roles, credential.trust_roles(tx, trusted.id), all_of_them=True)
    elif payload.access_token:
        roles = _by_access_token(tx, cloud, payload, roles, body)
    if where is not None and not roles:
        raise _refuse("the user has no role there")
    if where is not None:
        body["roles"] = [{"id": r.id, "name": r.name} for r in roles]
    body["audit_ids"] = list(payload.audit)
    body["expires_at"] = zulu_micros(payload.expires_at)
    body["issued_at"] = zulu_micros(payload.issued_at)
    who = Caller(
        policy=cloud.policy,
        user_id=bearer.id,
        user_name=bearer.name,
        user_domain_id=bearer.domain_id,
        roles=frozenset(r.name for r in roles),
        audit_ids=payload.audit,
        expires_at=payload.expires_at,
        methods=tuple(payload.method_names),
        **caller,
    )
    _ = who.creds  # made once, shared by all requests with this token
    shown = None
    if where is not None:
        rows, providers = tokens(cloud).catalog(tx, number)
        if providers:
            body["service_providers"] = providers
        shown = catalog.shown(tx, rows, user_id=bearer.id, project_id=who.project_id)
    giver = trusted.trustor_user_id if trusted is not None else found.id
    for_a_time = federated_users.first_end(tx, giver, now) if origin or trusted is not None else None
    return Token(
        text=text,
        payload=payload,
        revision=number,
        caller=who,
        body=body,
        catalog=shown,
        until=min((e for e in (for_a_time, directory.ends(tx, cloud, [found.id, giver])) if e), default=None),
        _encoded={},
    )


def _check_origin(origin: list[Row]) -> None:
    """A user who was made by a login can do nothing while no provider lets him in."""
    if any(o.shadow for o in origin) and not any(o.enabled for o in origin):
        raise _refuse("the user's identity provider is disabled")


def _only(tx: Tx, roles: list[Row], role_ids: list[str], *, all_of_them: bool = False) -> list[Row]:
    """Those of `roles` that `role_ids` come to."""
    have = {r.id for r in roles}
    if all_of_them and not have.issuperset(role_ids):
        raise _refuse("a role that was handed on is not held any more")
    return [r for r in grants.expand(tx, role_ids) if r.id in have]


def _by_application_credential(
    tx: Tx, cloud: Cloud, payload: Payload, roles: list[Row], body: dict[str, Any], caller: dict[str, Any]
) -> list[Row]:
    row = credential.find_application_credential(tx, _unpack(payload.application_credential))
    if row is None or (row.expires_at and row.expires_at <= cloud.clock.now()):
        raise _refuse("the application credential is gone")
    body["application_credential"] = {"id": row.id, "name": row.name, "restricted": not row.unrestricted}
    caller |= {"via": row.id, "restricted": not row.unrestricted}
    rules = credential.access_rules_of(tx, row.id)
    if rules:
        shown = [{"id": r.id, "service": r.service, "path": r.path, "method": r.method} for r in rules]
        body["application_credential"]["access_rules"] = shown
        caller["access_rules"] = tuple((r.service, r.method, r.path) for r in rules)
    return _only(tx, roles, credential.application_credential_roles(tx, row.id))


def _by_access_token(
    tx: Tx, cloud: Cloud, payload: Payload, roles: list[Row], body: dict[str, Any]
) -> list[Row]:
    table = credential.access_token
    row = tx.execute(sa.select(table).where(table.c.id == _unpack(payload.access_token))).one_or_none()
    if row is None or (row.expires_at and row.expires_at <= cloud.clock.now()):
        raise _refuse("the access token is gone")
    body["OS-OAUTH1"] = {"access_token_id": row.id, "consumer_id": row.consumer_id}
    return _only(tx, roles, row.role_ids)


def revoke(tx: Tx, cloud: Cloud, token: Token) -> None:
    """End one token. Forget those revoked ones whose time is over."""
    table = credential.revocation
    now = cloud.clock.now()
    tx.execute(sa.delete(table).where(table.c.expires_at < now - EXPIRED_WINDOW))
    values = {"audit_id": token.payload.audit[0], "expires_at": token.payload.expires_at, "revoked_at": now}
    db.upsert(tx, table, values, {}, key=("audit_id",))
    revision.bump(tx)


def _bare(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat(timespec="microseconds")


def _password_end(tx: Tx, user_id: str) -> datetime | None:
    row = users.current_password(tx, user_id)
    return None if row is None else row.expires_at


_domain = projects.project.alias("domain")
_REVOKED = sa.select(credential.revocation.c.audit_id).where(
    credential.revocation.c.audit_id == sa.bindparam("ids")
)
_USER = (
    sa.select(users.user, _domain.c.name.label("domain_name"), _domain.c.enabled.label("domain_enabled"))
    .join(_domain, _domain.c.id == users.user.c.domain_id)
    .where(users.user.c.id == sa.bindparam("user_id"))
)
_PROJECT = (
    sa.select(
        projects.project, _domain.c.name.label("domain_name"), _domain.c.enabled.label("domain_enabled")
    )
    .outerjoin(_domain, _domain.c.id == projects.project.c.domain_id)
    .where(projects.project.c.id == sa.bindparam("project_id"))
)
