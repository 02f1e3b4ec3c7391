"""Scopes: what a token is to be for, and issuing it to who was proven."""

from typing import Any

import sqlalchemy as sa
from msgspec import UNSET

from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden, Unauthorized
from stackling.identity.actions import token
from stackling.identity.actions.login import Auth, ProjectRef, Proof, Scope, find_domain, refuse, usable
from stackling.identity.actions.token import DOMAIN, PROJECT, SYSTEM, UNSCOPED, Token
from stackling.identity.state import credential, grants
from stackling.identity.state import project as projects
from stackling.identity.state import user as users


def issue(cloud: Cloud, auth: Auth, proof: Proof) -> Token:
    """A token of the wanted scope for who was proven."""
    if isinstance(auth.scope, str) and auth.scope != "unscoped":
        raise BadRequest("Invalid input for field/attribute scope: it is an object or 'unscoped'.")
    scope: Scope | None
    if auth.scope is UNSET or auth.scope is None:
        scope = None
    elif isinstance(auth.scope, str):
        scope = Scope(unscoped={})
    else:
        scope = auth.scope
        named = [n for n in ("project", "domain", "system", "trust") if getattr(scope, n) is not None]
        named += ["unscoped"] if scope.unscoped is not UNSET else []
        if len(named) > 1:
            raise BadRequest(f"Ambiguous scope: {' and '.join(named)} exclude each other.")
        if not named:
            raise BadRequest(
                "Expecting to find system, project, domain, OS-TRUST:trust or unscoped in scope."
            )
        if scope.trust is not None:
            return _of_trust(cloud, proof, scope.trust.id)
    with cloud.db.read() as tx:
        user = users.find(tx, proof.user_id)
        if user is None or not usable(tx, user):
            raise refuse("the user is gone or disabled")
        kind, target_id = _target(tx, user, scope, proof)
        more: dict[str, Any] = {}
        if proof.application_credential is not None:
            more["application_credential_id"] = proof.application_credential.id
        if proof.federation is not None:
            more["idp_id"], more["protocol_id"] = proof.federation
        if proof.access_token is not None:
            more["access_token_id"] = proof.access_token.id
        more["certificate"] = proof.certificate
        return token.issue(
            tx,
            cloud,
            user=user,
            methods=proof.methods,
            scope=kind,
            target_id=target_id,
            expires_at=proof.expires_at,
            parent_audit_id=_root_audit(proof),
            **more,
        )


def _root_audit(proof: Proof) -> str | None:
    return proof.parent.payload.audit[-1] if proof.parent else None


def _target(tx: Tx, user: Row, scope: Scope | None, proof: Proof) -> tuple[int, str]:
    if proof.access_token is not None:
        if scope is not None:
            raise refuse("an access token is for its own project")
        return PROJECT, proof.access_token.project_id
    if proof.application_credential is not None:
        project_id = proof.application_credential.project_id
        if scope is not None and (scope.domain or scope.system or scope.unscoped is not UNSET):
            raise refuse("an application credential is for its own project")
        if scope is not None and scope.project is not None and _project(tx, scope.project).id != project_id:
            raise refuse("an application credential is for its own project")
        return PROJECT, project_id
    if scope is None:
        return _default(tx, user)
    if scope.project:
        return PROJECT, _project(tx, scope.project).id
    if scope.domain:
        if not (scope.domain.id or scope.domain.name):
            raise BadRequest("Expecting to find id or name in domain.")
        domain = find_domain(tx, scope.domain)
        if domain is None:
            raise refuse("no such domain")
        return DOMAIN, domain.id
    if scope.system:
        if not scope.system.all:
            raise BadRequest(
                "Invalid input for field/attribute scope.system: only all of the system can be the scope."
            )
        return SYSTEM, ""
    return UNSCOPED, ""


def _default(tx: Tx, user: Row) -> tuple[int, str]:
    """The user's default project, if it can be his scope."""
    project = projects.find(tx, user.default_project_id) if user.default_project_id else None
    if project is None or not project.enabled or project.is_domain:
        return UNSCOPED, ""
    domain = projects.find(tx, project.domain_id)
    if (
        domain is None
        or not domain.enabled
        or not grants.roles_of(tx, user.id, grants.on_project(tx, project))
    ):
        return UNSCOPED, ""
    return PROJECT, project.id


def _project(tx: Tx, ref: ProjectRef) -> Row:
    row = None
    if ref.id:
        row = projects.find(tx, ref.id)
    elif ref.name is not None:
        if ref.domain is None or not (ref.domain.id or ref.domain.name):
            raise BadRequest(
                "Expecting to find domain in project. The server could not comply with the request since it is either malformed or otherwise incorrect."
            )
        domain = find_domain(tx, ref.domain)
        if domain is not None:
            table = projects.project
            query = sa.select(table).where(table.c.name == ref.name, table.c.domain_id == domain.id)
            row = tx.execute(query).one_or_none()
    else:
        raise BadRequest(
            "Expecting to find id or name in project. The server could not comply with the request since it is either malformed or otherwise incorrect."
        )
    if row is None:
        raise refuse("no such project")
    return row


def _of_trust(cloud: Cloud, proof: Proof, trust_id: str) -> Token:
    """A token that acts on a trust, which is used once more by it."""
    if proof.application_credential is not None or proof.access_token is not None:
        raise refuse("what is limited to a project can't act on a trust")
    with cloud.db.begin() as tx:
        trust = credential.find_trust(tx, trust_id)
        user = users.find(tx, proof.user_id)
        if trust is None or user is None or not usable(tx, user):
            raise refuse("no such trust or user")
        if trust.trustee_user_id != user.id:
            raise Forbidden("User is not a trustee.")
        if trust.expires_at and trust.expires_at <= cloud.clock.now():
            raise refuse("the trust has expired")
        if not usable(tx, users.find(tx, trust.trustor_user_id)):
            raise Forbidden("Trustor is disabled.")
        if trust.remaining_uses is not None:
            table = credential.trust
            used = tx.execute(
                sa.update(table)
                .where(table.c.id == trust.id, table.c.remaining_uses > 0)
                .values(remaining_uses=table.c.remaining_uses - 1)
            )
            if not used.rowcount:
                raise refuse("the trust is used up")
        ends = [e for e in (proof.expires_at, trust.expires_at) if e is not None]
        try:
            return token.issue(
                tx,
                cloud,
                user=user,
                methods=proof.methods,
                scope=PROJECT if trust.project_id else UNSCOPED,
                target_id=trust.project_id or "",
                expires_at=min(ends) if ends else None,
                parent_audit_id=_root_audit(proof),
                trust_id=trust.id,
            )
        except Unauthorized as e:
            raise Forbidden(
                "The trust can't be used: its trustor does not hold all its roles any more.", detail=e.detail
            ) from None
