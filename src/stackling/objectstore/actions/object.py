"""Objects and their versions, as rows: what a name means, what takes its place, what goes.

Changes are made with the container's row locked, whose counts they keep exact. What they return is data that no row
names any more; it is removed from its store when the transaction is committed.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import ids, log
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import NotFound
from stackling.base.statement import Statement
from stackling.objectstore import store
from stackling.objectstore.actions import container, listing, metadata, quota
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.state.container import container as containers
from stackling.objectstore.state.object import object as objects

MOST_NAME = 1024  # bytes
DELETE_MARK = "application/x-deleted;swift_versions_deleted=1"
EMPTY = "d41d8cd98f00b204e9800998ecf8427e"  # MD5 of nothing

_LATEST = Statement(
    sa.select(objects).where(
        objects.c.container_id == sa.bindparam("container_id"),
        objects.c.name == sa.bindparam("name"),
        objects.c.latest,
    )
)


class Place(Struct, frozen=True):
    """Where an object is."""

    account: str
    container: str
    object: str


class New(Struct, kw_only=True):
    """An object as it is to be."""

    content_type: str
    headers: dict[str, str]
    delete_at: datetime | None = None
    special: dict[str, Any] | None = None
    id: str = ""
    policy: str = ""
    size: int = 0
    stored: int = 0
    etag: str = EMPTY


def stamp(when: datetime) -> str:
    """Seconds since 1970 with five decimals, as `X-Timestamp` has them."""
    micros = (when - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    return f"{micros // 1_000_000:010d}.{micros % 1_000_000 // 10:05d}"


def time_of(text: str) -> datetime:
    """The time that a stamp says."""
    seconds, _, rest = text.partition(".")
    since = timedelta(seconds=int(seconds), microseconds=int(rest.ljust(6, "0")[:6] or 0))
    return datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None) + since


def latest(tx: Tx, container_id: str, name: str) -> Row | None:
    """The latest version of a name, which may be the mark that it was deleted."""
    return _LATEST.first(tx, container_id=container_id, name=name)


def present(row: Row | None, now: datetime) -> bool:
    """Whether there is an object: not deleted, not expired."""
    return row is not None and not row.deleted and (row.delete_at is None or row.delete_at > now)


def found(tx: Tx, cloud: Cloud, container_id: str, name: str, version: str | None = None) -> Row:
    """An object. `version` is a version's id, or `null`. Raises NotFound."""
    if version is None:
        row = latest(tx, container_id, name)
    else:
        same = sa.and_(objects.c.container_id == container_id, objects.c.name == name)
        which = (
            ~objects.c.kept if version == "null" else sa.and_(objects.c.kept, objects.c.version == version)
        )
        row = tx.execute(sa.select(objects).where(same, which)).first()
    if row is None or not (present(row, cloud.clock.now()) or (version is not None and row.deleted)):
        raise NotFound("The resource could not be found.")
    return row


def look(tx: Tx, cloud: Cloud, visitor: Visitor, at: Place, version: str | None = None) -> tuple[Row, Row]:
    """An object and its container, for those who may read it. Raises Unauthorized, Forbidden, NotFound."""
    box, _ = container.look(tx, cloud, visitor, at.account, at.container, listing=False)
    return found(tx, cloud, box.id, at.object, version), box


def replace(tx: Tx, cloud: Cloud, box: Row, name: str, new: New) -> tuple[Row, list[Row]]:
    """An object takes the place of what the name meant, which stays as a version where the container keeps them.

    `box` is the container, locked. Returns the object, and what is to be removed from the stores. Raises TooLarge.
    """
    old = latest(tx, box.id, name)
    going: list[Row] = []
    count, size = 1, new.stored
    if old is not None:
        count -= not old.deleted
        size -= _set_aside(tx, cloud, box, old, going)
    quota.check(tx, box, count, size)
    before = old.version if old is not None else ""
    made = _insert(tx, cloud, box.id, name, new, before, kept=bool(box.versions))
    _count(tx, box.id, count, size)
    return made, going


def _set_aside(tx: Tx, cloud: Cloud, box: Row, old: Row, going: list[Row]) -> int:
    """What the name means is its latest no more: a version, archived, or gone. Returns the bytes that left."""
    if box.versions or old.kept:
        tx.execute(sa.update(objects).where(objects.c.id == old.id).values(latest=False, kept=True))
        return 0
    location = box.headers.get("X-Versions-Location") or box.headers.get("X-History-Location")
    if location and present(old, cloud.clock.now()):
        into = container.versions_in(tx, cloud, box.account, location)
        _move(tx, old, into.id, f"{_archived(old.name)}{old.version}")
    else:
        tx.execute(sa.delete(objects).where(objects.c.id == old.id))
        going.append(old)
    return int(old.stored)


def _archived(name: str) -> str:
    """What the names of archived versions begin with."""
    return f"{len(name):03x}{name}/"


def _move(tx: Tx, row: Row, container_id: str, name: str) -> None:
    """An object goes under another name, in another container, with its data."""
    there = container.locked(tx, container_id)
    move = sa.update(objects).where(objects.c.id == row.id)
    tx.execute(move.values(container_id=there.id, name=name, latest=True, kept=False))
    _count(tx, there.id, 1, row.stored)


def _insert(
    tx: Tx,
    cloud: Cloud,
    container_id: str,
    name: str,
    new: New,
    before: str,
    *,
    kept: bool,
    deleted: bool = False,
) -> Row:
    """Add a version that is newer than `before` and than all that are there, even when two come at once."""
    newest = sa.select(sa.func.max(objects.c.version)).where(
        objects.c.container_id == container_id, objects.c.name == name
    )
    now = cloud.clock.now()
    last, version = max(before, tx.execute(newest).scalar() or ""), stamp(now)
    if last >= version:
        now = time_of(last) + timedelta(microseconds=10)
        version = stamp(now)
    values = {
        "id": new.id or ids.uuid4(),
        "container_id": container_id,
        "name": name,
        "version": version,
        "latest": True,
        "kept": kept,
        "deleted": deleted,
        "policy": new.policy,
        "size": new.size,
        "stored": new.stored,
        "etag": new.etag,
        "content_type": new.content_type,
        "headers": new.headers,
        "special": new.special,
        "modified_at": now,
        "delete_at": new.delete_at,
    }
    return tx.execute(objects.insert().values(**values).returning(objects)).one()


def _count(tx: Tx, container_id: str, count: int, size: int) -> None:
    """The container has so many more objects and bytes."""
    if count or size:
        table = containers.c
        change = {"object_count": table.object_count + count, "bytes_used": table.bytes_used + size}
        tx.execute(sa.update(containers).where(table.id == container_id).values(change))


def update(
    tx: Tx,
    cloud: Cloud,
    visitor: Visitor,
    at: Place,
    headers: dict[str, str],
    content_type: str | None,
    delete_at: datetime | None,
) -> Row:
    """Give an object other metadata, instead of all that it had. Raises Unauthorized, Forbidden, NotFound, BadRequest."""
    box = container.for_writing(tx, cloud, visitor, at.account, at.container)
    container.locked(tx, box.id)
    row = found(tx, cloud, box.id, at.object)
    metadata.check("Object", headers)
    if row.special and "symlink" in row.special:
        return row
    values: dict[str, Any] = {"headers": headers, "delete_at": delete_at, "modified_at": cloud.clock.now()}
    if content_type:
        values["content_type"] = content_type
    tx.execute(sa.update(objects).where(objects.c.id == row.id).values(**values))
    return row


def delete(cloud: Cloud, visitor: Visitor, at: Place, version: str | None = None) -> Row:
    """Delete an object, or one version. Returns what it was. Raises Unauthorized, Forbidden, NotFound."""
    with cloud.db.begin() as tx:
        box = container.for_writing(tx, cloud, visitor, at.account, at.container)
        gone, going = remove(tx, cloud, container.locked(tx, box.id), at.object, version)
    forget(cloud, going)
    if gone is None:
        raise NotFound("The resource could not be found.")
    return gone


def remove(tx: Tx, cloud: Cloud, box: Row, name: str, version: str | None) -> tuple[Row | None, list[Row]]:
    """A name, or one version of it, is no more. `box` is the container, locked.

    Returns what it was, and what is to be removed from the stores. None: it had expired, and is removed all the same.
    """
    old = latest(tx, box.id, name) if version is None else None
    if old is not None and not old.deleted and not present(old, cloud.clock.now()):
        return None, expire(tx, cloud, old)
    row = found(tx, cloud, box.id, name, version)
    going: list[Row] = []
    if version is not None:
        _discard(tx, box.id, row, going)
        return row, going
    _end(tx, cloud, box, row, going)
    return row, going


def expire(tx: Tx, cloud: Cloud, row: Row) -> list[Row]:
    """An object whose time has come is no more, as if it had been deleted. Returns what is to be removed."""
    going: list[Row] = []
    box = container.locked(tx, row.container_id)
    again = tx.execute(sa.select(objects).where(objects.c.id == row.id)).first()
    if again is None or again.delete_at is None or again.delete_at > cloud.clock.now():
        return going
    if again.latest:
        _end(tx, cloud, box, again, going)
    else:
        _discard(tx, box.id, again, going)
    return going


def _discard(tx: Tx, container_id: str, row: Row, going: list[Row]) -> None:
    tx.execute(sa.delete(objects).where(objects.c.id == row.id))
    _count(tx, container_id, -int(row.latest and not row.deleted), -row.stored)
    going.append(row)


def _end(tx: Tx, cloud: Cloud, box: Row, row: Row, going: list[Row]) -> None:
    """The name means nothing any more, or with versions stacked what it meant before."""
    size = _left(tx, cloud, box, row, going)
    _count(tx, box.id, -1, -size)
    mark = New(content_type=DELETE_MARK, headers={}, policy=row.policy)
    if box.versions:
        _insert(tx, cloud, box.id, row.name, mark, row.version, kept=True, deleted=True)
    elif history := box.headers.get("X-History-Location"):
        into = container.versions_in(tx, cloud, box.account, history)
        container.locked(tx, into.id)
        when = max(stamp(cloud.clock.now()), stamp(time_of(row.version) + timedelta(microseconds=10)))
        _insert(tx, cloud, into.id, f"{_archived(row.name)}{when}", mark, row.version, kept=False)
        _count(tx, into.id, 1, 0)


def _left(tx: Tx, cloud: Cloud, box: Row, row: Row, going: list[Row]) -> int:
    """Take the latest away. Returns the bytes that left the container."""
    stack = box.headers.get("X-Versions-Location")
    if not stack or box.versions or row.kept:
        if row.kept and not box.versions:
            tx.execute(sa.update(objects).where(objects.c.id == row.id).values(latest=False))
            return 0
        return _set_aside(tx, cloud, box, row, going)
    tx.execute(sa.delete(objects).where(objects.c.id == row.id))
    going.append(row)
    source = container.find(tx, box.account, stack.split("/")[0])
    begins = _archived(row.name)
    before = None
    if source is not None:
        container.locked(tx, source.id)
        older = sa.select(objects).where(
            objects.c.container_id == source.id,
            objects.c.latest,
            objects.c.name >= begins,
            objects.c.name < str(listing.after(begins)),
        )
        before = tx.execute(older.order_by(objects.c.name.desc()).limit(1)).first()
    if source is not None and before is not None:
        _move(tx, before, box.id, row.name)
        _count(tx, source.id, -1, -before.stored)
    return int(row.stored)


def restore(cloud: Cloud, visitor: Visitor, at: Place, version: str) -> Row:
    """A version becomes what the name means. Raises Unauthorized, Forbidden, NotFound."""
    with cloud.db.begin() as tx:
        box = container.for_writing(tx, cloud, visitor, at.account, at.container)
        box = container.locked(tx, box.id)
        row = found(tx, cloud, box.id, at.object, version)
        if row.deleted:
            raise NotFound("The resource could not be found.")
        old = latest(tx, box.id, at.object)
        if old is not None and old.id != row.id:
            tx.execute(sa.update(objects).where(objects.c.id == old.id).values(latest=False, kept=True))
        if not row.latest:
            tx.execute(sa.update(objects).where(objects.c.id == row.id).values(latest=True))
            _count(tx, box.id, int(old is None or old.deleted), 0)
        return row


def forget(cloud: Cloud, going: list[Row]) -> None:
    """Remove data that no row names any more. What can't be removed now is the sweep's."""
    stores = store.of(cloud)
    for row in going:
        if row.stored:
            try:
                stores[row.policy].remove(row.id)
            except OSError as error:
                log.get("objectstore").warning("object.left", id=row.id, error=str(error))
