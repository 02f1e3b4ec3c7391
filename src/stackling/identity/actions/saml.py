"""Logging in by SAML2: with a browser (web browser SSO) and on the command line (ECP, Keystone to Keystone).

What has to be remembered meanwhile travels encrypted: in a cookie of the browser that began, in the relay state that a
command line hands back, or in the cookie of a command line that brought its assertion where mod_shib takes them. An
assertion lets in once.
"""

import hashlib
import hmac
import time
import zlib
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
import sqlalchemy as sa
from cryptography.fernet import InvalidToken
from msgspec import Struct

from stackling.base import db
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Tx
from stackling.base.errors import BadRequest, NotFound, Unauthorized
from stackling.identity.actions import authentication, federated_user, keys, saml_keys
from stackling.identity.actions import saml_identity_provider as ourselves
from stackling.identity.actions.permission import may
from stackling.identity.actions.token import Token
from stackling.identity.saml import Accepted, Invalid, Options, Refused, ServiceProvider, document
from stackling.identity.saml import metadata as saml_metadata
from stackling.identity.state.federated_user import find_provider, provider_saml, saml_assertion
from stackling.identity.state.federation import remote_id

PROTOCOL = "saml2"
SHIBBOLETH = "/Shibboleth.sso/SAML2/ECP"  # where mod_shib takes assertions, for all providers and protocols
PATIENCE = 600  # seconds that somebody may take at his provider
_MARK, _SESSION_MARK = b"saml2", b"saml2-session"
_LONGEST = 8192
_LARGEST = 256 << 10  # bytes of a session's attributes

T = TypeVar("T", bound=Struct)


class Begun(Struct, frozen=True):
    """A login on its way. `origin` is None on the command line."""

    idp_id: str
    protocol_id: str
    request_id: str
    origin: str | None
    at: int  # seconds since 1970, in real time


class Session(Struct, frozen=True):
    """Somebody whose assertion was accepted, before it is known by which protocol he comes in."""

    idp_id: str
    attributes: dict[str, list[str]]
    at: int  # seconds since 1970, in real time


# -- how a provider speaks it ------------------------------------------------------------------------------------------


def put(tx: Tx, caller: Caller, idp_id: str, want: Options) -> Options:
    """The provider speaks SAML2 like so. Raises NotFound, and BadRequest naming the field."""
    may(caller, "update_identity_provider")
    _check(tx, idp_id)
    try:
        made = saml_metadata.chosen(want)
    except Invalid as e:
        raise BadRequest(f"Invalid input for field/attribute {e}.") from None
    kept = msgspec.to_builtins(made)
    db.upsert(tx, provider_saml, {"idp_id": idp_id, "options": kept}, {"options": kept}, key=("idp_id",))
    return made


def get(tx: Tx, caller: Caller, idp_id: str) -> Options:
    """Raises NotFound when there is no such provider, or it does not speak it."""
    may(caller, "get_identity_provider")
    _check(tx, idp_id)
    return _options(tx, idp_id)


def delete(tx: Tx, caller: Caller, idp_id: str) -> None:
    may(caller, "update_identity_provider")
    _check(tx, idp_id)
    if not tx.execute(sa.delete(provider_saml).where(provider_saml.c.idp_id == idp_id)).rowcount:
        raise NotFound(f"Identity Provider {idp_id} does not speak SAML2 here.")


def _check(tx: Tx, idp_id: str) -> None:
    if find_provider(tx, idp_id) is None:
        raise NotFound(f"Could not find Identity Provider: {idp_id[:64]}.")


def spoken(tx: Tx, idp_id: str) -> bool:
    return (
        tx.execute(sa.select(provider_saml.c.idp_id).where(provider_saml.c.idp_id == idp_id)).first()
        is not None
    )


def _options(tx: Tx, idp_id: str) -> Options:
    kept = tx.execute(sa.select(provider_saml.c.options).where(provider_saml.c.idp_id == idp_id)).scalar()
    if kept is None:
        raise NotFound(f"Identity Provider {idp_id} does not speak SAML2 here.")
    return msgspec.convert(kept, Options)


def _spoken_with(tx: Tx, cloud: Cloud, idp_id: str) -> Options:
    """The provider's options. One that is this cloud itself needs none: we know our own metadata."""
    if not spoken(tx, idp_id):
        us = ourselves.identity_provider(cloud)
        mine = sa.select(remote_id).where(remote_id.c.idp_id == idp_id, remote_id.c.remote_id == us.entity_id)
        if tx.execute(mine).first() is not None:
            return Options(metadata=us.metadata().decode(), entity_id=us.entity_id, allow_unsolicited=True)
    return _options(tx, idp_id)


def _provider(cloud: Cloud, idp_id: str, protocol_id: str) -> tuple[federated_user.Door, ServiceProvider]:
    """The door, and us as the provider knows us. Raises NotFound, Forbidden."""
    with cloud.db.read() as tx:
        way = federated_user.door(tx, idp_id, protocol_id)
        options = _spoken_with(tx, cloud, idp_id)
    here = f"/identity/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/saml2"
    return way, _service_provider(cloud, options, f"{here}/metadata", f"{here}/acs")


def _service_provider(cloud: Cloud, options: Options, entity: str, consumer: str) -> ServiceProvider:
    """Us, by the paths of our entity id and of where assertions arrive.

    Our names stand in the configuration, not in the request: else whoever writes its header Host could have an
    assertion believed that was made for another service.
    """
    base = cloud.config.base_url
    try:
        return ServiceProvider(
            options,
            entity_id=base + entity,
            consumer=base + consumer,
            keys=saml_keys.key_pair(cloud),
            encryption=saml_keys.key_pair(cloud, saml_keys.ENCRYPTION),
        )
    except Refused as e:
        raise authentication.refuse(str(e)) from None


# -- logging in --------------------------------------------------------------------------------------------------------


def metadata(cloud: Cloud, idp_id: str, protocol_id: str) -> bytes:
    """What the provider's administrator needs to know of us. Raises NotFound."""
    return _provider(cloud, idp_id, protocol_id)[1].metadata()


def begin(cloud: Cloud, idp_id: str, protocol_id: str, origin: str | None) -> tuple[str, str]:
    """Where the browser goes to log in, and the cookie that it brings back.

    Raises BadRequest without an origin, Unauthorized when it is not trusted, NotFound without such a provider.
    """
    _check_origin(cloud, origin)
    _, sp = _provider(cloud, idp_id, protocol_id)
    try:
        request_id, there = sp.redirect()
    except Refused as e:
        raise NotFound(f"Identity Provider {idp_id} can't be logged in at with a browser: {e}") from None
    return there, _seal(cloud, _MARK, Begun(idp_id, protocol_id, request_id, origin, int(time.time())))


def finish(
    cloud: Cloud, idp_id: str, protocol_id: str, cookie: str | None, response: bytes
) -> tuple[Token, str]:
    """The token of who logged in with a browser, and the origin that it is for. Raises Unauthorized."""
    begun = _open(cloud, cookie, idp_id, protocol_id)
    origin = _check_origin(cloud, begun.origin)
    way, sp = _provider(cloud, idp_id, protocol_id)
    try:
        accepted = sp.accept(document.parse(response), begun.request_id)
    except Refused as e:
        raise authentication.refuse(f"assertion of {idp_id}: {e}") from None
    return _admit(cloud, way, accepted), origin


def ask(cloud: Cloud, idp_id: str, protocol_id: str) -> bytes:
    """The envelope with which a command line asks its provider (ECP). Raises NotFound."""
    _, sp = _provider(cloud, idp_id, protocol_id)

    def remembered(request_id: str) -> str:
        return _seal(cloud, _MARK, Begun(idp_id, protocol_id, request_id, None, int(time.time())))

    return sp.envelope(remembered)


def enter(cloud: Cloud, idp_id: str, protocol_id: str, envelope: bytes) -> Token:
    """The token for the envelope that a command line brings from its provider. Raises Unauthorized."""
    way, sp = _provider(cloud, idp_id, protocol_id)
    try:
        root, state = document.unwrap(document.parse(envelope))
        request_id = root.get("InResponseTo")
        if request_id is not None or not sp.options.allow_unsolicited:
            begun = _open(cloud, state, idp_id, protocol_id)
            if begun.origin is not None or not hmac.compare_digest(
                begun.request_id.encode(), (request_id or "").encode()
            ):
                raise Refused("the response is to another request")
        accepted = sp.accept(root, request_id)
    except Refused as e:
        raise authentication.refuse(f"assertion of {idp_id}: {e}") from None
    return _admit(cloud, way, accepted)


def arrive(cloud: Cloud, envelope: bytes) -> str:
    """The cookie for an assertion that is brought where mod_shib takes them for all providers and protocols.

    Nobody here has asked for it, so its issuer must be one who may do so. Raises Unauthorized.
    """
    try:
        root, _ = document.unwrap(document.parse(envelope))
        with cloud.db.read() as tx:
            found = sa.select(remote_id.c.idp_id).where(remote_id.c.remote_id == document.issuer(root))
            idp_id = tx.execute(found).scalar()
            options = _spoken_with(tx, cloud, idp_id) if idp_id is not None else None
        if idp_id is None or options is None or not options.allow_unsolicited:
            raise Refused("its issuer is no provider that may send somebody unasked")
        sp = _service_provider(cloud, options, "/shibboleth", SHIBBOLETH)
        accepted = sp.accept(root, None)
    except (Refused, NotFound) as e:
        raise authentication.refuse(f"assertion for any protocol: {e}") from None
    _accept_once(cloud, accepted)
    made = _seal(cloud, _SESSION_MARK, Session(idp_id, accepted.attributes, int(time.time())))
    if len(made) > _LONGEST:
        raise authentication.refuse("the assertion holds more than a cookie can")
    return made


def resume(cloud: Cloud, idp_id: str, protocol_id: str, cookie: str) -> Token:
    """The token of who brought an assertion before, now that the protocol is named. Raises Unauthorized, NotFound."""
    session = _unseal(cloud, _SESSION_MARK, cookie, Session)
    if session.idp_id != idp_id:
        raise authentication.refuse("the assertion was of another provider")
    with cloud.db.read() as tx:
        way = federated_user.door(tx, idp_id, protocol_id)
    return authentication.admit_arrival(cloud, federated_user.enter(cloud, way, session.attributes))


def _admit(cloud: Cloud, way: federated_user.Door, accepted: Accepted) -> Token:
    _accept_once(cloud, accepted)
    return authentication.admit_arrival(cloud, federated_user.enter(cloud, way, accepted.attributes))


def _accept_once(cloud: Cloud, accepted: Accepted) -> None:
    """Raises Unauthorized for an assertion that let somebody in already."""
    digest = hashlib.sha256(f"{accepted.issuer}\0{accepted.id}".encode()).hexdigest()
    table = saml_assertion.c
    with cloud.db.begin() as tx:
        tx.execute(sa.delete(saml_assertion).where(table.ends_at < _utc(time.time())))
        db.lock(tx, f"saml:{digest}")
        if tx.execute(sa.select(table.id).where(table.id == digest)).first() is not None:
            raise authentication.refuse("the assertion has let somebody in already")
        tx.execute(saml_assertion.insert().values(id=digest, ends_at=_utc(accepted.ends)))


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def _check_origin(cloud: Cloud, origin: str | None) -> str:
    if not origin:
        raise BadRequest("Request must have an origin query parameter.")
    if origin not in cloud.config.identity.trusted_dashboards:
        raise Unauthorized(f"{origin[:255]} is not a trusted dashboard host.")
    return origin


def _seal(cloud: Cloud, mark: bytes, made: Struct) -> str:
    primary = keys.fernets(cloud, keys.TOKENS).primary
    return primary.encrypt(mark + zlib.compress(msgspec.json.encode(made))).decode()


def _unseal(cloud: Cloud, mark: bytes, text: str | None, kind: type[T]) -> T:
    """What was sealed with `mark` not long ago. Raises Unauthorized."""
    if not text or len(text) > _LONGEST or not text.isascii():
        raise authentication.refuse("nobody brings a login that was begun here")
    every = keys.fernets(cloud, keys.TOKENS).every
    try:
        kept = every.decrypt(text.encode())
        if not kept.startswith(mark):
            raise ValueError("it was sealed for something else")
        packed = zlib.decompressobj()
        made = msgspec.json.decode(packed.decompress(kept[len(mark) :], _LARGEST), type=kind)
    except (InvalidToken, ValueError, zlib.error, msgspec.MsgspecError):
        raise authentication.refuse("what is brought was not given here") from None
    if not 0 <= int(time.time()) - made.at <= PATIENCE:  # type: ignore[attr-defined]
        raise authentication.refuse("the login took too long")
    return made


def _open(cloud: Cloud, text: str | None, idp_id: str, protocol_id: str) -> Begun:
    """What was begun at this provider not long ago. Raises Unauthorized."""
    begun = _unseal(cloud, _MARK, text, Begun)
    if (begun.idp_id, begun.protocol_id) != (idp_id, protocol_id):
        raise authentication.refuse("the login was begun at another provider")
    return begun
