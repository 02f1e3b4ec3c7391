"""Objects on the wire."""

from falcon import Request, Response

from stackling.base.db import Row
from stackling.base.errors import BadRequest
from stackling.base.streaming import chunks
from stackling.objectstore.actions import object, upload
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.actions.object import Place
from stackling.objectstore.api import (
    answer,
    bulk,
    copy,
    download,
    form_post,
    manifest,
    new_object,
    static_web,
    symlink,
)
from stackling.objectstore.api.cors import Door
from stackling.objectstore.api.request import header, params_of, place_of, visitor


class Object(Door):
    """/v1/{account}/{container}/{object}"""

    methods = ("GET", "HEAD", "PUT", "POST", "DELETE", "COPY")

    def on_get(self, req: Request, resp: Response, **_: str) -> None:
        at = place_of(req)
        who = visitor(req, self.cloud, at)
        if static_web.object(self.cloud, req, resp, at, who):
            return
        download.send(self.cloud, req, resp, at, who)

    on_head = on_get

    def on_put(self, req: Request, resp: Response, **_: str) -> None:
        at, params = place_of(req), params_of(req)
        if "extract-archive" in params:
            bulk.extract(self.cloud, req, resp, at)
            return
        who = visitor(req, self.cloud, at)
        if "version-id" in params:
            row = object.restore(self.cloud, who, at, params["version-id"])
        elif header(req, "X-Copy-From"):
            copy.put(self.cloud, req, resp, at, who)
            return
        else:
            row = self._put(req, at, params, who)
        new_object.kept(self.cloud, resp, row)

    def _put(self, req: Request, at: Place, params: dict[str, str], who: Visitor) -> Row:
        length = new_object.length_of(req)
        only_new = _only_new(req)
        new = new_object.new_of(self.cloud, req, at)
        if who.signed and ("X-Object-Manifest" in new.headers or header(req, "X-Symlink-Target")):
            raise BadRequest("A temporary URL can't be used for a manifest or a symbolic link")
        if params.get("multipart-manifest") == "put":
            return manifest.put(self.cloud, req, at, who, new)
        if header(req, "X-Symlink-Target") is not None:
            new.special = symlink.wanted(self.cloud, req, at, who)
        etag = (req.get_header("ETag") or "").strip().strip('"').lower()
        return upload.receive(self.cloud, who, at, new, chunks(req), length, etag=etag, only_new=only_new)

    def on_post(self, req: Request, resp: Response, **_: str) -> None:
        at = place_of(req)
        if form_post.is_form(req):
            form_post.receive(self.cloud, req, resp, at)
            return
        who = visitor(req, self.cloud, at)
        new = new_object.new_of(self.cloud, req, at)
        kind = header(req, "Content-Type") if req.get_header("Content-Type") else None
        with self.cloud.db.begin() as tx:
            row = object.update(tx, self.cloud, who, at, new.headers, kind, new.delete_at)
        if symlink.is_link(row):
            symlink.redirect(self.cloud, req, resp, at, row)
            return
        answer.empty(resp, "202 Accepted")
        resp.set_header("X-Timestamp", object.stamp(self.cloud.clock.now()))

    def on_delete(self, req: Request, resp: Response, **_: str) -> None:
        at, params = place_of(req), params_of(req)
        who = visitor(req, self.cloud, at)
        if params.get("multipart-manifest") == "delete":
            bulk.delete_manifest(self.cloud, req, resp, at, who)
            return
        version = params.get("version-id")
        row = object.delete(self.cloud, who, at, version)
        answer.empty(resp, "204 No Content")
        if version is not None:
            resp.set_header("X-Object-Version-Id", answer.version_id(row))

    def on_copy(self, req: Request, resp: Response, **_: str) -> None:
        at = place_of(req)
        copy.from_here(self.cloud, req, resp, at)


def _only_new(req: Request) -> bool:
    condition = req.get_header("If-None-Match")
    if condition is not None and condition.strip() != "*":
        raise BadRequest("If-None-Match only supports *")
    return condition is not None
