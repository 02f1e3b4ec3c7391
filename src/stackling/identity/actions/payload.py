"""What a token holds: who, by which methods, for what, and until when. Names and roles are not in it."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

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
    "oauth2_credential",
)
UNSCOPED, PROJECT, DOMAIN, SYSTEM = range(4)

Packed = Any  # bytes or str, which msgspec takes no union of: 32 hex digits travel as their 16 bytes


class Payload(msgspec.Struct, array_like=True, frozen=True):
    """What a token holds. Times are microseconds since 1970."""

    user: Packed
    generation: int
    methods: tuple[int, ...]
    issued: int
    expires: int
    audit: tuple[str, ...]
    scope: int = UNSCOPED
    target: Packed = ""
    application_credential: Packed = ""
    trust: Packed = ""
    access_token: Packed = ""
    provider: Packed = ""  # of identity, for a user who came from one
    protocol: str = ""
    certificate: bytes = b""  # SHA-256 of the client certificate that must come with the token

    @property
    def user_id(self) -> str:
        return unpack(self.user)

    @property
    def idp_id(self) -> str:
        return unpack(self.provider)

    @property
    def target_id(self) -> str:
        return unpack(self.target)

    @property
    def application_credential_id(self) -> str:
        return unpack(self.application_credential)

    @property
    def trust_id(self) -> str:
        return unpack(self.trust)

    @property
    def access_token_id(self) -> str:
        return unpack(self.access_token)

    @property
    def issued_at(self) -> datetime:
        return _when(self.issued)

    @property
    def expires_at(self) -> datetime:
        return _when(self.expires)

    @property
    def method_names(self) -> list[str]:
        return [METHODS[m] for m in self.methods]

    @property
    def thumbprint(self) -> str:
        """`x5t#S256` of the client certificate (RFC 8705); empty for a token that is bound to none."""
        return base64.urlsafe_b64encode(self.certificate).rstrip(b"=").decode()


def pack(id: str) -> Packed:
    if len(id) == 32:
        try:
            packed = bytes.fromhex(id)
        except ValueError:
            return id
        return packed if packed.hex() == id else id
    return id


def unpack(id: Packed) -> str:
    return id.hex() if isinstance(id, bytes) else id


def micros(when: datetime) -> int:
    whole = when.replace(tzinfo=UTC)
    return int(whole.timestamp()) * 1_000_000 + when.microsecond


def _when(micros: int) -> datetime:
    return datetime(1970, 1, 1) + timedelta(microseconds=micros)
