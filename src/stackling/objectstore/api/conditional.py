"""Conditions and ranges of a request for an object (RFC 9110), and the answer with what fits them."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from falcon import Request, Response

from stackling.base.errors import PreconditionFailed, RangeNotSatisfiable
from stackling.objectstore.actions.reading import Body, Opened

MOST_RANGES = 50


def _tags(text: str) -> set[str]:
    return {tag.strip().removeprefix("W/").strip('"') for tag in text.split(",")}


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found


def unchanged(req: Request, etag: str, modified: datetime) -> bool:
    """Whether the reader has the object already. Raises PreconditionFailed: it wants another one."""
    modified = modified.replace(microsecond=0)
    match, none_match = req.get_header("If-Match"), req.get_header("If-None-Match")
    if match is not None and not _tags(match) & {etag, "*"}:
        raise PreconditionFailed("A precondition for this request was not met.")
    before = _date(req.get_header("If-Unmodified-Since"))
    if match is None and before is not None and modified > before:
        raise PreconditionFailed("A precondition for this request was not met.")
    if none_match is not None:
        return bool(_tags(none_match) & {etag, "*"})
    since = _date(req.get_header("If-Modified-Since"))
    return since is not None and modified <= since


def ranges(req: Request, size: int, etag: str, modified: datetime) -> list[tuple[int, int]] | None:
    """First byte and length of each range that is asked for; None: the whole. Raises RangeNotSatisfiable."""
    unit, equals, text = (req.get_header("Range") or "").partition("=")
    if unit.strip().lower() != "bytes" or not equals:
        return None
    only_if = req.get_header("If-Range")
    if only_if is not None:
        when = _date(only_if)
        if not (modified.replace(microsecond=0) <= when if when is not None else _tags(only_if) & {etag}):
            return None
    found: list[tuple[int, int]] = []
    for one in text.split(","):
        start, dash, end = (word.strip() for word in one.partition("-"))
        well = dash and (start or end) and all(not w or (w.isdecimal() and len(w) < 19) for w in (start, end))
        if not well or (start and end and int(end) < int(start)):
            return None  # no range at all: as if there were none
        if not start:
            first, last = max(0, size - int(end)), size - 1 if int(end) else -1
        else:
            first, last = int(start), min(int(end), size - 1) if end else size - 1
        if first <= last:
            found.append((first, last - first + 1))
    if not found or len(found) > MOST_RANGES:
        raise RangeNotSatisfiable(
            "The Range requested is not available.",
            headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"},
        )
    return found


class _Out:
    """Bytes of an object with what stands between them, closed with the response."""

    def __init__(self, body: Body, parts: list[bytes | tuple[int, int]]) -> None:
        self._body, self._parts = body, parts

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
            else:
                yield from self._body.read(*part)

    def close(self) -> None:
        self._body.close()


def send(req: Request, resp: Response, opened: Opened, wanted: list[tuple[int, int]] | None) -> None:
    """Answer with an object, or with parts of it; to HEAD with what its headers would be."""
    parts: list[bytes | tuple[int, int]] = [(0, opened.size)]
    length = opened.size
    if wanted is not None:
        resp.status = "206 Partial Content"
    if wanted is not None and len(wanted) == 1:
        parts, (first, length) = list(wanted), wanted[0]
        resp.set_header("Content-Range", f"bytes {first}-{first + length - 1}/{opened.size}")
    elif wanted is not None:
        boundary = uuid.uuid4().hex
        parts, length = _multipart(wanted, boundary, resp.content_type or "", opened.size)
        resp.content_type = f"multipart/byteranges;boundary={boundary}"
    if req.method == "HEAD":
        opened.body.close()
        resp.content_length = length
    else:
        resp.set_stream(_Out(opened.body, parts), length)


def _multipart(
    wanted: list[tuple[int, int]], boundary: str, content_type: str, size: int
) -> tuple[list[bytes | tuple[int, int]], int]:
    parts: list[bytes | tuple[int, int]] = []
    for first, length in wanted:
        head = (
            f"--{boundary}\r\nContent-Type: {content_type}\r\n"
            f"Content-Range: bytes {first}-{first + length - 1}/{size}\r\n\r\n"
        )
        parts += [head.encode("latin-1"), (first, length), b"\r\n"]
    parts.append(f"--{boundary}--".encode())
    return parts, sum(len(part) if isinstance(part, bytes) else part[1] for part in parts)
