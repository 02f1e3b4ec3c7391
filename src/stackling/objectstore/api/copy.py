"""Copies on the wire: COPY with a destination, or PUT with a source."""

from urllib.parse import quote

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import BadRequest, PreconditionFailed
from stackling.objectstore.actions import reading, upload
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.actions.object import New, Place
from stackling.objectstore.actions.reading import Opened
from stackling.objectstore.api import answer, new_object
from stackling.objectstore.api.request import header, params_of, quoted_header, true, visitor


def _named(req: Request, name: str, account: str | None) -> tuple[str, str]:
    """Container and object that a header names. Raises PreconditionFailed."""
    box, _, key = (quoted_header(req, name) or "").lstrip("/").partition("/")
    if not box or not key:
        raise PreconditionFailed(f"{name} header must be of the form <container name>/<object name>")
    if account is not None and (not account or "/" in account):
        raise PreconditionFailed("Account name cannot contain slashes")
    return box, key


def put(cloud: Cloud, req: Request, resp: Response, at: Place, who: Visitor) -> None:
    """PUT with X-Copy-From."""
    account = quoted_header(req, "X-Copy-From-Account")
    box, key = _named(req, "X-Copy-From", account)
    if req.content_length:
        raise BadRequest("Copy requests require a zero byte body")
    _copy(cloud, req, resp, who, Place(account or at.account, box, key), at)


def from_here(cloud: Cloud, req: Request, resp: Response, at: Place) -> None:
    """COPY."""
    account = quoted_header(req, "Destination-Account")
    box, key = _named(req, "Destination", account)
    _copy(cloud, req, resp, visitor(req, cloud, at), at, Place(account or at.account, box, key))


def _copy(cloud: Cloud, req: Request, resp: Response, who: Visitor, source: Place, to: Place) -> None:
    params = params_of(req)
    manifest, link = params.get("multipart-manifest") == "get", params.get("symlink") == "get"
    opened = reading.open_object(cloud, who, source, params.get("version-id"), manifest=manifest, link=link)
    try:
        new = _new(cloud, req, to, opened.row, manifest=manifest)
        made = _made(cloud, who, opened, to, new)
    finally:
        opened.body.close()
    new_object.kept(cloud, resp, made)
    answer.put_headers(resp, {n: v for n, v in made.headers.items() if n.startswith("X-Object-Meta-")})
    resp.set_header("X-Copied-From", quote(f"{source.container}/{source.object}"))
    resp.set_header("X-Copied-From-Account", quote(source.account))
    resp.set_header("X-Copied-From-Last-Modified", answer.http_date(opened.row.modified_at))


def _new(cloud: Cloud, req: Request, to: Place, source: Row, *, manifest: bool) -> New:
    """The copy as it is to be: as the source, but for what the request says."""
    new = new_object.new_of(cloud, req, to)
    if not header(req, "Content-Type"):
        new.content_type = source.content_type
    if not true(req.get_header("X-Fresh-Metadata")):
        had = {n: v for n, v in source.headers.items() if manifest or n != "X-Object-Manifest"}
        new.headers = {**had, **new.headers}
        new.delete_at = new.delete_at or source.delete_at
    return new


def _made(cloud: Cloud, who: Visitor, opened: Opened, to: Place, new: New) -> Row:
    if not opened.large:
        new.special = opened.row.special
        try:
            return upload.copied(cloud, who, opened.row, to, new)
        except (
            OSError
        ):  # overwritten meanwhile, or no more links are possible; what was opened is still to be had
            new.size = opened.row.size
    return upload.receive(cloud, who, to, new, opened.body.read(0, opened.size), opened.size)
