"""Users: who can log in."""

from typing import Any

import msgspec
import sqlalchemy as sa

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.identity.actions import directory, named, password, secret
from stackling.identity.actions.bootstrap import DEFAULT_DOMAIN
from stackling.identity.actions.permission import may, target
from stackling.identity.state import credential, revision
from stackling.identity.state import project as projects
from stackling.identity.state import user as users
from stackling.identity.state.directory import present
from stackling.identity.state.role import assignment
from stackling.identity.state.user import user

OPTIONS: dict[str, type] = {
    "ignore_change_password_upon_first_use": bool,
    "ignore_password_expiry": bool,
    "ignore_lockout_failure_attempts": bool,
    "ignore_user_inactivity": bool,
    "lock_password": bool,
    "multi_factor_auth_enabled": bool,
    "multi_factor_auth_rules": list,
}


class NewUser(msgspec.Struct, kw_only=True):
    name: str
    domain_id: str | None = None
    default_project_id: str | None = None
    enabled: bool = True
    options: dict[str, Any] = {}
    extra: dict[str, Any] = {}


def home_domain(caller: Caller) -> str:
    """The domain of new things whose maker names none: that of his scope."""
    return caller.domain_id or caller.project_domain_id or DEFAULT_DOMAIN


def digest(cloud: Cloud, plain: str | None) -> str | None:
    """The hash of a new password; to be made before a transaction is open, as it takes long."""
    if plain is None:
        return None
    password.check_form(cloud, plain)
    return secret.digest(cloud, plain)


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewUser, hashed: str | None) -> Row:
    """Raises Conflict when the name is taken in the domain, NotFound without the domain."""
    domain_id = want.domain_id or home_domain(caller)
    may(caller, "create_user", target(user={"domain_id": want.domain_id}))
    if projects.find_domain(tx, domain_id) is None:
        raise NotFound(f"Could not find domain: {domain_id[:64]}.")
    directory.refuse_new(tx, cloud, domain_id)
    _check_default_project(tx, want.default_project_id)
    taken = sa.select(user.c.id).where(user.c.domain_id == domain_id, user.c.name == want.name)
    named.free(
        tx,
        taken,
        f"Conflict occurred attempting to store user - Duplicate entry found with name {want.name} at domain ID {domain_id}.",
    )
    row = tx.execute(
        user.insert()
        .values(
            id=ids.hex32(),
            name=want.name,
            domain_id=domain_id,
            default_project_id=want.default_project_id,
            enabled=want.enabled,
            options=_options(want.options),
            extra=want.extra,
            generation=0,
            created_at=cloud.clock.now(),
        )
        .returning(user)
    ).one()
    if hashed is not None:
        password.put(tx, cloud, row.id, hashed, by_user=False, options=row.options)
    return users.find(tx, row.id) or row


def _options(given: dict[str, Any] | None, before: dict[str, Any] | None = None) -> dict[str, Any]:
    made = named.options(OPTIONS, given, before)
    for rule in made.get("multi_factor_auth_rules", []):
        if not isinstance(rule, list) or not rule or not all(isinstance(m, str) for m in rule):
            raise BadRequest(
                "Invalid input for field/attribute options.multi_factor_auth_rules: a rule is a list of methods"
            )
    return made


def _check_default_project(tx: Tx, project_id: str | None) -> None:
    if project_id:
        row = projects.find(tx, project_id)
        if row is not None and row.is_domain:
            raise BadRequest(f"User's default project ID cannot be a domain ID: {project_id[:64]}.")


def get(tx: Tx, caller: Caller, user_id: str, rule: str = "get_user") -> Row:
    """Raises NotFound, and Forbidden for those who may not know either way."""
    row = users.find(tx, user_id)
    may(caller, rule, target(user=row if row is not None else {"id": user_id}))
    if row is None:
        raise NotFound(f"Could not find user: {user_id[:64]}.")
    return row


def update(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    user_id: str,
    change: dict[str, Any],
    hashed: str | None,
    *,
    no_password: bool = False,
) -> Row:
    """Change columns, `extra` and the password (an administrator's act). What ends tokens ends them at once."""
    row = get(tx, caller, user_id, "update_user")
    directory.refuse_change(tx, row.id)
    values = dict(change)
    if values.pop("domain_id", row.domain_id) != row.domain_id:
        raise BadRequest("Cannot change Domain ID")
    if "name" in values and values["name"] != row.name:
        taken = sa.select(user.c.id).where(user.c.domain_id == row.domain_id, user.c.name == values["name"])
        named.free(
            tx,
            taken,
            f"Conflict occurred attempting to store user - Duplicate entry found with name {values['name']} at domain ID {row.domain_id}.",
        )
    if "default_project_id" in values:
        _check_default_project(tx, values["default_project_id"])
    if "options" in values:
        values["options"] = _options(values["options"], row.options)
    if "extra" in values:
        merged = {**row.extra, **values["extra"]}
        values["extra"] = {k: v for k, v in merged.items() if v is not None}
    if values:
        tx.execute(sa.update(user).where(user.c.id == user_id).values(**values))
    if values.get("enabled") is False:
        users.end_tokens(tx, user_id)
    if hashed is not None or no_password:
        password.put(tx, cloud, user_id, hashed, by_user=False, options=values.get("options", row.options))
    revision.bump(tx)
    return get(tx, caller, user_id)


def delete(tx: Tx, cloud: Cloud, caller: Caller, user_id: str) -> None:
    row = get(tx, caller, user_id, "delete_user")
    directory.refuse_change(tx, row.id)
    forget(tx, row.id)


def forget(tx: Tx, user_id: str) -> None:
    """Take a user away with all that hangs on him."""
    tx.execute(sa.delete(assignment).where(assignment.c.actor == "user", assignment.c.actor_id == user_id))
    tx.execute(sa.delete(credential.credential).where(credential.credential.c.user_id == user_id))
    trust = credential.trust
    tx.execute(
        sa.delete(trust).where(sa.or_(trust.c.trustor_user_id == user_id, trust.c.trustee_user_id == user_id))
    )
    forget_application_credentials(tx, credential.application_credential.c.user_id == user_id)
    tx.execute(sa.delete(user).where(user.c.id == user_id))
    revision.bump(tx)


def forget_application_credentials(tx: Tx, where: sa.ColumnElement[bool]) -> None:
    table, link = credential.application_credential, credential.application_credential_access_rule
    gone = sa.select(table.c.id).where(where)
    tx.execute(sa.delete(link).where(link.c.application_credential_id.in_(gone)))
    tx.execute(sa.delete(table).where(where))


def look(cloud: Cloud, caller: Caller, domain_id: str | None, name: str | None) -> None:
    """Before `listing`: have what directories say of the users (of that name). Raises Unavailable for the domain's own."""
    listing(caller, domain_id)  # who may not see them makes nobody ask
    directory.refresh(cloud, domain_id or caller.domain_id, name=name)


def listing(caller: Caller, domain_id: str | None) -> sa.Select[Any]:
    """The users that a list shows, before its filters."""
    domain_id = domain_id or caller.domain_id
    may(caller, "list_users", {"target.domain_id": domain_id} if domain_id else {})
    query = sa.select(user).where(present(user.c.id))
    return query.where(user.c.domain_id == domain_id) if domain_id else query


def revoke_tokens(tx: Tx, caller: Caller, user_id: str) -> None:
    """End every token of a user."""
    row = get(tx, caller, user_id, "revoke_user_tokens")
    users.end_tokens(tx, row.id)
    revision.bump(tx)
