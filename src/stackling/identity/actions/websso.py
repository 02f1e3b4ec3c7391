"""Logging in with a browser: OpenID Connect's authorization code flow with PKCE, for dashboards that are trusted.

What has to be remembered between the two requests travels encrypted in a cookie, so that only the browser that began
can finish, in any process.
"""

import base64
import hashlib
import hmac
import secrets
import time
import urllib.parse

import msgspec
import sqlalchemy as sa
from cryptography.fernet import InvalidToken
from msgspec import Struct

from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest, NotFound, Unauthorized
from stackling.identity.actions import authentication, federated_user, keys, saml
from stackling.identity.actions.token import Token
from stackling.identity.oidc import claims as oidc_claims
from stackling.identity.oidc import provider as oidc_provider
from stackling.identity.state.federated_user import provider_oidc
from stackling.identity.state.federation import identity_provider, protocol

PATIENCE = 600  # seconds that somebody may take at his provider
_LONGEST = 4096


class Begun(Struct, frozen=True):
    """A login on its way."""

    idp_id: str
    protocol_id: str
    origin: str
    redirect_uri: str
    state: str
    nonce: str
    verifier: str
    at: int  # seconds since 1970, in real time


def begin(
    cloud: Cloud, idp_id: str, protocol_id: str, origin: str | None, redirect_uri: str
) -> tuple[str, str]:
    """Where the browser goes to log in, and the cookie that it brings back.

    Raises BadRequest without an origin, Unauthorized when it is not trusted, NotFound without such a provider.
    """
    if not origin:
        raise BadRequest("Request must have an origin query parameter.")
    if origin not in cloud.config.identity.trusted_dashboards:
        raise Unauthorized(f"{origin[:255]} is not a trusted dashboard host.")
    with cloud.db.read() as tx:
        way = federated_user.oidc_door(tx, cloud, idp_id, protocol_id)
    found = oidc_provider.provider(cloud, way.oidc).discovered()
    if way.oidc.client_id is None or found.authorization_endpoint is None:
        raise NotFound(
            f"Identity Provider {idp_id} is not set up for logging in with a browser: client_id is missing."
        )
    if not oidc_provider.is_safe(found.authorization_endpoint):
        raise NotFound(f"Identity Provider {idp_id} has no safe place to log in at.")
    begun = Begun(
        idp_id=idp_id,
        protocol_id=protocol_id,
        origin=origin,
        redirect_uri=redirect_uri,
        state=secrets.token_urlsafe(32),
        nonce=secrets.token_urlsafe(32),
        verifier=secrets.token_urlsafe(48),
        at=int(time.time()),
    )
    asked = {
        "response_type": "code",
        "client_id": way.oidc.client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(dict.fromkeys(["openid", *way.oidc.scopes])),
        "state": begun.state,
        "nonce": begun.nonce,
        "code_challenge": _challenge(begun.verifier),
        "code_challenge_method": "S256",
    }
    primary = keys.fernets(cloud, keys.TOKENS).primary
    cookie = primary.encrypt(b"websso" + msgspec.json.encode(begun)).decode()
    there = found.authorization_endpoint
    return there + ("&" if "?" in there else "?") + urllib.parse.urlencode(asked), cookie


def finish(
    cloud: Cloud, idp_id: str, protocol_id: str, cookie: str | None, state: str, code: str
) -> tuple[Token, str]:
    """The token of who logged in, and the origin that it is for. Raises Unauthorized."""
    begun = _begun(cloud, cookie)
    if (begun.idp_id, begun.protocol_id) != (idp_id, protocol_id) or not hmac.compare_digest(
        begun.state.encode(), state.encode()
    ):
        raise authentication.refuse("the browser comes back from another login than it began")
    if begun.origin not in cloud.config.identity.trusted_dashboards:
        raise Unauthorized(f"{begun.origin[:255]} is not a trusted dashboard host.")
    with cloud.db.read() as tx:
        way = federated_user.oidc_door(tx, cloud, idp_id, protocol_id)
    client_id = way.oidc.client_id
    if client_id is None:
        raise authentication.refuse("the provider has no client_id any more")
    text, access_token = _exchange(cloud, way.oidc, client_id, begun, code)
    claims = federated_user.check_token(cloud, way.oidc, text, [client_id])
    nonce, party = claims.get("nonce"), claims.get("azp", client_id)
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), begun.nonce.encode()):
        raise authentication.refuse("the ID token is not for this login")
    if party != client_id:
        raise authentication.refuse("the ID token was given to another client")
    claims = federated_user.complete(cloud, way.oidc, claims, access_token)
    came = federated_user.enter(cloud, way, oidc_claims.assertion_of(claims))
    return authentication.admit_arrival(cloud, came), begun.origin


def by_saml(cloud: Cloud, idp_id: str, protocol_id: str) -> bool:
    """Whether a browser logs in there by SAML2: where that is all the provider speaks, or the protocol says so."""
    with cloud.db.read() as tx:
        has_oidc = tx.execute(
            sa.select(provider_oidc.c.idp_id).where(provider_oidc.c.idp_id == idp_id)
        ).first()
        return (protocol_id == saml.PROTOCOL or has_oidc is None) and saml.spoken(tx, idp_id)


def only_provider(cloud: Cloud, protocol_id: str) -> str:
    """The one enabled provider with that protocol where a browser can log in.

    Raises NotFound when there is none, BadRequest when there are several and one must be named.
    """
    with cloud.db.read() as tx:
        query = (
            sa.select(identity_provider.c.id, provider_oidc.c.options)
            .join(protocol, protocol.c.idp_id == identity_provider.c.id)
            .outerjoin(provider_oidc, provider_oidc.c.idp_id == identity_provider.c.id)
            .where(protocol.c.id == protocol_id, identity_provider.c.enabled.is_(True))
        )
        found = [
            row.id
            for row in tx.execute(query)
            if (row.options or {}).get("client_id") or saml.spoken(tx, row.id)
        ]
    if not found:
        raise NotFound(f"No identity provider lets browsers log in by {protocol_id[:64]}.")
    if len(found) > 1:
        raise BadRequest(
            "Several identity providers have that protocol: use"
            " /v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso."
        )
    return str(found[0])


def _challenge(verifier: str) -> str:
    """RFC 7636, 4.2: S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _begun(cloud: Cloud, cookie: str | None) -> Begun:
    if not cookie or len(cookie) > _LONGEST or not cookie.isascii():
        raise authentication.refuse("the browser brings no login that it began")
    every = keys.fernets(cloud, keys.TOKENS).every
    try:
        kept = every.decrypt(cookie.encode())
        begun = msgspec.json.decode(kept.removeprefix(b"websso"), type=Begun)
    except (InvalidToken, ValueError, msgspec.MsgspecError):
        raise authentication.refuse("the browser brings something that was not given to it") from None
    if not kept.startswith(b"websso") or not 0 <= int(time.time()) - begun.at <= PATIENCE:
        raise authentication.refuse("the login took too long")
    return begun


def _exchange(
    cloud: Cloud, options: oidc_provider.Options, client_id: str, begun: Begun, code: str
) -> tuple[str, str]:
    """The ID token and the access token that the provider gives for a code. Raises Unauthorized, Unavailable."""
    found = oidc_provider.provider(cloud, options).discovered()
    if found.token_endpoint is None:
        raise authentication.refuse("the provider has no token endpoint")
    us, headers = oidc_provider.as_client(options, client_id, found.token_endpoint_auth_methods_supported)
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": begun.redirect_uri,
        "code_verifier": begun.verifier,
        **us,
    }
    given = oidc_provider.fetch(found.token_endpoint, form=form, headers=headers)
    text = given.get("id_token")
    if not isinstance(text, str):
        raise authentication.refuse("the provider gave no ID token for the code")
    return text, str(given.get("access_token") or "")
