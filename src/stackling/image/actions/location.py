"""Where the data of an image is: in stores that know it by its id, or at URLs."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from stackling.base import ids, jobs
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.image import store
from stackling.image.state.image import image, image_location

KIND = "image.image"

_OF = (
    sa.select(image_location)
    .where(image_location.c.image_id.in_(sa.bindparam("ids", expanding=True)), ~image_location.c.going)
    .order_by(image_location.c.number)
)


def of_many(tx: Tx, cloud: Cloud, image_ids: Iterable[str]) -> dict[str, list[Row]]:
    """The locations of many images in one statement, by image id, in the order in which they are read."""
    places = {name: place for place, name in enumerate(store.of(cloud).names)}
    found: dict[str, list[Row]] = {}
    for row in tx.execute(_OF, {"ids": list(image_ids)}):
        found.setdefault(row.image_id, []).append(row)
    for rows in found.values():
        rows.sort(key=lambda r: places.get(r.store, len(places)))
    return found


def of(tx: Tx, cloud: Cloud, image_id: str) -> list[Row]:
    return of_many(tx, cloud, [image_id]).get(image_id, [])


def stores(rows: Iterable[Row]) -> list[str]:
    """The names of their stores, each once."""
    return list(dict.fromkeys(r.store for r in rows))


def add(tx: Tx, image_id: str, name: str, url: str | None = None, meta: Mapping[str, Any] = {}) -> None:
    """The image is in the store `name` too; a store that knows it by its id names it once."""
    known = list(tx.execute(_OF, {"ids": [image_id]}))
    if any(r.store == name and r.url == url for r in known):
        return
    number = max((r.number for r in known), default=-1) + 1
    values = {
        "id": ids.uuid4(),
        "image_id": image_id,
        "store": name,
        "url": url,
        "meta": dict(meta),
        "number": number,
    }
    tx.execute(sa.insert(image_location).values(**values))


def forget(tx: Tx, image_id: str) -> None:
    """The image is nowhere any more."""
    tx.execute(sa.delete(image_location).where(image_location.c.image_id == image_id))


def remove(tx: Tx, cloud: Cloud, rows: Iterable[Row]) -> None:
    """The image is no longer there; the data goes when the transaction has ended."""
    now = cloud.clock.now()
    for row in rows:
        tx.execute(sa.update(image_location).where(image_location.c.id == row.id).values(going=True))
        tx.execute(sa.update(image).where(image.c.id == row.image_id).values(updated_at=now))
        jobs.start(tx, KIND, row.image_id, now=now)


def going(tx: Tx, image_id: str) -> list[Row]:
    """The locations whose data is to be removed."""
    here = sa.and_(image_location.c.image_id == image_id, image_location.c.going)
    return list(tx.execute(sa.select(image_location).where(here)))


def cleared(tx: Tx, rows: Iterable[Row]) -> None:
    """Their data is removed."""
    tx.execute(sa.delete(image_location).where(image_location.c.id.in_([row.id for row in rows])))


def url(row: Row) -> str:
    """A location as users see it; what is in a store of the cloud's own shows the store, not the path on its disk."""
    return row.url or f"file://{row.store}/{row.image_id}"


def note(tx: Tx, id: str, meta: Mapping[str, Any]) -> None:
    tx.execute(sa.update(image_location).where(image_location.c.id == id).values(meta=dict(meta)))


def move_last(tx: Tx, image_id: str, at: int) -> None:
    """The last location comes to stand at a place, and those behind it one further."""
    rows = list(tx.execute(_OF, {"ids": [image_id]}))
    rows.insert(at, rows.pop())
    for number, row in enumerate(rows):
        tx.execute(sa.update(image_location).where(image_location.c.id == row.id).values(number=number))
