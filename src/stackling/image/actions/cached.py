"""Images that hosts cache: fetched before a server needs them, kept while servers do, removed when nobody does."""

from collections.abc import Iterable

import sqlalchemy as sa

from stackling.base import ids, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.image.actions.image import BOOTABLE_FORMATS, find
from stackling.image.data_driver import NodeCache
from stackling.image.state.cached import State, image_cached
from stackling.image.state.image import State as ImageState

KIND, LOOK = "image.cached", "image.cache"


def queue(tx: Tx, cloud: Cloud, caller: Caller, image_id: str) -> None:
    """Have every host fetch an image. Raises Forbidden, NotFound, BadRequest (it has no data for hosts)."""
    caller.may("cache_image")
    want(tx, cloud, caller, image_id, cloud.hosts(NodeCache))


def want(tx: Tx, cloud: Cloud, caller: Caller, image_id: str, hosts: Iterable[str]) -> None:
    """Have hosts fetch an image; the caller was asked for its right already. Raises NotFound, BadRequest."""
    row = find(tx, caller, image_id)
    if row.state != ImageState.ACTIVE:
        raise BadRequest(f"Image {image_id} can't be cached: only active images can, it is {row.state}.")
    if row.disk_format not in BOOTABLE_FORMATS or row.os_hash_algo != "sha512":
        raise BadRequest(
            f"Image {image_id} can't be cached: hosts cache raw and qcow2 images of known SHA-512."
        )
    for host in hosts:
        known = tx.execute(_at(image_id, host)).first()
        if known is None:
            _insert(tx, cloud, image_id, host, State.QUEUED)
        elif known.state == State.DROPPING:
            _move(tx, cloud, known, State.QUEUED)


def _at(image_id: str, host: str) -> sa.Select[tuple[Row]]:
    return sa.select(image_cached).where(image_cached.c.image_id == image_id, image_cached.c.host == host)


def _insert(
    tx: Tx, cloud: Cloud, image_id: str, host: str, state: State, size: int = 0, hits: int = 0
) -> None:
    id, now = ids.uuid4(), cloud.clock.now()
    values = {
        "id": id,
        "image_id": image_id,
        "host": host,
        "state": state,
        "size": size,
        "hits": hits,
        "created_at": now,
        "updated_at": now,
        "used_at": now,
    }
    tx.execute(sa.insert(image_cached).values(**values))
    jobs.start(tx, KIND, id, now=now)


def _move(tx: Tx, cloud: Cloud, row: Row, state: State) -> None:
    tx.execute(sa.update(image_cached).where(image_cached.c.id == row.id).values(state=state))
    jobs.start(tx, KIND, row.id, now=cloud.clock.now())


def listed(tx: Tx, caller: Caller, rule: str = "cache_list") -> list[Row]:
    """Every image on every host, those that go left out. Raises Forbidden."""
    caller.may(rule)
    known = sa.select(image_cached).where(image_cached.c.state != State.DROPPING)
    return list(tx.execute(known.order_by(image_cached.c.image_id, image_cached.c.host)))


def hosts_of(tx: Tx, caller: Caller, image_id: str) -> list[str]:
    """The hosts that have an image cached. Raises NotFound, Forbidden."""
    find(tx, caller, image_id)
    return [r.host for r in listed(tx, caller) if r.image_id == image_id and r.state == State.CACHED]


def drop(tx: Tx, cloud: Cloud, caller: Caller, image_id: str) -> None:
    """No host is to cache an image; where servers stand on it, it goes with the last. Raises Forbidden, NotFound."""
    mine = [r for r in listed(tx, caller, "cache_delete") if r.image_id == image_id]
    if not mine:
        raise NotFound(f"Image {image_id[:64]} is neither cached nor queued.")
    for row in mine:
        _move(tx, cloud, row, State.DROPPING)


def clear(tx: Tx, cloud: Cloud, caller: Caller, states: Iterable[State]) -> None:
    """The same for every image that is in one of these states."""
    for row in listed(tx, caller, "cache_delete"):
        if row.state in states:
            _move(tx, cloud, row, State.DROPPING)


def look(tx: Tx, cloud: Cloud, caller: Caller, rule: str) -> None:
    """Have every host looked at now: remains cleared away, images aged out."""
    caller.may(rule)
    for host in cloud.hosts(NodeCache):
        jobs.wake(tx, LOOK, host, now=cloud.clock.now())


def seen(tx: Tx, cloud: Cloud, host: str, image_id: str, size: int, users: int) -> None:
    """A host has an image, whoever had it fetched."""
    known = tx.execute(_at(image_id, host)).first()
    now = cloud.clock.now()
    if known is None:
        _insert(tx, cloud, image_id, host, State.CACHED, size, users)
        return
    values = {"size": size, "hits": users} | ({"used_at": now} if users else {})
    tx.execute(sa.update(image_cached).where(image_cached.c.id == known.id).values(**values))


def forget(tx: Tx, host: str, held: Iterable[str]) -> None:
    """What a host is noted to have cached and hasn't, is not there any more."""
    here = sa.and_(image_cached.c.host == host, image_cached.c.state != State.QUEUED)
    tx.execute(sa.delete(image_cached).where(here, image_cached.c.image_id.not_in(list(held))))


def age(tx: Tx, cloud: Cloud, host: str) -> None:
    """Unused images go when they have been unused for long enough, and the longest unused when they are too much."""
    config, now = cloud.config.image, cloud.clock.now()
    idle = sa.and_(
        image_cached.c.host == host, image_cached.c.state == State.CACHED, image_cached.c.hits == 0
    )
    rows = list(tx.execute(sa.select(image_cached).where(idle).order_by(image_cached.c.used_at.desc())))
    kept = 0
    for row in rows:
        kept += row.size
        old = (now - row.used_at).total_seconds() >= config.cache_unused_seconds
        if old or 0 < config.cache_max_gib << 30 < kept:
            _move(tx, cloud, row, State.DROPPING)
