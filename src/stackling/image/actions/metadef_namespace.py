"""Namespaces of metadata definitions."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import Conflict, Forbidden, NotFound
from stackling.base.listing import page
from stackling.image.state.metadef import Visibility, metadef_association, metadef_namespace

SORT_KEYS = ("created_at", "updated_at", "namespace", "display_name", "visibility", "owner")
_COLUMNS = {
    **{c.key: c for c in metadef_namespace.c},
    "namespace": metadef_namespace.c.name,
    "owner": metadef_namespace.c.project_id,
}


class Wanted(Struct, kw_only=True):
    """A namespace as asked for. `owner` None: the caller's project."""

    name: str
    display_name: str | None = None
    description: str | None = None
    visibility: Visibility = Visibility.PRIVATE
    protected: bool = False
    owner: str | None = None


class Search(Struct, kw_only=True):
    """Filters of a list of namespaces."""

    visibility: Visibility | None = None
    resource_types: list[str] = []
    sort_key: str = "created_at"
    falling: bool = True
    limit: int = 25
    marker: str | None = None


def target(row: Row) -> dict[str, Any]:
    """A namespace as the policy sees it."""
    return {"project_id": row.project_id, "tenant_id": row.project_id, "visibility": row.visibility}


def get(tx: Tx, caller: Caller, name: str, rule: str = "get_metadef_namespace") -> Row:
    """A namespace that the caller sees, for something that `rule` guards. Raises NotFound, Forbidden."""
    row = tx.execute(sa.select(metadef_namespace).where(metadef_namespace.c.name == name)).first()
    mine = row is not None and (caller.is_admin or row.project_id == caller.project_id)
    if row is None or not (mine or row.visibility == Visibility.PUBLIC):
        raise NotFound(f"Metadata definition namespace={name[:80]} was not found.")
    caller.may(rule, target(row))
    return row


def changed(tx: Tx, caller: Caller, name: str, rule: str) -> Row:
    """A namespace that the caller changes: its own, or any for an admin. Raises NotFound, Forbidden."""
    row = get(tx, caller, name, rule)
    if not caller.is_admin and row.project_id != caller.project_id:
        raise Forbidden(f"You are not permitted to change namespace {name}.")
    return row


def unprotected(row: Row) -> None:
    """Raises Forbidden when nothing may be removed from the namespace."""
    if row.protected:
        raise Forbidden(f"Metadata definition namespace {row.name} is protected and cannot be deleted.")


def create(tx: Tx, cloud: Cloud, caller: Caller, want: Wanted) -> Row:
    """Raises Forbidden, Conflict (the name is taken)."""
    owner = want.owner or caller.project_id
    if owner is None:
        raise Forbidden("A namespace needs an owner: use a token of a project.")
    caller.may("add_metadef_namespace", {"project_id": owner, "visibility": want.visibility})
    _free(tx, want.name)
    now = cloud.clock.now()
    values = {"id": ids.uuid4(), "created_at": now, "updated_at": now, **_values(want, owner)}
    return tx.execute(sa.insert(metadef_namespace).values(**values).returning(metadef_namespace)).one()


def _values(want: Wanted, owner: str) -> dict[str, Any]:
    return {
        "project_id": owner,
        "name": want.name,
        "display_name": want.display_name,
        "description": want.description,
        "visibility": want.visibility,
        "protected": want.protected,
    }


def _free(tx: Tx, name: str) -> None:
    if tx.execute(sa.select(metadef_namespace.c.id).where(metadef_namespace.c.name == name)).first():
        raise Conflict(f"The metadata definition namespace={name} already exists.")


def update(tx: Tx, cloud: Cloud, caller: Caller, name: str, want: Wanted) -> Row:
    """Replace what is known of a namespace. Raises NotFound, Forbidden, Conflict (the new name is taken)."""
    row = changed(tx, caller, name, "modify_metadef_namespace")
    if want.name != row.name:
        _free(tx, want.name)
    values = {**_values(want, want.owner or row.project_id), "updated_at": cloud.clock.now()}
    this = metadef_namespace.c.id == row.id
    return tx.execute(
        sa.update(metadef_namespace).where(this).values(**values).returning(metadef_namespace)
    ).one()


def delete(tx: Tx, caller: Caller, name: str) -> None:
    """The namespace goes with all that it defines. Raises NotFound, Forbidden (also: it is protected)."""
    row = changed(tx, caller, name, "delete_metadef_namespace")
    unprotected(row)
    tx.execute(sa.delete(metadef_namespace).where(metadef_namespace.c.id == row.id))


def listed(tx: Tx, caller: Caller, want: Search) -> list[Row]:
    """A page of the namespaces that the caller sees. Raises Forbidden, NotFound (the marker)."""
    caller.may("get_metadef_namespaces")
    query = sa.select(metadef_namespace)
    if not caller.is_admin:
        own = metadef_namespace.c.project_id == caller.project_id
        query = query.where(sa.or_(metadef_namespace.c.visibility == Visibility.PUBLIC, own))
    if want.visibility is not None:
        query = query.where(metadef_namespace.c.visibility == want.visibility)
    if want.resource_types:
        about = sa.select(metadef_association.c.namespace_id).where(
            metadef_association.c.resource_type.in_(want.resource_types)
        )
        query = query.where(metadef_namespace.c.id.in_(about))
    after = get(tx, caller, want.marker) if want.marker is not None else None
    sort = [(_COLUMNS[want.sort_key], want.falling), (metadef_namespace.c.id, want.falling)]
    return page(tx, query, sort, limit=want.limit, after=after)


def associations_of(tx: Tx, namespace_ids: Iterable[str]) -> dict[str, list[Row]]:
    """The kinds of resources that namespaces are about, by namespace id, in one statement."""
    found: dict[str, list[Row]] = {}
    query = sa.select(metadef_association).where(metadef_association.c.namespace_id.in_(list(namespace_ids)))
    for row in tx.execute(query.order_by(metadef_association.c.resource_type)):
        found.setdefault(row.namespace_id, []).append(row)
    return found
