"""What answers say: headers of accounts, containers and objects, and the form of errors."""

import html
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import falcon
from falcon import Request, Response

from stackling.base.db import Row
from stackling.base.errors import QuotaExceeded
from stackling.base.rest import Envelope, Problem
from stackling.objectstore.actions.access import Standing
from stackling.objectstore.actions.object import Place, stamp

HTML = "text/html; charset=UTF-8"
_SECRET = ("Temp-Url-Key", "Temp-Url-Key-2")
_OWNERS = ("X-Container-Read", "X-Container-Write")


def wire(text: str) -> str:
    """Text as a header carries it."""
    return text.encode().decode("latin-1")


def http_date(when: datetime) -> str:
    """An HTTP date; a broken second counts as the next, so that nothing looks older than it is."""
    whole = when if not when.microsecond else when.replace(microsecond=0) + timedelta(seconds=1)
    return format_datetime(whole.replace(tzinfo=UTC), usegmt=True)


def put_headers(resp: Response, headers: dict[str, Any]) -> None:
    for name, value in headers.items():
        resp.set_header(name, wire(str(value)))


def empty(resp: Response, status: str) -> None:
    """An answer without a body."""
    resp.status = status
    resp.content_type = HTML
    if not status.startswith("204"):
        resp.data = b""


def visible(headers: dict[str, str], standing: Standing) -> dict[str, str]:
    """The headers of an account or container that somebody may see: keys and access lists are its operators'."""
    if standing >= Standing.OPERATOR:
        return headers
    return {n: v for n, v in headers.items() if n not in _OWNERS and not n.endswith(_SECRET)}


def of_object(resp: Response, row: Row, at: Place, etag: str, *, large: bool, versioned: bool) -> None:
    """The headers of an object."""
    put_headers(resp, row.headers)
    if "X-Object-Manifest" in row.headers:
        resp.set_header("X-Object-Manifest", falcon.uri.encode(row.headers["X-Object-Manifest"]))
    resp.content_type = wire(row.content_type)
    resp.set_header("Etag", f'"{etag}"' if large else etag)
    resp.set_header("Last-Modified", http_date(row.modified_at))
    resp.set_header("X-Timestamp", stamp(row.modified_at))
    resp.set_header("Accept-Ranges", "bytes")
    if row.delete_at is not None:
        resp.set_header("X-Delete-At", str(int(float(stamp(row.delete_at)))))
    special = row.special or {}
    if "slo" in special:
        resp.set_header("X-Static-Large-Object", "True")
        resp.set_header("X-Manifest-Etag", row.etag)
    if "symlink" in special:
        link = special["symlink"]
        resp.set_header("X-Symlink-Target", falcon.uri.encode(link["target"]))
        if link["account"]:
            resp.set_header("X-Symlink-Target-Account", falcon.uri.encode(link["account"]))
        if link.get("etag"):
            resp.set_header("X-Symlink-Target-Etag", link["etag"])
    if versioned:
        resp.set_header("X-Object-Version-Id", version_id(row))


def version_id(row: Row) -> str:
    return row.version if row.kept else "null"


def on_every(req: Request, resp: Response) -> None:
    """What the service sends with every answer."""
    resp.set_header("X-Trans-Id", req.context.request_id)


def page(status: int, says: str) -> str:
    """The body of an error."""
    title = falcon.code_to_http_status(status).partition(" ")[2]
    return f"<html><h1>{title}</h1><p>{html.escape(says, quote=False)}</p></html>"


def envelope(problem: Problem) -> Envelope:
    status = 413 if isinstance(problem.error, QuotaExceeded) else problem.status
    says = "The method is not allowed for this resource." if problem.kind == "method" else problem.error.says
    return Envelope(text=page(status, says), content_type=HTML, status=status)
