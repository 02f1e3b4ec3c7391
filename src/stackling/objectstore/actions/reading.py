"""Objects' data on its way out: an object's own, or that of the segments that a manifest names."""

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import Conflict, NotFound, Unavailable
from stackling.base.statement import Statement, among
from stackling.base.streaming import PIECE
from stackling.objectstore import store
from stackling.objectstore.actions import container, listing, object
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.actions.object import Place
from stackling.objectstore.state.object import object as objects

DEEPEST = 10  # manifests in manifests
LINKS = 2  # symbolic links that lead to symbolic links

_AMONG = Statement(
    sa.select(objects).where(
        objects.c.container_id == sa.bindparam("container_id"),
        among(objects.c.name, "names"),
        objects.c.latest,
    )
)


class Piece(Struct, frozen=True):
    """Some bytes of an object's own data. `number`: which segment of a manifest they belong to, from 1."""

    policy: str
    id: str
    first: int
    length: int
    number: int = 0


class Segment(Struct, frozen=True):
    """One line of a static manifest as it is kept. `name` is `/container/object`; `range` as in HTTP, without a unit."""

    name: str
    hash: str
    bytes: int
    content_type: str
    last_modified: str
    range: str | None = None
    sub_slo: bool = False

    @property
    def span(self) -> tuple[int, int]:
        """First byte and length of what is used."""
        return span(self.range, self.bytes)

    @property
    def place(self) -> tuple[str, str]:
        box, _, name = self.name.lstrip("/").partition("/")
        return box, name


def span(range: str | None, size: int) -> tuple[int, int]:
    """First byte and length of a range such as `0-99`, `100-` or `-5`. Raises ValueError: it is none, or outside."""
    if range is None:
        return 0, size
    start, dash, end = range.partition("-")
    if not dash or not (start or end) or not all(not part or part.isdecimal() for part in (start, end)):
        raise ValueError(range)
    first, last = (
        (int(start), min(int(end), size - 1) if end else size - 1)
        if start
        else (max(0, size - int(end)), size - 1)
    )
    if first > last or not (start or int(end)):
        raise ValueError(range)
    return first, last - first + 1


class Body:
    """What a reader of an object gets: `size` bytes, from any of them on."""

    def __init__(self, cloud: Cloud, pieces: list[Piece]) -> None:
        self.pieces = pieces
        self.size = sum(piece.length for piece in pieces)
        self._stores = store.of(cloud)
        self._open: tuple[str, BinaryIO] | None = None
        if pieces:
            self._file(pieces[0])

    def read(self, first: int, length: int) -> Iterator[bytes]:
        """These bytes. Raises OSError: they can't be had now."""
        for piece in self.pieces:
            if length <= 0:
                return
            if first >= piece.length:
                first -= piece.length
                continue
            left = min(piece.length - first, length)
            file = self._file(piece)
            file.seek(piece.first + first)
            first, length = 0, length - left
            while left:
                chunk = file.read(min(left, PIECE))
                if not chunk:
                    raise OSError(f"the data of object {piece.id} ends early")
                left -= len(chunk)
                yield chunk

    def part(self, number: int) -> tuple[int, int] | None:
        """First byte and length of one segment, by its number."""
        before = sum(p.length for p in self.pieces if p.number < number)
        own = sum(p.length for p in self.pieces if p.number == number)
        return (before, own) if own else None

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _file(self, piece: Piece) -> BinaryIO:
        if self._open is None or self._open[0] != piece.id:
            self.close()
            self._open = piece.id, self._stores[piece.policy].open(piece.id)
        return self._open[1]


class Opened(Struct):
    """An object for a reader: its row, what to tell of it, and its data (None: only asked about)."""

    row: Row
    at: Place
    size: int
    etag: str
    body: Body
    large: bool = False  # made of segments, so that its ETag is no MD5
    linked: bool = False  # found by a symbolic link


def open_object(
    cloud: Cloud,
    visitor: Visitor,
    at: Place,
    version: str | None,
    *,
    manifest: bool = False,
    link: bool = False,
) -> Opened:
    """An object to be read. `manifest`: a manifest itself, instead of what it names; `link`: a symbolic link itself.

    Raises Unauthorized, Forbidden, NotFound, Conflict (a segment is gone or changed, links in a circle).
    """
    for _ in range(
        5
    ):  # what was overwritten between the look at the row and the opening of its data is looked at again
        try:
            return _open(cloud, visitor, at, version, manifest, link)
        except FileNotFoundError as error:
            lost = error
        except OSError as error:
            raise Unavailable(
                "The object's data can't be read just now; try again.", detail=repr(error)
            ) from error
    raise NotFound("The object's data is not in the store.", detail=repr(lost))


def _open(
    cloud: Cloud, visitor: Visitor, at: Place, version: str | None, manifest: bool, link: bool
) -> Opened:
    row, at, linked = _followed(cloud, visitor, at, version, link)
    special = row.special or {}
    if "slo" in special and not manifest:
        segments = segments_of(cloud, row)
        pieces = _static(cloud, visitor, at.account, segments)
        return Opened(row, at, row.size, special["slo"]["etag"], Body(cloud, pieces), True, linked)
    if "X-Object-Manifest" in row.headers and not manifest:
        pieces, etag = _dynamic(cloud, visitor, at.account, row.headers["X-Object-Manifest"])
        body = Body(cloud, pieces)
        return Opened(row, at, body.size, etag, body, True, linked)
    own = [Piece(row.policy, row.id, 0, row.stored)] if row.stored else []
    return Opened(row, at, row.stored, row.etag, Body(cloud, own), False, linked)


def _followed(
    cloud: Cloud, visitor: Visitor, at: Place, version: str | None, link: bool
) -> tuple[Row, Place, bool]:
    """The object that a name means, behind symbolic links."""
    linked, wanted = False, ""
    for _ in range(LINKS + 1):
        with cloud.db.read() as tx:
            row, _ = object.look(tx, cloud, visitor, at, version)
        to = (row.special or {}).get("symlink")
        if wanted and to is None and row.etag != wanted:
            raise Conflict(f"Object Etag {row.etag!r} does not match X-Symlink-Target-Etag header {wanted!r}")
        if to is None or link:
            return row, at, linked
        box, _, name = to["target"].partition("/")
        at, version, linked, wanted = (
            Place(to["account"] or at.account, box, name),
            None,
            True,
            to.get("etag") or "",
        )
    raise Conflict(f"Too many levels of symbolic links, maximum allowed is {LINKS}")


def segments_of(cloud: Cloud, row: Row) -> list[Segment]:
    """What a static manifest names. Raises FileNotFoundError."""
    with store.of(cloud)[row.policy].open(row.id) as file:
        return msgspec.json.decode(file.read(), type=list[Segment])


def rows_of(tx: Tx, cloud: Cloud, account: str, places: list[tuple[str, str]]) -> dict[tuple[str, str], Row]:
    """The objects at places (container, object) of an account, those that are there."""
    rows: dict[tuple[str, str], Row] = {}
    for name in {box for box, _ in places}:
        box = container.find(tx, account, name)
        if box is None:
            continue
        names = sorted({n for b, n in places if b == name})
        for row in _AMONG.all(tx, container_id=box.id, names=names):
            if object.present(row, cloud.clock.now()):
                rows[name, row.name] = row
    return rows


def _static(
    cloud: Cloud, visitor: Visitor, account: str, segments: list[Segment], depth: int = 1
) -> list[Piece]:
    if depth > DEEPEST:
        raise Conflict("Too many manifests in manifests")
    with cloud.db.read() as tx:
        for name in {segment.place[0] for segment in segments}:
            container.look(tx, cloud, visitor, account, name, listing=False)
        rows = rows_of(tx, cloud, account, [segment.place for segment in segments])
    made: list[Piece] = []
    for number, segment in enumerate(segments, 1):
        row = rows.get(segment.place)
        slo = ((row.special or {}).get("slo") or {}) if row is not None else {}
        has = slo.get("etag") if segment.sub_slo else (row.etag if row is not None else None)
        if row is None or has != segment.hash or row.size != segment.bytes:
            raise Conflict(f"The segment {segment.name} of the object is gone or changed")
        first, length = segment.span
        if slo:
            inner = _static(cloud, visitor, account, segments_of(cloud, row), depth + 1)
            made += _cut(inner, first, length, number)
        else:
            made.append(Piece(row.policy, row.id, first, length, number))
    return made


def _cut(pieces: list[Piece], first: int, length: int, number: int) -> Iterator[Piece]:
    for piece in pieces:
        if first >= piece.length:
            first -= piece.length
        elif length > 0:
            take = min(piece.length - first, length)
            yield Piece(piece.policy, piece.id, piece.first + first, take, number)
            first, length = 0, length - take


def _dynamic(cloud: Cloud, visitor: Visitor, account: str, manifest: str) -> tuple[list[Piece], str]:
    """All objects of a container that begin with a prefix, in order."""
    name, _, prefix = manifest.partition("/")
    with cloud.db.read() as tx:
        box, _ = container.look(tx, cloud, visitor, account, name, listing=False)
        end = listing.after(prefix)
        query = sa.select(objects).where(
            objects.c.container_id == box.id, objects.c.latest, ~objects.c.deleted, objects.c.name >= prefix
        )
        if end is not None:
            query = query.where(objects.c.name < end)
        rows = tx.execute(query.order_by(objects.c.name)).all()
    now = cloud.clock.now()
    md5 = hashlib.md5(usedforsecurity=False)
    pieces: list[Piece] = []
    for row in rows:
        if object.present(row, now):
            md5.update(row.etag.encode())
            if row.stored and not row.special:
                pieces.append(Piece(row.policy, row.id, 0, row.stored))
    return pieces, md5.hexdigest()
