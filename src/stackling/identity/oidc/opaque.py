"""Access tokens that only their issuer can read: it is asked what they are (RFC 7662), or whose (userinfo)."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from stackling.identity.oidc.provider import Answered, Options, Provider, as_client
from stackling.identity.oidc.token import LONGEST, TokenRefused, check

_REFUSALS = (400, 401, 403)  # by which userinfo says that a token is no good (RFC 6750, 3.1)


def claims_of(
    text: str, *, options: Options, provider: Provider, audiences: Collection[str], now: datetime
) -> dict[str, Any]:
    """What the issuer says of a token. `now` is naive UTC.

    Raises TokenRefused for one that is not active, not ours, or that nobody can be asked about; Unavailable when the
    issuer does not answer.
    """
    if len(text) > LONGEST or not text.isascii() or not text.isprintable():
        raise TokenRefused("the token is too long, or not text")
    endpoint = options.introspection_endpoint
    if endpoint is None and not (options.jwks_uri and not options.userinfo):  # else nothing is published
        endpoint = provider.discovered().introspection_endpoint
    if endpoint is not None and options.client_id is not None:
        return _introspected(text, endpoint, options, options.client_id, provider, audiences, now)
    if options.userinfo:
        return {"iss": options.issuer, **told(text, provider)}
    raise TokenRefused("the token is no JWT, and there is no endpoint and client_id to ask about it with")


def told(text: str, provider: Provider, subject: str | None = None) -> dict[str, Any]:
    """What the issuer tells of a token's bearer (OpenID Connect Core, 5.3), who must be `subject` if that is given."""
    endpoint = provider.discovered().userinfo_endpoint
    if endpoint is None:
        raise TokenRefused("the provider has no userinfo endpoint")
    try:
        claims = provider.ask(endpoint, headers={"Authorization": f"Bearer {text}"})
    except Answered as e:
        if e.code in _REFUSALS:
            raise TokenRefused(f"userinfo: {e.detail}") from None
        raise
    found = claims.get("sub")
    if not isinstance(found, str) or not found or subject not in (None, found):
        raise TokenRefused("userinfo tells of somebody else, or of nobody")
    claims.pop("iss", None)  # who tells it is known
    return claims


def _introspected(
    text: str,
    endpoint: str,
    options: Options,
    client_id: str,
    provider: Provider,
    audiences: Collection[str],
    now: datetime,
) -> dict[str, Any]:
    methods = ["client_secret_basic"]
    if options.introspection_endpoint is None:
        found = provider.discovered()
        methods = (
            found.introspection_endpoint_auth_methods_supported or found.token_endpoint_auth_methods_supported
        )
    form, headers = as_client(options, client_id, methods)
    asked = {"token": text, "token_type_hint": "access_token", **form}
    claims = provider.ask(endpoint, form=asked, headers=headers)
    if claims.get("active") is not True:
        raise TokenRefused("its issuer says that the token is not active")
    if claims.get("token_use", "access_token") != "access_token":
        raise TokenRefused("the token is no access token")
    # All but `active` may be missing. It is the issuer itself that says so now; for whom, one of two must say.
    if not claims.get("aud"):
        claims["aud"] = claims.get("client_id")
    claims.setdefault("iss", options.issuer)
    claims.setdefault("exp", now.replace(tzinfo=UTC).timestamp() + 1)
    return check(claims, options.issuer, audiences, now)
