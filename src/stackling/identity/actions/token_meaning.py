"""What a token means now: who its bearer is, which roles he has in its scope, and what of it the API shows.

Nothing of that stands in the token: it is looked up whenever the database may have changed.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from stackling.base.clock import zulu_micros
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import Unauthorized
from stackling.base.statement import Statement
from stackling.identity.actions import catalog, directory
from stackling.identity.actions.payload import DOMAIN, PROJECT, SYSTEM, Payload
from stackling.identity.state import credential, grants
from stackling.identity.state import federated_user as federated_users
from stackling.identity.state import project as projects
from stackling.identity.state import user as users

REFUSED = "The request you have made requires authentication."

# The catalog's rows and the service providers at a revision: the same for all tokens.
Shared = Callable[[Tx, int], tuple[list[Row], list[dict[str, str]]]]


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


def _refuse(detail: str) -> Unauthorized:
    return Unauthorized(REFUSED, detail=detail)


def read(tx: Tx, cloud: Cloud, text: str, payload: Payload, number: int, shared: Shared) -> Token:
    """What `payload` means now. Raises Unauthorized when it means nothing any more."""
    if _REVOKED.first(tx, audit_id=payload.audit[0]):
        raise _refuse("the token was revoked")
    found = _USER.first(tx, user_id=payload.user_id)
    if found is None or not found.enabled or not found.domain_enabled:
        raise _refuse("the user is gone or disabled")
    if found.generation != payload.generation:
        raise _refuse("the user's tokens were revoked")
    bearer = found
    trusted: Row | None = None
    if payload.trust:
        trusted = credential.find_trust(tx, payload.trust_id)
        if trusted is None or (trusted.expires_at and trusted.expires_at <= cloud.clock.now()):
            raise _refuse("the trust is gone")
        trustor = _USER.first(tx, user_id=trusted.trustor_user_id)
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
        idp_id = payload.idp_id
        if not any((o.idp_id, o.protocol_id, o.enabled) == (idp_id, payload.protocol, True) for o in origin):
            raise _refuse("the user's identity provider is gone or disabled")
        user["OS-FEDERATION"] = {
            "groups": [{"id": g} for g in federated_users.groups_of(tx, found.id, idp_id, now)],
            "identity_provider": {"id": idp_id},
            "protocol": {"id": payload.protocol},
        }
    body: dict[str, Any] = {"methods": payload.method_names, "user": user}
    caller: dict[str, Any] = {}
    where: grants.Reach | None = None
    if payload.scope == PROJECT:
        project = _PROJECT.first(tx, project_id=payload.target_id)
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
    if payload.certificate:
        body["oauth2_credential"] = {"x5t#S256": payload.thumbprint}
        caller["certificate"] = payload.thumbprint
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
        revision=number,
        **caller,
    )
    _ = who.creds  # made once, shared by all requests with this token
    shown = None
    if where is not None:
        rows, providers = shared(tx, number)
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
    row = credential.find_application_credential(tx, payload.application_credential_id)
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
    row = tx.execute(sa.select(table).where(table.c.id == payload.access_token_id)).one_or_none()
    if row is None or (row.expires_at and row.expires_at <= cloud.clock.now()):
        raise _refuse("the access token is gone")
    body["OS-OAUTH1"] = {"access_token_id": row.id, "consumer_id": row.consumer_id}
    return _only(tx, roles, row.role_ids)


def _bare(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat(timespec="microseconds")


def _password_end(tx: Tx, user_id: str) -> datetime | None:
    row = users.current_password(tx, user_id)
    return None if row is None else row.expires_at


_domain = projects.project.alias("domain")
_REVOKED = Statement(
    sa.select(credential.revocation.c.audit_id).where(
        credential.revocation.c.audit_id == sa.bindparam("audit_id")
    )
)
_USER = Statement(
    sa.select(users.user, _domain.c.name.label("domain_name"), _domain.c.enabled.label("domain_enabled"))
    .join(_domain, _domain.c.id == users.user.c.domain_id)
    .where(users.user.c.id == sa.bindparam("user_id"))
)
_PROJECT = Statement(
    sa.select(
        projects.project, _domain.c.name.label("domain_name"), _domain.c.enabled.label("domain_enabled")
    )
    .outerjoin(_domain, _domain.c.id == projects.project.c.domain_id)
    .where(projects.project.c.id == sa.bindparam("project_id"))
)
