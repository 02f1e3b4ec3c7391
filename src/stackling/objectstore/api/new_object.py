"""Objects as requests describe them, and the answer when one was made."""

import mimetypes
from urllib.parse import unquote

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import BadRequest, LengthRequired, Unsupported
from stackling.objectstore.actions import metadata, object
from stackling.objectstore.actions.object import New, Place
from stackling.objectstore.api import answer
from stackling.objectstore.api.request import delete_at, header, object_metadata, true


def kept(cloud: Cloud, resp: Response, row: Row) -> None:
    """Answer that an object was made."""
    answer.empty(resp, "201 Created")
    slo = (row.special or {}).get("slo")
    resp.set_header("Etag", f'"{slo["etag"]}"' if slo else row.etag)
    resp.set_header("Last-Modified", answer.http_date(row.modified_at))
    resp.set_header("X-Timestamp", object.stamp(row.modified_at))
    if row.kept:
        resp.set_header("X-Object-Version-Id", answer.version_id(row))


def length_of(req: Request) -> int | None:
    """The length that was announced; None: in chunks. Raises LengthRequired, Unsupported."""
    coding = (req.get_header("Transfer-Encoding") or "").lower()
    if coding and coding != "chunked":
        raise Unsupported("Only the transfer coding chunked is understood.")
    if req.content_length is None and not coding:
        raise LengthRequired("Missing Content-Length header.")
    return None if coding else req.content_length


def new_of(cloud: Cloud, req: Request, at: Place) -> New:
    """An object as a request describes it."""
    headers = object_metadata(req)
    for name in metadata.KEPT_WITH_OBJECT:
        value = header(req, name)
        if value:
            headers[name] = value
    if "X-Object-Manifest" in headers:
        headers["X-Object-Manifest"] = _manifest(headers["X-Object-Manifest"])
    kind = header(req, "Content-Type")
    if not kind or true(req.get_header("X-Detect-Content-Type")):
        kind = mimetypes.guess_type(at.object)[0] or "application/octet-stream"
    return New(content_type=kind, headers=headers, delete_at=delete_at(req, cloud.clock.now()))


def _manifest(text: str) -> str:
    value = unquote(text).lstrip("/")
    box, _, prefix = value.partition("/")
    if not box or not prefix or "?" in text or "&" in text:
        raise BadRequest("X-Object-Manifest must be in the format container/prefix")
    return value
