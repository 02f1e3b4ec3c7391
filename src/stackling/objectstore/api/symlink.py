"""Symbolic links on the wire: objects that stand for another."""

from typing import Any
from urllib.parse import quote

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import BadRequest, Conflict, NotFound, PreconditionFailed
from stackling.base.rest import base_url
from stackling.objectstore.actions import object
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.actions.object import Place
from stackling.objectstore.api import answer
from stackling.objectstore.api.request import PREFIX, header, quoted_header


def wanted(cloud: Cloud, req: Request, at: Place, who: Visitor) -> dict[str, Any]:
    """What a link that a request makes is to stand for. Raises PreconditionFailed, BadRequest, Conflict."""
    target = (quoted_header(req, "X-Symlink-Target") or "").lstrip("/")
    box, _, name = target.partition("/")
    if not box or not name:
        raise PreconditionFailed("X-Symlink-Target header must be of the form <container name>/<object name>")
    account = quoted_header(req, "X-Symlink-Target-Account")
    to = Place(account or at.account, box, name)
    if to == at:
        raise BadRequest("Symlink cannot target itself")
    if req.content_length:
        raise BadRequest("Symlink requests require a zero byte body")
    link: dict[str, Any] = {"target": target, "account": account}
    etag = (header(req, "X-Symlink-Target-Etag") or "").strip('"').lower()
    if etag:
        with cloud.db.read() as tx:
            try:
                row, _ = object.look(tx, cloud, who, to)
            except NotFound:
                raise Conflict("X-Symlink-Target does not exist") from None
        if row.etag != etag:
            raise Conflict(f"Object Etag {row.etag!r} does not match X-Symlink-Target-Etag header {etag!r}")
        link |= {"etag": etag, "bytes": row.size}
    return {"symlink": link}


def is_link(row: Row) -> bool:
    return "symlink" in (row.special or {})


def redirect(cloud: Cloud, req: Request, resp: Response, at: Place, row: Row) -> None:
    """Metadata is that of what a link stands for: answer where that is."""
    link = row.special["symlink"]
    answer.empty(resp, "307 Temporary Redirect")
    path = f"{PREFIX}/v1/{link['account'] or at.account}/{link['target']}"
    resp.set_header("Location", f"{base_url(req, cloud)}{quote(path)}")
    resp.set_header("X-Symlink-Target", quote(link["target"]))
