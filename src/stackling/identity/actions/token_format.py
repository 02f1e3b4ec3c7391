"""What a token looks like: a Fernet message, or a JWS signed with ES256, whose claims anybody can read.

The configuration says which are made. Both are believed, so that a switch ends no token.
"""

import binascii
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.fernet import InvalidToken
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from stackling.base.cloud import Cloud
from stackling.base.errors import Unauthorized
from stackling.identity.actions import keys
from stackling.identity.actions.payload import DOMAIN, METHODS, PROJECT, SYSTEM, UNSCOPED, Payload, pack
from stackling.identity.actions.token_meaning import REFUSED

_LONGEST = 2048
_SCALAR = 32  # bytes of each of the two numbers that an ES256 signature is


def encode(cloud: Cloud, payload: Payload) -> str:
    """The token's text, in the form that the configuration names."""
    if cloud.config.identity.token_provider == "jws":
        return _sign(cloud, payload)
    primary = keys.fernets(cloud, keys.TOKENS).primary
    made = primary.encrypt_at_time(msgspec.msgpack.encode(payload), payload.issued // 1_000_000)
    return made.rstrip(b"=").decode()


def decode(cloud: Cloud, text: str) -> Payload:
    """What the token holds. Raises Unauthorized when none of the cloud's keys made it."""
    if len(text) > _LONGEST:
        raise Unauthorized(REFUSED, detail="the token is too long")
    try:
        if text.count(".") == 2:
            return _verified(cloud, text.encode("ascii"))
        every = keys.fernets(cloud, keys.TOKENS).every
        return _message.decode(every.decrypt(text.encode("ascii") + b"=" * (-len(text) % 4)))
    except (InvalidToken, InvalidSignature, msgspec.MsgspecError, ValueError, RecursionError):
        raise Unauthorized(REFUSED, detail="no key of this cloud made the token") from None


_message = msgspec.msgpack.Decoder(Payload)


# -- JWS (RFC 7515, RFC 7518 section 3.4) ------------------------------------------------------------------------------


class _Header(msgspec.Struct):
    alg: str
    typ: str
    kid: str


class _Claims(msgspec.Struct, omit_defaults=True):
    """The claims, under upstream's names where there are some. Times are seconds."""

    sub: str
    iat: float
    exp: int
    openstack_methods: list[str]
    openstack_audit_ids: list[str]
    generation: int = msgspec.field(name="stackling_generation")
    openstack_project_id: str = ""
    openstack_domain_id: str = ""
    openstack_system: str = ""
    openstack_app_cred_id: str = ""
    openstack_trust_id: str = ""
    openstack_access_token_id: str = ""
    openstack_idp_id: str = ""
    openstack_protocol_id: str = ""
    openstack_thumbprint: str = ""


_header = msgspec.json.Decoder(_Header)
_claims = msgspec.json.Decoder(_Claims)


def _base64(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL)


def _plain(text: bytes) -> bytes:
    return binascii.a2b_base64(text.translate(_FROM_URL) + b"=" * (-len(text) % 4), strict_mode=True)


_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_+/", b"+/..")


def _sign(cloud: Cloud, payload: Payload) -> str:
    pair = keys.signatures(cloud).opened(cloud.clock.now())[0]
    target = payload.target_id
    claims = _Claims(
        sub=payload.user_id,
        iat=payload.issued / 1_000_000,
        exp=payload.expires // 1_000_000,
        openstack_methods=payload.method_names,
        openstack_audit_ids=list(payload.audit),
        generation=payload.generation,
        openstack_project_id=target if payload.scope == PROJECT else "",
        openstack_domain_id=target if payload.scope == DOMAIN else "",
        openstack_system="all" if payload.scope == SYSTEM else "",
        openstack_app_cred_id=payload.application_credential_id,
        openstack_trust_id=payload.trust_id,
        openstack_access_token_id=payload.access_token_id,
        openstack_idp_id=payload.idp_id,
        openstack_protocol_id=payload.protocol,
        openstack_thumbprint=payload.thumbprint,
    )
    parts = _Header("ES256", "JWT", pair.id), claims
    signed = b".".join(_base64(msgspec.json.encode(part)) for part in parts)
    r, s = decode_dss_signature(pair.private.sign(signed, ec.ECDSA(SHA256())))
    return (signed + b"." + _base64(r.to_bytes(_SCALAR, "big") + s.to_bytes(_SCALAR, "big"))).decode()


def _verified(cloud: Cloud, text: bytes) -> Payload:
    """Raises InvalidSignature, ValueError or MsgspecError."""
    signed, _, signature = text.rpartition(b".")
    head, _, body = signed.partition(b".")
    header = _header.decode(_plain(head))
    store = keys.signatures(cloud)
    if (header.alg, header.typ) != ("ES256", "JWT") or not store.there():
        raise ValueError("not a token of ours")
    numbers = _plain(signature)
    if len(numbers) != 2 * _SCALAR:
        raise ValueError("not an ES256 signature")
    raw = encode_dss_signature(*(int.from_bytes(n, "big") for n in (numbers[:_SCALAR], numbers[_SCALAR:])))
    pair = next((p for p in store.opened(cloud.clock.now()) if p.id == header.kid), None)
    if pair is None:
        raise ValueError("no key of ours")
    pair.private.public_key().verify(raw, signed, ec.ECDSA(SHA256()))
    return _payload(_claims.decode(_plain(body)))


def _payload(claims: _Claims) -> Payload:
    scopes: dict[int, Any] = {
        PROJECT: claims.openstack_project_id,
        DOMAIN: claims.openstack_domain_id,
        SYSTEM: claims.openstack_system,
    }
    scope = next((kind for kind, target in scopes.items() if target), UNSCOPED)
    return Payload(
        user=pack(claims.sub),
        generation=claims.generation,
        methods=tuple(METHODS.index(m) for m in claims.openstack_methods),
        issued=round(claims.iat * 1_000_000),
        expires=claims.exp * 1_000_000,
        audit=tuple(claims.openstack_audit_ids),
        scope=scope,
        target="" if scope in (SYSTEM, UNSCOPED) else pack(scopes[scope]),
        application_credential=pack(claims.openstack_app_cred_id),
        trust=pack(claims.openstack_trust_id),
        access_token=pack(claims.openstack_access_token_id),
        provider=pack(claims.openstack_idp_id),
        protocol=claims.openstack_protocol_id,
        certificate=_plain(claims.openstack_thumbprint.encode()),
    )
