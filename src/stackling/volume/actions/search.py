"""Lists of volumes, snapshots and attachments: what a caller sees, narrowed by filters."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import ColumnElement, Select, Table

from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import NotFound
from stackling.base.listing import page
from stackling.volume.state.attachment import attachment
from stackling.volume.state.snapshot import snapshot, snapshot_metadata
from stackling.volume.state.volume import volume, volume_image_metadata, volume_metadata

_COMPARE: dict[str, Callable[[Any, datetime], ColumnElement[bool]]] = {
    "gt": lambda c, v: c > v,
    "gte": lambda c, v: c >= v,
    "lt": lambda c, v: c < v,
    "lte": lambda c, v: c <= v,
    "eq": lambda c, v: c == v,
    "neq": lambda c, v: c != v,
}


class Search(Struct, kw_only=True):
    """Filters of a list; columns by the table's own names.

    `equal`: values any of which fits. `like`: a text that is contained. `times`: (column, operator, instant).
    `metadata` and `image_metadata`: items that must be there.
    """

    all_tenants: bool = False
    equal: dict[str, list[Any]] = {}
    like: dict[str, str] = {}
    times: list[tuple[str, str, datetime]] = []
    metadata: dict[str, str] = {}
    image_metadata: dict[str, str] = {}
    sort: Sequence[tuple[str, bool]] = (("created_at", True),)
    limit: int = 1000
    offset: int = 0
    marker: str | None = None
    count: bool = False


def volumes(tx: Tx, caller: Caller, want: Search) -> tuple[list[Row], int | None]:
    """A page of volumes, and how many there are on all pages when `want.count`."""
    caller.may("volume:get_all")
    query = _narrowed(volume, caller, want)
    for table, items in ((volume_metadata, want.metadata), (volume_image_metadata, want.image_metadata)):
        for key, value in items.items():
            having = sa.select(table.c.volume_id).where(table.c.key == key, table.c.value == value)
            query = query.where(volume.c.id.in_(having))
    return _page(tx, volume, query, caller, want, "Volume")


def snapshots(tx: Tx, caller: Caller, want: Search) -> tuple[list[Row], int | None]:
    caller.may("volume:get_all_snapshots")
    query = _narrowed(snapshot, caller, want)
    for key, value in want.metadata.items():
        having = sa.select(snapshot_metadata.c.snapshot_id).where(
            snapshot_metadata.c.key == key, snapshot_metadata.c.value == value
        )
        query = query.where(snapshot.c.id.in_(having))
    return _page(tx, snapshot, query, caller, want, "Snapshot")


def attachments(tx: Tx, caller: Caller, want: Search) -> tuple[list[Row], int | None]:
    caller.may("volume:get_all")
    return _page(tx, attachment, _narrowed(attachment, caller, want), caller, want, "Volume attachment")


def _narrowed(table: Table, caller: Caller, want: Search) -> Select[Any]:
    query = sa.select(table)
    if not (want.all_tenants and caller.is_admin):
        query = query.where(table.c.project_id == caller.project_id)
    for name, values in want.equal.items():
        query = query.where(table.c[name].in_(values))
    for name, text in want.like.items():
        query = query.where(table.c[name].contains(text, autoescape=True))
    for name, word, when in want.times:
        query = query.where(_COMPARE[word](table.c[name], when))
    return query


def _page(
    tx: Tx, table: Table, query: Select[Any], caller: Caller, want: Search, word: str
) -> tuple[list[Row], int | None]:
    count = None
    if want.count:
        count = tx.execute(sa.select(sa.func.count()).select_from(query.subquery())).scalar_one()
    sort = [(table.c[key], down) for key, down in want.sort]
    if not any(key == "id" for key, _ in want.sort):
        sort.append((table.c.id, want.sort[-1][1]))
    after = None
    if want.marker is not None:
        after = tx.execute(sa.select(table).where(table.c.id == want.marker)).first()
        if after is None or not (caller.is_admin or after.project_id == caller.project_id):
            raise NotFound(f"{word} {want.marker[:64]} could not be found.")
    if want.limit == 0:
        return [], count
    rows = page(tx, query, sort, limit=want.limit + want.offset, after=after)
    return rows[want.offset :], count


def summary(tx: Tx, caller: Caller, *, all_tenants: bool) -> tuple[int, int, dict[str, list[str]]]:
    """How many volumes, how many GiB, and all values of each metadata key."""
    caller.may("volume:get_all")
    query = _narrowed(volume, caller, Search(all_tenants=all_tenants)).subquery()
    count, size = tx.execute(sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(query.c.size), 0))).one()
    found: dict[str, list[str]] = {}
    having = sa.select(volume_metadata.c.key, volume_metadata.c.value).where(
        volume_metadata.c.volume_id.in_(sa.select(query.c.id))
    )
    for key, value in tx.execute(having.distinct().order_by(volume_metadata.c.key, volume_metadata.c.value)):
        found.setdefault(key, []).append(value)
    return count, int(size), found
