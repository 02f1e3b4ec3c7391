"""The cloud as an identity provider of other clouds (Keystone to Keystone): what it asserts of whose token."""

import sqlalchemy as sa
from msgspec import Struct

from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden, NotFound
from stackling.identity.actions import saml_keys, token
from stackling.identity.actions.token import Token
from stackling.identity.saml import Bearer, IdentityProvider
from stackling.identity.state import grants
from stackling.identity.state import project as projects
from stackling.identity.state import user as users
from stackling.identity.state.federation import service_provider

_HERE = "/identity/v3/OS-FEDERATION/saml2"


class Asserted(Struct, frozen=True):
    """A response for a service provider, as XML, and where it goes."""

    text: bytes
    sp_url: str
    auth_url: str


def identity_provider(cloud: Cloud) -> IdentityProvider:
    """The cloud as others know it. Its names stand in the configuration, as one cloud has one name."""
    here = f"{cloud.config.base_url}{_HERE}"
    return IdentityProvider(entity_id=f"{here}/idp", sign_on=f"{here}/sso", keys=saml_keys.key_pair(cloud))


def assert_bearer(cloud: Cloud, token_text: str, sp_id: str, *, enveloped: bool) -> Asserted:
    """What a token's bearer is, asserted to a service provider; `enveloped` as command lines bring it there.

    Raises NotFound without such a provider or token, Forbidden when the provider is disabled, or when the token is not
    of a project or must not be handed on.
    """
    with cloud.db.read() as tx:
        sp = _service_provider(tx, sp_id)
    found = token.validate(cloud, token_text)
    _check(found)
    with cloud.db.read() as tx:
        user = users.find(tx, found.caller.user_id)
        if user is not None:
            cloud.audit.initiator(user)
        groups = () if _lent(found) else tuple(_groups(tx, cloud, found.caller.user_id))
    us = identity_provider(cloud)
    left = found.payload.expires_at - cloud.clock.now()
    shown = found.body
    bearer = Bearer(
        user=shown["user"]["name"],
        user_domain=shown["user"]["domain"]["name"],
        project=shown["project"]["name"],
        project_domain=shown["project"]["domain"]["name"] or "",
        roles=tuple(role["name"] for role in shown["roles"]),
        groups=groups,
        seconds=int(left.total_seconds()),
    )
    try:
        response = us.response(bearer, sp.sp_url)
        text = us.envelope(response, sp.relay_state_prefix) if enveloped else us.text(response)
    except ValueError as e:
        raise BadRequest(
            "A name holds characters that XML can't: nothing can be asserted.", detail=str(e)
        ) from None
    return Asserted(text, sp.sp_url, sp.auth_url)


def _service_provider(tx: Tx, sp_id: str) -> Row:
    row = tx.execute(sa.select(service_provider).where(service_provider.c.id == sp_id)).one_or_none()
    if row is None:
        raise NotFound(f"Could not find Service Provider: {sp_id[:64]}.")
    if not row.enabled:
        raise Forbidden(f"Service Provider {row.id} is disabled.")
    return row


def _check(found: Token) -> None:
    """What can't be limited over there as it is here is not handed on. Raises Forbidden, NotFound."""
    if found.caller.access_rules is not None:
        # As upstream: its access rules are for who understands them, so to anybody else there is no such token.
        raise NotFound("Could not find token.", detail="the token has access rules")
    if found.payload.certificate:
        raise Forbidden("A token that is bound to a client certificate can't be exchanged for another.")
    if found.caller.project_id is None:
        raise Forbidden(
            "You are not authorized to perform the requested action: Use a project scoped token when attempting to"
            " create a SAML assertion."
        )


def _lent(found: Token) -> bool:
    """Whether the token has but what was handed on of somebody's rights; groups over there could give more."""
    return bool(found.payload.trust or found.payload.access_token or found.payload.application_credential)


def _groups(tx: Tx, cloud: Cloud, user_id: str) -> list[tuple[str, str]]:
    """The names of the user's groups, each with its domain's."""
    domain = projects.project.c
    held = grants.memberships(user_id, cloud.clock.now())
    query = (
        sa.select(users.group.c.name, domain.name.label("domain"))
        .join(held, held.c.group_id == users.group.c.id)
        .join(projects.project, domain.id == users.group.c.domain_id)
        .order_by(domain.name, users.group.c.name)
    )
    return [(row.name, row.domain) for row in tx.execute(query)]
