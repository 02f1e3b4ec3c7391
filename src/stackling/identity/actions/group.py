"""Groups of users, which roles are given to as to users."""

from typing import Any

import msgspec
import sqlalchemy as sa

from stackling.base import db, ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.identity.actions import directory, named
from stackling.identity.actions.permission import may, target
from stackling.identity.actions.user import home_domain
from stackling.identity.state import grants, revision
from stackling.identity.state import project as projects
from stackling.identity.state import user as users
from stackling.identity.state.directory import GROUP, present
from stackling.identity.state.role import assignment
from stackling.identity.state.user import group, membership, user


class NewGroup(msgspec.Struct, kw_only=True):
    name: str
    domain_id: str | None = None
    description: str = ""
    extra: dict[str, Any] = {}


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewGroup) -> Row:
    domain_id = want.domain_id or home_domain(caller)
    may(caller, "create_group", target(group={"domain_id": domain_id}))
    if projects.find_domain(tx, domain_id) is None:
        raise NotFound(f"Could not find domain: {domain_id[:64]}.")
    directory.refuse_new(tx, cloud, domain_id)
    _free(tx, want.name, domain_id)
    values = {"name": want.name, "domain_id": domain_id, "description": want.description, "extra": want.extra}
    return tx.execute(group.insert().values(id=ids.hex32(), **values).returning(group)).one()


def _free(tx: Tx, name: str, domain_id: str) -> None:
    taken = sa.select(group.c.id).where(group.c.domain_id == domain_id, group.c.name == name)
    named.free(
        tx,
        taken,
        f"Conflict occurred attempting to store group - Duplicate entry found with name {name} at domain ID {domain_id}.",
    )


def get(tx: Tx, caller: Caller, group_id: str, rule: str = "get_group") -> Row:
    row = users.find_group(tx, group_id)
    if row is None and rule == "delete_group":  # upstream looks before it asks policy, here only
        raise NotFound(f"Could not find group: {group_id[:64]}.")
    may(caller, rule, target(group=row if row is not None else {"id": group_id}))
    if row is None:
        raise NotFound(f"Could not find group: {group_id[:64]}.")
    return row


def look(cloud: Cloud, caller: Caller, domain_id: str | None, name: str | None) -> None:
    """Before `listing`: have what directories say of the groups (of that name). Raises Unavailable."""
    listing(caller, domain_id)
    directory.refresh(cloud, domain_id or caller.domain_id, kind=GROUP, name=name)


def listing(caller: Caller, domain_id: str | None) -> sa.Select[Any]:
    domain_id = domain_id or caller.domain_id
    may(caller, "list_groups", {"target.group.domain_id": domain_id} if domain_id else {})
    query = sa.select(group).where(present(group.c.id))
    return query.where(group.c.domain_id == domain_id) if domain_id else query


def update(tx: Tx, cloud: Cloud, caller: Caller, group_id: str, change: dict[str, Any]) -> Row:
    row = get(tx, caller, group_id, "update_group")
    directory.refuse_change(tx, row.id)
    values = dict(change)
    if values.pop("domain_id", row.domain_id) != row.domain_id:
        raise BadRequest("Cannot change Domain ID")
    if "name" in values and values["name"] != row.name:
        _free(tx, values["name"], row.domain_id)
    if "extra" in values:
        values["extra"] = {k: v for k, v in {**row.extra, **values["extra"]}.items() if v is not None}
    if values:
        tx.execute(sa.update(group).where(group.c.id == group_id).values(**values))
    return users.find_group(tx, group_id) or row


def delete(tx: Tx, cloud: Cloud, caller: Caller, group_id: str) -> None:
    row = get(tx, caller, group_id, "delete_group")
    directory.refuse_change(tx, row.id)
    tx.execute(sa.delete(assignment).where(assignment.c.actor == "group", assignment.c.actor_id == row.id))
    tx.execute(sa.delete(group).where(group.c.id == row.id))
    revision.bump(tx)


def of_user(tx: Tx, cloud: Cloud, caller: Caller, user_id: str) -> sa.Select[Any]:
    """The groups that a user is in, and until when (`expires_at`, null for good). A domain's own reader sees its own."""
    if users.find(tx, user_id) is None:
        raise NotFound(f"Could not find user: {user_id[:64]}.")
    held = grants.memberships(user_id, cloud.clock.now())
    query = sa.select(group, held.c.expires_at).join(held, held.c.group_id == group.c.id)
    query = query.where(present(group.c.id))
    return query.where(group.c.domain_id == caller.domain_id) if caller.domain_id else query


def members(tx: Tx, caller: Caller, group_id: str) -> sa.Select[Any]:
    """The users that are in a group. A domain's own reader sees those of the domain."""
    row = get(tx, caller, group_id, "list_users_in_group")
    query = sa.select(user).join(membership, membership.c.user_id == user.c.id)
    query = query.where(membership.c.group_id == row.id)
    return query.where(user.c.domain_id == caller.domain_id) if caller.domain_id else query


def _pair(tx: Tx, caller: Caller, group_id: str, user_id: str, rule: str) -> None:
    who, where = users.find(tx, user_id), users.find_group(tx, group_id)
    may(caller, rule, target(user=who, group=where))
    if where is None:
        raise NotFound(f"Could not find group: {group_id[:64]}.")
    if who is None:
        raise NotFound(f"Could not find user: {user_id[:64]}.")


def add(tx: Tx, caller: Caller, group_id: str, user_id: str) -> None:
    _pair(tx, caller, group_id, user_id, "add_user_to_group")
    directory.refuse_change(tx, user_id, group_id)
    db.upsert(tx, membership, {"user_id": user_id, "group_id": group_id}, {}, key=("user_id", "group_id"))
    revision.bump(tx)


def check(tx: Tx, caller: Caller, group_id: str, user_id: str) -> None:
    _pair(tx, caller, group_id, user_id, "check_user_in_group")
    query = sa.select(membership).where(membership.c.group_id == group_id, membership.c.user_id == user_id)
    if tx.execute(query).first() is None:
        raise NotFound(f"User {user_id} is not in group {group_id}.")


def remove(tx: Tx, caller: Caller, group_id: str, user_id: str) -> None:
    _pair(tx, caller, group_id, user_id, "remove_user_from_group")
    directory.refuse_change(tx, user_id, group_id)
    gone = sa.delete(membership).where(membership.c.group_id == group_id, membership.c.user_id == user_id)
    if not tx.execute(gone).rowcount:
        raise NotFound(f"User {user_id} is not in group {group_id}.")
    revision.bump(tx)
