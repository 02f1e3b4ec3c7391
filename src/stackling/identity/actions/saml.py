"""Logging in by SAML2: with a browser (web browser SSO) and on the command line (ECP).

What has to be remembered meanwhile travels encrypted: in a cookie of the browser that began, or in the relay state
that a command line hands back. An assertion lets in once.
"""

import hashlib
import hmac
import os
import secrets
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from cryptography import x509
from cryptography.fernet import InvalidToken
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from msgspec import Struct

from stackling.base import db
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Tx
from stackling.base.errors import BadRequest, NotFound, Unauthorized
from stackling.identity.actions import authentication, federated_user, keys
from stackling.identity.actions.permission import may
from stackling.identity.actions.token import Token
from stackling.identity.saml import Accepted, Invalid, Options, Refused, ServiceProvider, document
from stackling.identity.saml import metadata as saml_metadata
from stackling.identity.state.federated_user import find_provider, provider_saml, saml_assertion

PROTOCOL = "saml2"
PATIENCE = 600  # seconds that somebody may take at his provider
_MARK = b"saml2"
_LONGEST = 8192


class Begun(Struct, frozen=True):
    """A login on its way. `origin` is None on the command line."""

    idp_id: str
    protocol_id: str
    request_id: str
    origin: str | None
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


def _provider(cloud: Cloud, idp_id: str, protocol_id: str) -> tuple[federated_user.Door, ServiceProvider]:
    """The door, and us as the provider knows us. Raises NotFound, Forbidden.

    Our names stand in the configuration, not in the request: else whoever writes its header Host could have an
    assertion believed that was made for another service.
    """
    with cloud.db.read() as tx:
        way = federated_user.door(tx, idp_id, protocol_id)
        options = _options(tx, idp_id)
    here = f"{cloud.config.base_url}/identity/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/saml2"
    try:
        made = ServiceProvider(
            options, entity_id=f"{here}/metadata", consumer=f"{here}/acs", keys=own_keys(cloud)
        )
    except Refused as e:
        raise authentication.refuse(str(e)) from None
    return way, made


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
    return there, _seal(cloud, Begun(idp_id, protocol_id, request_id, origin, int(time.time())))


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
        return _seal(cloud, Begun(idp_id, protocol_id, request_id, None, int(time.time())))

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


def _admit(cloud: Cloud, way: federated_user.Door, accepted: Accepted) -> Token:
    digest = hashlib.sha256(f"{accepted.issuer}\0{accepted.id}".encode()).hexdigest()
    table = saml_assertion.c
    with cloud.db.begin() as tx:
        tx.execute(sa.delete(saml_assertion).where(table.ends_at < _utc(time.time())))
        db.lock(tx, f"saml:{digest}")
        if tx.execute(sa.select(table.id).where(table.id == digest)).first() is not None:
            raise authentication.refuse("the assertion has let somebody in already")
        tx.execute(saml_assertion.insert().values(id=digest, ends_at=_utc(accepted.ends)))
    return authentication.admit_arrival(cloud, federated_user.enter(cloud, way, accepted.attributes))


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def _check_origin(cloud: Cloud, origin: str | None) -> str:
    if not origin:
        raise BadRequest("Request must have an origin query parameter.")
    if origin not in cloud.config.identity.trusted_dashboards:
        raise Unauthorized(f"{origin[:255]} is not a trusted dashboard host.")
    return origin


def _seal(cloud: Cloud, begun: Begun) -> str:
    primary = keys.fernets(cloud, keys.TOKENS).primary
    return primary.encrypt(_MARK + msgspec.json.encode(begun)).decode()


def _open(cloud: Cloud, text: str | None, idp_id: str, protocol_id: str) -> Begun:
    """What was sealed for this provider not long ago. Raises Unauthorized."""
    if not text or len(text) > _LONGEST or not text.isascii():
        raise authentication.refuse("nobody brings a login that was begun here")
    every = keys.fernets(cloud, keys.TOKENS).every
    try:
        kept = every.decrypt(text.encode())
        begun = msgspec.json.decode(kept.removeprefix(_MARK), type=Begun)
    except (InvalidToken, ValueError, msgspec.MsgspecError):
        raise authentication.refuse("what is brought was not given here") from None
    if not kept.startswith(_MARK) or not 0 <= int(time.time()) - begun.at <= PATIENCE:
        raise authentication.refuse("the login took too long")
    if (begun.idp_id, begun.protocol_id) != (idp_id, protocol_id):
        raise authentication.refuse("the login was begun at another provider")
    return begun


# -- our own keys ------------------------------------------------------------------------------------------------------


def own_keys(cloud: Cloud) -> Path:
    """The directory with `key.pem` and `cert.pem`, made at first need; several processes may do so, and one wins."""
    there = Path(cloud.config.paths.state_dir) / "keys" / "saml2"
    if (there / "cert.pem").exists():
        return there
    there.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".saml2-", dir=there.parent))
    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Stackling")])
    now = datetime.now(UTC)
    builder: Any = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(int.from_bytes(secrets.token_bytes(16), "big") >> 1)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=3650))
    pem = serialization.Encoding.PEM
    text = key.private_bytes(
        pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    with open(os.open(made / "key.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
        f.write(text)
    (made / "cert.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    try:
        os.rename(made, there)
    except OSError:
        shutil.rmtree(made)  # another process was first
    return there
