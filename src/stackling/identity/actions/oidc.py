"""How an identity provider speaks OpenID Connect: kept beside it, and only its administrators may know."""

from typing import Any

import msgspec
import sqlalchemy as sa

from stackling.base import db
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.base.statement import Statement
from stackling.identity.actions import encryption, keys
from stackling.identity.actions.permission import may
from stackling.identity.oidc.provider import Options, is_safe
from stackling.identity.state.federated_user import find_provider, provider_oidc

_LONGEST = 2048


def put(tx: Tx, cloud: Cloud, caller: Caller, idp_id: str, want: Options) -> Options:
    """The provider speaks OpenID Connect like so. Without a client secret the one that was kept stays.

    Raises NotFound, and BadRequest naming the field.
    """
    may(caller, "update_identity_provider")
    _check(tx, idp_id)
    _check_options(want)
    before = _options_of(tx, idp_id) or {}
    kept = msgspec.to_builtins(want)
    if want.client_secret is not None:
        kept["client_secret"] = encryption.encrypt(cloud, want.client_secret)
    elif want.client_id is not None and before.get("client_id") == want.client_id:
        kept["client_secret"] = before.get("client_secret")
    db.upsert(tx, provider_oidc, {"idp_id": idp_id, "options": kept}, {"options": kept}, key=("idp_id",))
    return want


def get(tx: Tx, cloud: Cloud, caller: Caller, idp_id: str) -> Options:
    """Raises NotFound when there is no such provider, or it does not speak it."""
    may(caller, "get_identity_provider")
    _check(tx, idp_id)
    found = read(tx, cloud, idp_id)
    if found is None:
        raise NotFound(f"Identity Provider {idp_id} does not speak OpenID Connect here.")
    return found


def delete(tx: Tx, caller: Caller, idp_id: str) -> None:
    may(caller, "update_identity_provider")
    _check(tx, idp_id)
    if not tx.execute(sa.delete(provider_oidc).where(provider_oidc.c.idp_id == idp_id)).rowcount:
        raise NotFound(f"Identity Provider {idp_id} does not speak OpenID Connect here.")


def read(tx: Tx, cloud: Cloud, idp_id: str) -> Options | None:
    """A provider's options with its secret in the clear; None where it has none."""
    kept = _options_of(tx, idp_id)
    if kept is None:
        return None
    options = msgspec.convert(kept, Options)
    if options.client_secret is None:
        return options
    return msgspec.structs.replace(options, client_secret=encryption.decrypt(cloud, options.client_secret))


def rotate_secrets(tx: Tx, cloud: Cloud) -> None:
    """Encrypt every client secret anew with the primary of the credential keys."""
    every = keys.fernets(cloud, keys.CREDENTIALS).every
    for row in tx.execute(sa.select(provider_oidc)).all():
        secret = row.options.get("client_secret")
        if secret is not None:
            fresh = {**row.options, "client_secret": every.rotate(secret.encode()).decode()}
            tx.execute(
                sa.update(provider_oidc).where(provider_oidc.c.idp_id == row.idp_id).values(options=fresh)
            )


def _check(tx: Tx, idp_id: str) -> None:
    if find_provider(tx, idp_id) is None:
        raise NotFound(f"Could not find Identity Provider: {idp_id[:64]}.")


def _check_options(want: Options) -> None:
    for name in ("issuer", "jwks_uri", "introspection_endpoint"):
        url = getattr(want, name)
        if url is not None and (len(url) > _LONGEST or not is_safe(url)):
            raise BadRequest(
                f"Invalid input for field/attribute {name}: it is an HTTPS URL (plain HTTP on loopback only)."
            )
    if not want.audiences and want.client_id is None:
        raise BadRequest(
            "Invalid input for field/attribute audiences: name at least one, or a client_id; without it any token of"
            " the issuer would be taken, whomever it was meant for."
        )
    if want.introspection_endpoint is not None and want.client_id is None:
        raise BadRequest(
            "Invalid input for field/attribute client_id: it is needed to ask at an introspection_endpoint."
        )
    for name, texts in (
        ("audiences", want.audiences),
        ("scopes", want.scopes),
        ("client_id", [want.client_id or "-"]),
        ("client_secret", [want.client_secret or "-"]),
    ):
        if len(texts) > 100 or not all(0 < len(text) <= 1024 and "\0" not in text for text in texts):
            raise BadRequest(
                f"Invalid input for field/attribute {name}: at most 100, of 1 to 1024 characters each."
            )


def _options_of(tx: Tx, idp_id: str) -> dict[str, Any] | None:
    row = _OPTIONS.first(tx, idp_id=idp_id)
    return None if row is None else row.options


_OPTIONS = Statement(
    sa.select(provider_oidc.c.options).where(provider_oidc.c.idp_id == sa.bindparam("idp_id"))
)
