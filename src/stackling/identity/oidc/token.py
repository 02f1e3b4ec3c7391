"""Checking a provider's signed tokens (JWT): ID tokens, and access tokens of the JWT profile.

Only asymmetric signatures count, from a key that the provider publishes and of that key's own kind; the issuer is the
configured one, an audience is ours, and the time is right. RFC 8725 lists what goes wrong otherwise.
"""

import json
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA", "Ed25519"),
}
TYPES = (
    "jwt",
    "at+jwt",
    "application/jwt",
    "application/at+jwt",
)  # a logout token, for instance, is none of these
LEEWAY = 60  # seconds that clocks may differ
LONGEST = 32 << 10


class TokenRefused(ValueError):
    """The token proves nothing; the text says why, for the log."""


class _Header(Struct, frozen=True):
    alg: str
    kid: str | None = None
    typ: str | None = None
    crit: Any = None


def claims_of(
    text: str,
    *,
    keys: Callable[[str | None], list[Any]],
    issuer: str,
    audiences: Collection[str],
    now: datetime,
) -> dict[str, Any]:
    """The claims of a token. `keys(kid)` gives the issuer's keys; `now` is naive UTC. Raises TokenRefused."""
    from joserfc import errors
    from joserfc.jws import deserialize_compact

    if len(text) > LONGEST:
        raise TokenRefused("the token is too long")
    header = _header(text)
    known = keys(header.kid)
    fitting = [
        key
        for key in known
        if header.alg in ALGORITHMS.get(key.key_type, ())
        and key.get("alg") in (None, header.alg)
        and (header.kid is None or key.kid == header.kid)
    ]
    if not fitting:
        raise TokenRefused(f"the issuer has no key {str(header.kid)[:64]!r} for {header.alg[:16]}")
    registry = _registry(header.alg)
    for key in fitting[:4]:
        try:
            payload = deserialize_compact(text, key, registry=registry).payload
        except (errors.JoseError, ValueError, TypeError):
            continue
        return _checked(payload, issuer, audiences, now)
    raise TokenRefused("the signature is wrong")


def _registry(algorithm: str) -> Any:
    """What joserfc checks with: one algorithm, headers as long as providers make them."""
    from joserfc.jws import JWSRegistry

    class Registry(JWSRegistry):
        max_header_length = LONGEST

        def get_alg(self, name: str) -> Any:
            if name != algorithm:
                raise ValueError(f"{name} is not {algorithm}")
            return self.algorithms[name]  # without the warning that the name EdDSA is to be replaced

    return Registry(strict_check_header=False)


def is_jwt(text: str) -> bool:
    """Whether the text has the form of a signed JWT; any other is for its issuer alone to read."""
    from joserfc.util import urlsafe_b64decode

    if text.count(".") != 2 or not text.isascii():
        return False
    try:
        return isinstance(json.loads(urlsafe_b64decode(text.partition(".")[0].encode())), dict)
    except (ValueError, TypeError, RecursionError):
        return False


def _header(text: str) -> _Header:
    from joserfc.util import urlsafe_b64decode

    if text.count(".") != 2 or not text.isascii():
        raise TokenRefused("the token is not a signed JWT")
    try:
        header = msgspec.json.decode(urlsafe_b64decode(text.partition(".")[0].encode()), type=_Header)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
        raise TokenRefused("the token's header can't be read") from None
    if header.alg not in {alg for of_kind in ALGORITHMS.values() for alg in of_kind}:
        raise TokenRefused(f"the algorithm {header.alg[:16]!r} is not accepted")
    if header.crit is not None:
        raise TokenRefused("the token wants extensions that are not known here")
    if header.typ is not None and header.typ.lower() not in TYPES:
        raise TokenRefused(f"a token of type {header.typ[:32]!r} is for something else")
    return header


def _checked(payload: bytes | None, issuer: str, audiences: Collection[str], now: datetime) -> dict[str, Any]:
    try:
        claims = json.loads(payload or b"", parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise TokenRefused("the token holds no claims")
    return check(claims, issuer, audiences, now)


def check(claims: dict[str, Any], issuer: str, audiences: Collection[str], now: datetime) -> dict[str, Any]:
    """The claims, if they are of the issuer, for one of the audiences, of somebody, and of now. Raises TokenRefused."""
    if claims.get("iss") != issuer:
        raise TokenRefused(f"the issuer is {str(claims.get('iss'))[:128]!r}")
    given = claims.get("aud")
    named = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    if not any(isinstance(one, str) and one in audiences for one in named):
        raise TokenRefused(f"the audience is {str(given)[:128]!r}")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise TokenRefused("the token has no subject")
    instant = now.replace(tzinfo=UTC).timestamp()
    ends, starts, made = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    if ends is None:
        raise TokenRefused("the token has no end")
    if ends + LEEWAY <= instant:
        raise TokenRefused("the token has expired")
    if (starts is not None and starts - LEEWAY > instant) or (made is not None and made - LEEWAY > instant):
        raise TokenRefused("the token is not valid yet")
    if "events" in claims:
        raise TokenRefused("the token is a notice of an event")
    return claims


def _time(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise TokenRefused(f"{name} is not a time")
    return float(value)
