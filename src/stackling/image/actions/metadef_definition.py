"""What a namespace defines: objects, properties and tags. All three are named things in it and live the same way."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import Table

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import Conflict, NotFound
from stackling.base.listing import page
from stackling.image.actions.metadef_namespace import changed, get, unprotected
from stackling.image.state.metadef import metadef_object, metadef_property, metadef_tag

SORT_KEYS = ("created_at", "updated_at", "name")


class Kind(Struct, frozen=True):
    """One kind of definition: its table, what it is called, and the rules that guard it."""

    table: Table
    word: str
    list_rule: str
    show_rule: str
    add_rule: str
    add_all_rule: str
    modify_rule: str
    delete_rule: str
    delete_all_rule: str


OBJECT = Kind(
    metadef_object,
    "object",
    "get_metadef_objects",
    "get_metadef_object",
    "add_metadef_object",
    "add_metadef_object",
    "modify_metadef_object",
    "delete_metadef_object",
    "delete_metadef_object",
)
PROPERTY = Kind(
    metadef_property,
    "property",
    "get_metadef_properties",
    "get_metadef_property",
    "add_metadef_property",
    "add_metadef_property",
    "modify_metadef_property",
    "remove_metadef_property",
    "remove_metadef_property",
)
TAG = Kind(
    metadef_tag,
    "tag",
    "get_metadef_tags",
    "get_metadef_tag",
    "add_metadef_tag",
    "add_metadef_tags",
    "modify_metadef_tag",
    "delete_metadef_tag",
    "delete_metadef_tags",
)


class Search(Struct, kw_only=True):
    """Which part of a list. `limit` None: all of it."""

    sort_key: str = "created_at"
    falling: bool = True
    limit: int | None = None
    marker: str | None = None


def _row(tx: Tx, kind: Kind, namespace: Row, name: str) -> Row:
    this = sa.and_(kind.table.c.namespace_id == namespace.id, kind.table.c.name == name)
    row = tx.execute(sa.select(kind.table).where(this)).first()
    if row is None:
        raise NotFound(
            f"The metadata definition {kind.word} with name={name[:80]} was not found in namespace={namespace.name}."
        )
    return row


def of(tx: Tx, kind: Kind, namespace_id: str) -> Sequence[Row]:
    """All of a kind that a namespace defines, the oldest first."""
    mine = sa.select(kind.table).where(kind.table.c.namespace_id == namespace_id)
    return tx.execute(mine.order_by(kind.table.c.created_at, kind.table.c.id)).all()


def listed(tx: Tx, caller: Caller, kind: Kind, namespace: str, want: Search) -> list[Row]:
    """Raises NotFound (the namespace, the marker), Forbidden."""
    parent = get(tx, caller, namespace, kind.list_rule)
    query = sa.select(kind.table).where(kind.table.c.namespace_id == parent.id)
    after = _row(tx, kind, parent, want.marker) if want.marker is not None else None
    sort = [(kind.table.c[want.sort_key], want.falling), (kind.table.c.id, want.falling)]
    return page(tx, query, sort, limit=want.limit, after=after)


def shown(tx: Tx, caller: Caller, kind: Kind, namespace: str, name: str) -> Row:
    """Raises NotFound, Forbidden."""
    return _row(tx, kind, get(tx, caller, namespace, kind.show_rule), name)


def create(
    tx: Tx, cloud: Cloud, caller: Caller, kind: Kind, namespace: str, wanted: Sequence[Mapping[str, Any]]
) -> list[Row]:
    """Define something; each of `wanted` holds the columns, `name` among them. Raises NotFound, Forbidden, Conflict."""
    parent = changed(tx, caller, namespace, kind.add_rule if len(wanted) == 1 else kind.add_all_rule)
    return _insert(tx, cloud, kind, parent, wanted)


def _insert(tx: Tx, cloud: Cloud, kind: Kind, parent: Row, wanted: Sequence[Mapping[str, Any]]) -> list[Row]:
    names = [str(w["name"]) for w in wanted]
    mine = sa.and_(kind.table.c.namespace_id == parent.id, kind.table.c.name.in_(names))
    taken = set(tx.execute(sa.select(kind.table.c.name).where(mine)).scalars()) | {
        n for n in names if names.count(n) > 1
    }
    if taken:
        raise Conflict(
            f"A metadata definition {kind.word} with name={min(taken)} already exists in namespace={parent.name}."
        )
    now = cloud.clock.now()
    made = []
    for want in wanted:
        values = {"id": ids.uuid4(), "namespace_id": parent.id, "created_at": now, "updated_at": now, **want}
        made.append(tx.execute(sa.insert(kind.table).values(**values).returning(kind.table)).one())
    return made


def replace_all(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    kind: Kind,
    namespace: str,
    wanted: Sequence[Mapping[str, Any]],
    *,
    append: bool,
) -> list[Row]:
    """The namespace defines these and, unless `append`, no others. Raises NotFound, Forbidden, Conflict (a name twice)."""
    parent = changed(tx, caller, namespace, kind.add_all_rule)
    if not append:
        unprotected(parent)
        tx.execute(sa.delete(kind.table).where(kind.table.c.namespace_id == parent.id))
    return _insert(tx, cloud, kind, parent, wanted)


def update(
    tx: Tx, cloud: Cloud, caller: Caller, kind: Kind, namespace: str, name: str, want: Mapping[str, Any]
) -> Row:
    """Replace a definition, perhaps under a new name. Raises NotFound, Forbidden, Conflict (the new name is taken)."""
    parent = changed(tx, caller, namespace, kind.modify_rule)
    row = _row(tx, kind, parent, name)
    if want["name"] != name:
        other = sa.and_(kind.table.c.namespace_id == parent.id, kind.table.c.name == want["name"])
        if tx.execute(sa.select(kind.table.c.id).where(other)).first():
            raise Conflict(
                f"A metadata definition {kind.word} with name={want['name']} already exists in namespace={namespace}."
            )
    values = {**want, "updated_at": cloud.clock.now()}
    return tx.execute(
        sa.update(kind.table).where(kind.table.c.id == row.id).values(**values).returning(kind.table)
    ).one()


def delete(tx: Tx, caller: Caller, kind: Kind, namespace: str, name: str) -> None:
    """Raises NotFound, Forbidden (also: the namespace is protected)."""
    parent = changed(tx, caller, namespace, kind.delete_rule)
    row = _row(tx, kind, parent, name)
    unprotected(parent)
    tx.execute(sa.delete(kind.table).where(kind.table.c.id == row.id))


def delete_all(tx: Tx, caller: Caller, kind: Kind, namespace: str) -> None:
    """Raises NotFound, Forbidden (also: the namespace is protected)."""
    parent = changed(tx, caller, namespace, kind.delete_all_rule)
    unprotected(parent)
    tx.execute(sa.delete(kind.table).where(kind.table.c.namespace_id == parent.id))
