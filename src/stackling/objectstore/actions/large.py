"""Static large objects: a manifest names the segments, which are objects, with what they were when it was made."""

import hashlib
from typing import Any

import msgspec
from msgspec import Struct

from stackling.base.clock import bare_micros
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import BadRequest, Error, Unprocessable
from stackling.objectstore.actions import container, reading, upload
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.actions.object import New, Place
from stackling.objectstore.actions.reading import Segment

MOST_SEGMENTS = 1000
MOST_BYTES = 8 << 20  # of a manifest as it is sent


class Line(Struct, forbid_unknown_fields=True):
    """One segment as its sender names it: `path` is `/container/object`, `range` bytes of it."""

    path: str
    etag: str | None = None
    size_bytes: int | None = None
    range: str | None = None


def parse(body: bytes) -> list[Line]:
    """A manifest as it was sent. Raises BadRequest."""
    try:
        lines = msgspec.json.decode(body, type=list[Line], strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"Manifest must be valid JSON, a list of segments: {error}") from None
    if not lines:
        raise BadRequest("Manifest cannot be empty.")
    if len(lines) > MOST_SEGMENTS:
        raise BadRequest(f"Number of segments must be <= {MOST_SEGMENTS}")
    return lines


def put(cloud: Cloud, visitor: Visitor, at: Place, new: New, lines: list[Line], etag: str) -> Row:
    """Keep a manifest whose segments are all there and as it says.

    `etag`, if not empty, is what the whole must have. Raises BadRequest naming each segment that is not, Unprocessable,
    and what `upload.receive` does.
    """
    places = [_place(line) for line in lines]
    with cloud.db.read() as tx:
        refused: dict[str, str] = {}
        for name in sorted({box for box, _ in places}):
            try:
                container.look(tx, cloud, visitor, at.account, name, listing=False)
            except Error as error:
                refused[name] = f"{error.status} {error.title}"
        rows = reading.rows_of(tx, cloud, at.account, [p for p in places if p[0] not in refused])
    wrong: list[str] = []
    segments: list[Segment] = []
    for line, place in zip(lines, places, strict=True):
        row = rows.get(place)
        made = _segment(line, row)
        if isinstance(made, Segment):
            segments.append(made)
        else:
            wrong.append(f"{line.path}, {refused.get(place[0], made)}")
    if wrong:
        raise BadRequest("Errors:\n" + "\n".join(wrong))
    md5 = hashlib.md5(usedforsecurity=False)
    for segment in segments:
        md5.update(f"{segment.hash}:{segment.range};".encode() if segment.range else segment.hash.encode())
    if etag and etag != md5.hexdigest():
        raise Unprocessable("The manifest's segments don't have the ETag that was sent with it.")
    new.special = {"slo": {"etag": md5.hexdigest()}}
    new.size = sum(segment.span[1] for segment in segments)
    data = msgspec.json.encode(segments)
    return upload.receive(cloud, visitor, at, new, [data], len(data))


def _place(line: Line) -> tuple[str, str]:
    box, _, name = line.path.lstrip("/").partition("/")
    if not box or not name:
        raise BadRequest(f"Index path is not a container and an object: {line.path[:256]!r}")
    return box, name


def _segment(line: Line, row: Row | None) -> Segment | str:
    """A line of the manifest as it is kept, or what is wrong with it."""
    if row is None:
        return "404 Not Found"
    slo = (row.special or {}).get("slo")
    has = slo["etag"] if slo else row.etag
    if line.etag is not None and line.etag.strip('"').lower() != has:
        return "Etag Mismatch"
    if line.size_bytes is not None and line.size_bytes != row.size:
        return "Size Mismatch"
    try:
        _, length = reading.span(line.range, row.size)
    except ValueError:
        return "Unsatisfiable Range"
    if not length:
        return "Too Small; each segment must be at least 1 byte."
    return Segment(
        name="/" + line.path.lstrip("/"),
        hash=has,
        bytes=row.size,
        content_type=row.content_type,
        last_modified=bare_micros(row.modified_at) or "",
        range=line.range,
        sub_slo=bool(slo),
    )


def shown(segments: list[Segment], *, raw: bool) -> list[dict[str, Any]]:
    """A manifest for its readers. `raw`: in the form in which it could be sent again."""
    made = []
    for segment in segments:
        ranged = {"range": segment.range} if segment.range else {}
        if raw:
            one = {"path": segment.name, "etag": segment.hash, "size_bytes": segment.bytes}
        else:
            one = {
                "name": segment.name,
                "hash": segment.hash,
                "bytes": segment.bytes,
                "content_type": segment.content_type,
                "last_modified": segment.last_modified,
                **({"sub_slo": True} if segment.sub_slo else {}),
            }
        made.append({**one, **ranged})
    return made
