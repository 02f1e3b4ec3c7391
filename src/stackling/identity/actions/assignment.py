"""Who has which role on what: giving, taking, asking."""

import msgspec
import sqlalchemy as sa

from stackling.base import db
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden, NotFound
from stackling.identity.actions import user as user_actions
from stackling.identity.actions.permission import may, target
from stackling.identity.state import credential, revision
from stackling.identity.state import project as projects
from stackling.identity.state import role as roles
from stackling.identity.state import user as users
from stackling.identity.state.role import SYSTEM, assignment, role


class Grant(msgspec.Struct, frozen=True):
    """One role of one actor on one target. `actor` is user or group; `target` project, domain or system."""

    actor: str
    actor_id: str
    target: str
    target_id: str
    role_id: str = ""
    inherited: bool = False

    @property
    def _where(self) -> list[sa.ColumnElement[bool]]:
        table = assignment.c
        made = [
            table.actor == self.actor,
            table.actor_id == self.actor_id,
            table.target == self.target,
            table.target_id == self.target_id,
            table.inherited.is_(self.inherited),
        ]
        return [*made, table.role_id == self.role_id] if self.role_id else made


def _allowed(tx: Tx, caller: Caller, grant: Grant, verb: str) -> tuple[Row | None, Row | None]:
    """Actor and role, after policy was asked with all that is known of the grant. Raises NotFound for what is not."""
    actor = users.find(tx, grant.actor_id) if grant.actor == "user" else users.find_group(tx, grant.actor_id)
    on = None
    if grant.target == "project":
        on = projects.find(tx, grant.target_id)
    elif grant.target == "domain":
        on = projects.find_domain(tx, grant.target_id)
    given = roles.find(tx, grant.role_id) if grant.role_id else None
    if grant.target == SYSTEM:
        plural = "grants" if verb == "list" else "grant"
        may(caller, f"{verb}_system_{plural}_for_{grant.actor}", target(**{grant.actor: actor}))
    else:
        aim = target(**{grant.actor: actor, grant.target: on, "role": given})
        if given is not None:
            aim["target.role.domain_id"] = given.domain_id  # null says that it is a role of the whole cloud
        may(caller, "list_grants" if verb == "list" else f"{verb}_grant", aim)
    if actor is None and verb != "revoke":
        raise NotFound(f"Could not find {grant.actor}: {grant.actor_id[:64]}.")
    if grant.target != SYSTEM and on is None:
        raise NotFound(f"Could not find {grant.target}: {grant.target_id[:64]}.")
    if grant.role_id and given is None:
        raise NotFound(f"Could not find role: {grant.role_id[:64]}.")
    if verb == "create" and grant.target == SYSTEM and given is not None and given.domain_id is not None:
        raise BadRequest(
            f"Role {given.id} is a domain-specific role. Unable to use a domain-specific role in a system assignment."
        )
    if verb == "create" and grant.target == "project" and given is not None and on is not None:
        _fits(given, on)
    return actor, given


def _fits(given: Row, project: Row) -> None:
    """Raise Forbidden for a role of another domain than the project's."""
    if given.domain_id is not None and given.domain_id != project.domain_id:
        raise Forbidden(f"Role {given.id} belongs to domain {given.domain_id} and can't be given elsewhere.")


def give(tx: Tx, cloud: Cloud, caller: Caller, grant: Grant) -> None:
    """Give the role; already given: nothing happens."""
    _allowed(tx, caller, grant, "create")
    key = ("actor", "actor_id", "target", "target_id", "role_id", "inherited")
    db.upsert(tx, assignment, {k: getattr(grant, k) for k in key}, {}, key=key)
    revision.bump(tx)


def check(tx: Tx, caller: Caller, grant: Grant) -> None:
    """Raises NotFound when the role was not given."""
    _allowed(tx, caller, grant, "check")
    if tx.execute(sa.select(assignment.c.role_id).where(*grant._where)).first() is None:
        raise NotFound(
            f"Could not find role assignment with role: {grant.role_id}, user or group: {grant.actor_id}, project, domain, or system: {grant.target_id}."
        )


def take(tx: Tx, cloud: Cloud, caller: Caller, grant: Grant) -> None:
    """Take the role away, and with it the application credentials that may rest on it. Raises NotFound."""
    _allowed(tx, caller, grant, "revoke")
    if not tx.execute(sa.delete(assignment).where(*grant._where)).rowcount:
        raise NotFound(
            f"Could not find role assignment with role: {grant.role_id}, user or group: {grant.actor_id}, project, domain, or system: {grant.target_id}."
        )
    table = credential.application_credential.c
    if grant.actor == "user" and grant.target == "project":
        user_actions.forget_application_credentials(
            tx, sa.and_(table.user_id == grant.actor_id, table.project_id == grant.target_id)
        )
    revision.bump(tx)


def given(tx: Tx, caller: Caller, grant: Grant) -> list[Row]:
    """The roles that the actor was given on the target, without what they imply."""
    _allowed(tx, caller, grant, "list")
    query = sa.select(role).join(assignment, assignment.c.role_id == role.c.id).where(*grant._where)
    return list(tx.execute(query.order_by(role.c.name, role.c.id)))
