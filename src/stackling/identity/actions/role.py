"""Roles, and which imply which."""

from typing import Any

import msgspec
import sqlalchemy as sa

from stackling.base import db, ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, Forbidden, NotFound
from stackling.identity.actions import named
from stackling.identity.actions.permission import may, target
from stackling.identity.state import project as projects
from stackling.identity.state import revision
from stackling.identity.state import role as roles
from stackling.identity.state.role import implied_role, role

OPTIONS: dict[str, type] = {"immutable": bool}
NEVER_IMPLIED = ("admin",)  # upstream's prohibited_implied_role


class NewRole(msgspec.Struct, kw_only=True):
    name: str
    domain_id: str | None = None
    description: str | None = None
    options: dict[str, Any] = {}
    extra: dict[str, Any] = {}


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewRole) -> Row:
    may(
        caller,
        "create_domain_role" if want.domain_id else "create_role",
        target(role=msgspec.to_builtins(want)),
    )
    if want.domain_id and projects.find_domain(tx, want.domain_id) is None:
        raise NotFound(f"Could not find domain: {want.domain_id[:64]}.")
    _free(tx, want.name, want.domain_id)
    return tx.execute(
        role.insert()
        .values(
            id=ids.hex32(),
            name=want.name,
            domain_id=want.domain_id,
            description=want.description,
            options=named.options(OPTIONS, want.options),
            extra=want.extra,
        )
        .returning(role)
    ).one()


def _free(tx: Tx, name: str, domain_id: str | None) -> None:
    scope = role.c.domain_id == domain_id if domain_id else role.c.domain_id.is_(None)
    taken = sa.select(role.c.id).where(role.c.name == name, scope)
    named.free(
        tx, taken, f"Conflict occurred attempting to store role - Duplicate entry found with name {name}."
    )


def get(tx: Tx, caller: Caller, role_id: str, verb: str = "get") -> Row:
    row = roles.find(tx, role_id)
    if row is None:
        raise NotFound(f"Could not find role: {role_id[:64]}.")
    may(caller, f"{verb}_domain_role" if row.domain_id else f"{verb}_role", target(role=row))
    return row


def listing(tx: Tx, caller: Caller, domain_id: str | None) -> sa.Select[Any]:
    """The roles of the cloud, or those of one domain."""
    if domain_id:
        may(caller, "list_domain_roles", {"target.role.domain_id": domain_id})
        return sa.select(role).where(role.c.domain_id == domain_id)
    may(caller, "list_roles")
    return sa.select(role).where(role.c.domain_id.is_(None))


def update(tx: Tx, cloud: Cloud, caller: Caller, role_id: str, change: dict[str, Any]) -> Row:
    row = get(tx, caller, role_id, "update")
    values = dict(change)
    named.mutable("role", row, change)
    if values.pop("domain_id", row.domain_id) != row.domain_id:
        raise BadRequest("Cannot change Domain ID")
    if "name" in values and values["name"] != row.name:
        _free(tx, values["name"], row.domain_id)
    if "options" in values:
        values["options"] = named.options(OPTIONS, values["options"], row.options)
    if "extra" in values:
        values["extra"] = {k: v for k, v in {**row.extra, **values["extra"]}.items() if v is not None}
    if values:
        tx.execute(sa.update(role).where(role.c.id == role_id).values(**values))
    revision.bump(tx)
    return roles.find(tx, role_id) or row


def delete(tx: Tx, cloud: Cloud, caller: Caller, role_id: str) -> None:
    row = get(tx, caller, role_id, "delete")
    named.mutable("role", row)
    tx.execute(sa.delete(role).where(role.c.id == row.id))
    revision.bump(tx)


# -- implied roles -----------------------------------------------------------------------------------------------------


def _pair(tx: Tx, prior_id: str, implied_id: str) -> tuple[Row, Row]:
    found = []
    for id in (prior_id, implied_id):
        row = roles.find(tx, id)
        if row is None:
            raise NotFound(f"Could not find role: {id[:64]}.")
        found.append(row)
    return found[0], found[1]


def imply(tx: Tx, caller: Caller, prior_id: str, implied_id: str) -> tuple[Row, Row]:
    """Whoever has the first role has the second as well."""
    may(caller, "create_implied_role")
    prior, implied = _pair(tx, prior_id, implied_id)
    if implied.name in NEVER_IMPLIED and implied.domain_id is None:
        raise Forbidden(f"{implied.name} cannot be an implied role.")
    if implied.domain_id is not None and prior.domain_id is None:
        raise Forbidden("A role of a domain can't be implied by a role of the whole cloud.")
    graph = roles.implications(tx)
    if prior.id == implied.id or prior.id in roles.closure(graph, [implied.id]):
        raise BadRequest(f"Role {implied.id} implies {prior.id} already; a circle is not allowed.")
    if implied.id in graph.get(prior.id, []):
        raise Conflict(
            f"Conflict occurred attempting to store implied role - {prior.id} implies {implied.id} already."
        )
    values = {"prior_role_id": prior.id, "implied_role_id": implied.id}
    db.upsert(tx, implied_role, values, {}, key=("prior_role_id", "implied_role_id"))
    revision.bump(tx)
    return prior, implied


def implied(tx: Tx, caller: Caller, prior_id: str, implied_id: str, rule: str) -> tuple[Row, Row]:
    may(caller, rule)
    pair = _pair(tx, prior_id, implied_id)
    if implied_id not in roles.implications(tx).get(prior_id, []):
        raise NotFound(f"{prior_id[:64]} does not imply {implied_id[:64]}.")
    return pair


def imply_no_more(tx: Tx, caller: Caller, prior_id: str, implied_id: str) -> None:
    prior, other = implied(tx, caller, prior_id, implied_id, "delete_implied_role")
    table = implied_role.c
    tx.execute(
        sa.delete(implied_role).where(table.prior_role_id == prior.id, table.implied_role_id == other.id)
    )
    revision.bump(tx)


def all_implied(tx: Tx, caller: Caller, prior_id: str) -> tuple[Row, list[Row]]:
    may(caller, "list_implied_roles")
    prior = roles.find(tx, prior_id)
    if prior is None:
        raise NotFound(f"Could not find role: {prior_id[:64]}.")
    found = roles.by_id(tx, roles.implications(tx).get(prior.id, []))
    return prior, sorted(found.values(), key=lambda r: r.name)


def inferences(tx: Tx, caller: Caller) -> list[tuple[Row, list[Row]]]:
    """Every role that implies any, with those it implies at any remove."""
    may(caller, "list_role_inference_rules")
    graph = roles.implications(tx)
    rows = {r.id: r for r in tx.execute(sa.select(role).order_by(role.c.name, role.c.id))}
    return [(rows[prior], [rows[i] for i in graph[prior]]) for prior in rows if prior in graph]
