"""Containers on the wire."""

from urllib.parse import unquote

from falcon import Request, Response

from stackling.base.db import Row
from stackling.base.errors import BadRequest
from stackling.objectstore.actions import container
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.actions.object import Place, stamp
from stackling.objectstore.api import answer, bulk, form_post, listing, static_web
from stackling.objectstore.api.cors import Door
from stackling.objectstore.api.request import given, header, params_of, place_of, visitor

_KEPT = (
    "X-Container-Read",
    "X-Container-Write",
    "X-Versions-Location",
    "X-History-Location",
    "X-Versions-Enabled",
    "X-Container-Sync-To",
    "X-Container-Sync-Key",
)


class Container(Door):
    """/v1/{account}/{container}"""

    methods = ("GET", "HEAD", "PUT", "POST", "DELETE")

    def on_get(self, req: Request, resp: Response, **_: str) -> None:
        at, params = place_of(req), params_of(req)
        who = visitor(req, self.cloud, at)
        if static_web.container(self.cloud, req, resp, at, who):
            return
        row = self._tell(req, resp, at, who)
        versions = "versions" in params
        window = listing.window(params)
        with self.cloud.db.read() as tx:
            rows = container.contents(tx, row.id, window, versions=versions)
        entries = [listing.of_object(r, at.account, versions=versions) for r in rows]
        listing.send(req, resp, entries, "container", at.container, "object")

    def on_head(self, req: Request, resp: Response, **_: str) -> None:
        at = place_of(req)
        who = visitor(req, self.cloud, at)
        if static_web.container(self.cloud, req, resp, at, who):
            return
        self._tell(req, resp, at, who)
        resp.status = "204 No Content"
        resp.content_type = f"{listing.form_of(req)}; charset=utf-8"

    def _tell(self, req: Request, resp: Response, at: Place, who: Visitor) -> Row:
        with self.cloud.db.read() as tx:
            row, standing = container.look(tx, self.cloud, who, at.account, at.container)
        answer.put_headers(resp, answer.visible(row.headers, standing))
        resp.set_header("X-Container-Object-Count", str(row.object_count))
        resp.set_header("X-Container-Bytes-Used", str(row.bytes_used))
        resp.set_header("X-Timestamp", stamp(row.created_at))
        resp.set_header("Last-Modified", answer.http_date(row.updated_at))
        resp.set_header("X-Storage-Policy", row.policy)
        resp.set_header("Accept-Ranges", "bytes")
        if row.versions is not None:
            resp.set_header("X-Versions-Enabled", str(row.versions))
        return row

    def on_put(self, req: Request, resp: Response, **_: str) -> None:
        at = place_of(req)
        if "extract-archive" in params_of(req):
            bulk.extract(self.cloud, req, resp, at)
            return
        who = visitor(req, self.cloud, at)
        policy = header(req, "X-Storage-Policy")
        with self.cloud.db.begin() as tx:
            new = container.put(tx, self.cloud, who, at.account, at.container, _given(req), policy)
        answer.empty(resp, "201 Created" if new else "202 Accepted")

    def on_post(self, req: Request, resp: Response, **_: str) -> None:
        at = place_of(req)
        if form_post.is_form(req):
            form_post.receive(self.cloud, req, resp, at)
            return
        who = visitor(req, self.cloud, at)
        with self.cloud.db.begin() as tx:
            container.update(tx, self.cloud, who, at.account, at.container, _given(req))
        answer.empty(resp, "204 No Content")

    def on_delete(self, req: Request, resp: Response, **_: str) -> None:
        at = place_of(req)
        who = visitor(req, self.cloud, at)
        with self.cloud.db.begin() as tx:
            container.delete(tx, self.cloud, who, at.account, at.container)
        answer.empty(resp, "204 No Content")


def _given(req: Request) -> dict[str, str]:
    """What a request sets of a container. Raises BadRequest: what is not there, as upstream without any realm."""
    made = given(req, "Container", _KEPT)
    if made.get("X-Container-Sync-To"):
        raise BadRequest(
            "X-Container-Sync-To: containers are not synchronized with those of other clouds here"
        )
    for name in ("X-Versions-Location", "X-History-Location"):
        if made.get(name):
            made[name] = unquote(made[name]).strip("/")
            if "/" in made[name]:
                raise BadRequest(f"{name} is the name of a container, without any slash")
    return made
