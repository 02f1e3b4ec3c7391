"""Application credentials: logins that a user hands to programs, for one project and with some of his roles."""

import secrets
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden, NotFound
from stackling.identity.actions import named
from stackling.identity.actions import user as user_actions
from stackling.identity.actions.permission import may
from stackling.identity.state import credential, grants, revision
from stackling.identity.state import project as projects
from stackling.identity.state import role as roles
from stackling.identity.state.credential import (
    access_rule,
    application_credential,
    application_credential_access_rule,
    application_credential_role,
)


class RoleRef(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    id: str | None = None
    name: str | None = None


class NewRule(msgspec.Struct, kw_only=True):
    service: str | None = None
    path: str | None = None
    method: str | None = None
    id: str | None = None


class New(msgspec.Struct, kw_only=True):
    name: str
    description: str | None = None
    expires_at: datetime | None = None
    unrestricted: bool = False
    roles: list[RoleRef] | None = None
    rules: list[NewRule] | None = None


def make_secret() -> str:
    return secrets.token_urlsafe(64)


def _own(caller: Caller, user_id: str, rule: str) -> None:
    may(caller, rule, {"target.user.id": user_id, "user_id": user_id})


def unrestricted(caller: Caller) -> None:
    """Raise Forbidden for a caller who came with a restricted application credential."""
    if caller.restricted:
        raise Forbidden(
            "Using method 'application_credential' is not allowed for managing additional application credentials or trusts."
        )


def create(tx: Tx, cloud: Cloud, caller: Caller, user_id: str, want: New, hashed: str) -> Row:
    """`hashed` is the hash of its secret. Roles are the caller's own in his project, all of them unless named."""
    _own(caller, user_id, "create_application_credential")
    unrestricted(caller)
    if caller.project_id is None:
        raise Forbidden("An application credential is for a project: log in to one first.")
    if caller.trust_id is not None:
        raise Forbidden("A trust can't be used to make application credentials.")
    if want.expires_at is not None and want.expires_at <= cloud.clock.now():
        raise BadRequest("Invalid input for field/attribute expires_at: it lies in the past.")
    project = projects.find(tx, caller.project_id)
    if project is None:
        raise NotFound(f"Could not find project: {caller.project_id}.")
    # Never more than the token at hand has, which may be less than the user has.
    mine = [r for r in grants.roles_of(tx, user_id, grants.on_project(tx, project)) if r.name in caller.roles]
    chosen = pick(mine, want.roles) if want.roles else [r.id for r in mine]
    taken = sa.select(application_credential.c.id).where(
        application_credential.c.user_id == user_id, application_credential.c.name == want.name
    )
    named.free(
        tx,
        taken,
        f"Conflict occurred attempting to store application_credential - Duplicate entry found with name {want.name}.",
    )
    row = tx.execute(
        application_credential.insert()
        .values(
            id=ids.hex32(),
            user_id=user_id,
            project_id=caller.project_id,
            name=want.name,
            description=want.description,
            secret_hash=hashed,
            expires_at=want.expires_at,
            unrestricted=want.unrestricted,
        )
        .returning(application_credential)
    ).one()
    tx.execute(
        application_credential_role.insert(),
        [{"application_credential_id": row.id, "role_id": r} for r in chosen],
    )
    for rule_id in dict.fromkeys(_rule(tx, user_id, rule) for rule in want.rules or []):
        link = {"application_credential_id": row.id, "access_rule_id": rule_id}
        tx.execute(application_credential_access_rule.insert().values(**link))
    return row


def pick(have: list[Row], wanted: list[Any]) -> list[str]:
    """The ids of the roles that are named, all of which must be among `have`. Raises BadRequest."""
    chosen = []
    for ref in wanted:
        found = [
            r for r in have if (ref.id and r.id == ref.id) or (not ref.id and ref.name and r.name == ref.name)
        ]
        if not found:
            raise BadRequest(
                f"Invalid application credential: the user does not have role {str(ref.id or ref.name)[:64]} there."
            )
        chosen.append(found[0].id)
    return list(dict.fromkeys(chosen))


def _rule(tx: Tx, user_id: str, want: NewRule) -> str:
    """The id of the access rule, which is made unless the user has it already."""
    if want.id:
        query = sa.select(access_rule.c.id).where(
            access_rule.c.id == want.id, access_rule.c.user_id == user_id
        )
        if tx.execute(query).first() is None:
            raise NotFound(f"Could not find access rule: {want.id[:64]}.")
        return want.id
    if not (want.service and want.path and want.method):
        raise BadRequest(
            "Invalid input for field/attribute access_rules: service, path and method are needed, or an id."
        )
    values = {"user_id": user_id, "service": want.service, "path": want.path, "method": want.method}
    found = tx.execute(sa.select(access_rule.c.id).filter_by(**values)).scalar()
    if found is None:
        found = ids.hex32()
        tx.execute(access_rule.insert().values(id=found, **values))
    return str(found)


def get(tx: Tx, caller: Caller, user_id: str, id: str, rule: str = "get_application_credential") -> Row:
    row = credential.find_application_credential(tx, id)
    # Whose it is counts, not whose the path says it is.
    _own(caller, row.user_id if row is not None else user_id, rule)
    if row is None or row.user_id != user_id:
        raise NotFound(f"Could not find Application Credential: {id[:64]}.")
    return row


def listing(caller: Caller, user_id: str) -> sa.Select[Any]:
    _own(caller, user_id, "list_application_credentials")
    return sa.select(application_credential).where(application_credential.c.user_id == user_id)


def delete(tx: Tx, caller: Caller, user_id: str, id: str) -> None:
    row = get(tx, caller, user_id, id, "delete_application_credential")
    unrestricted(caller)
    user_actions.forget_application_credentials(tx, application_credential.c.id == row.id)
    revision.bump(tx)


def roles_of(tx: Tx, id: str) -> list[Row]:
    found = roles.by_id(tx, credential.application_credential_roles(tx, id)).values()
    return sorted(found, key=lambda r: r.name)


# -- access rules ------------------------------------------------------------------------------------------------------


def rules(tx: Tx, caller: Caller, user_id: str) -> sa.Select[Any]:
    _own(caller, user_id, "list_access_rules")
    return sa.select(access_rule).where(access_rule.c.user_id == user_id)


def get_rule(tx: Tx, caller: Caller, user_id: str, rule_id: str, rule: str = "get_access_rule") -> Row:
    _own(caller, user_id, rule)
    query = sa.select(access_rule).where(access_rule.c.id == rule_id, access_rule.c.user_id == user_id)
    row = tx.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"Could not find Access Rule: {rule_id[:64]}.")
    return row


def delete_rule(tx: Tx, caller: Caller, user_id: str, rule_id: str) -> None:
    row = get_rule(tx, caller, user_id, rule_id, "delete_access_rule")
    link = application_credential_access_rule
    if tx.execute(sa.select(link).where(link.c.access_rule_id == row.id)).first():
        raise Forbidden("May not delete access rule in use.")
    tx.execute(sa.delete(access_rule).where(access_rule.c.id == row.id))
