"""A server's metadata, tags and addresses."""

from typing import Annotated

import msgspec
from falcon import Request, Response
from msgspec import Meta

from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest, NotFound
from stackling.base.microversion import Body
from stackling.base.rest import body, caller, self_url
from stackling.compute.actions import interface
from stackling.compute.actions import metadata as actions
from stackling.compute.api.body import Items, Tag
from stackling.compute.api.server_view import addresses
from stackling.compute.api.version import only


class _Room:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud


class MetadataBody(Body, kw_only=True):
    metadata: Items


class MetaBody(Body, kw_only=True):
    meta: Annotated[Items, Meta(min_length=1, max_length=1)]


class TagsBody(Body, kw_only=True):
    tags: Annotated[list[Tag], Meta(max_length=50)]


class Metadata(_Room):
    """/servers/{server_id}/metadata"""

    def on_get(self, req: Request, resp: Response, server_id: str) -> None:
        with self.cloud.db.read() as tx:
            resp.media = {
                "metadata": actions.of(tx, caller(req), server_id, "os_compute_api:server-metadata:index")
            }

    def on_post(self, req: Request, resp: Response, server_id: str) -> None:
        want = body(req, MetadataBody)
        with self.cloud.db.begin() as tx:
            made = actions.merge(
                tx, self.cloud, caller(req), server_id, want.metadata, "os_compute_api:server-metadata:create"
            )
        resp.media = {"metadata": made}

    def on_put(self, req: Request, resp: Response, server_id: str) -> None:
        want = body(req, MetadataBody)
        with self.cloud.db.begin() as tx:
            resp.media = {"metadata": actions.replace(tx, self.cloud, caller(req), server_id, want.metadata)}


class MetadataItem(_Room):
    """/servers/{server_id}/metadata/{key}"""

    def on_get(self, req: Request, resp: Response, server_id: str, key: str) -> None:
        with self.cloud.db.read() as tx:
            found = actions.of(tx, caller(req), server_id, "os_compute_api:server-metadata:show")
        if key not in found:
            raise NotFound("Metadata item was not found")
        resp.media = {"meta": {key: found[key]}}

    def on_put(self, req: Request, resp: Response, server_id: str, key: str) -> None:
        want = body(req, MetaBody)
        if set(want.meta) != {key}:
            raise BadRequest("Request body and URI mismatch")
        with self.cloud.db.begin() as tx:
            actions.merge(
                tx, self.cloud, caller(req), server_id, want.meta, "os_compute_api:server-metadata:update"
            )
        resp.media = {"meta": want.meta}

    def on_delete(self, req: Request, resp: Response, server_id: str, key: str) -> None:
        with self.cloud.db.begin() as tx:
            actions.remove(tx, self.cloud, caller(req), server_id, key)
        resp.status = 204


class Tags(_Room):
    """/servers/{server_id}/tags"""

    def on_get(self, req: Request, resp: Response, server_id: str) -> None:
        only(req, first="2.26")
        with self.cloud.db.read() as tx:
            resp.media = {
                "tags": actions.tags_of(tx, caller(req), server_id, "os_compute_api:os-server-tags:index")
            }

    def on_put(self, req: Request, resp: Response, server_id: str) -> None:
        only(req, first="2.26")
        want = body(req, TagsBody)
        rule = "os_compute_api:os-server-tags:update_all"
        with self.cloud.db.begin() as tx:
            resp.media = {"tags": actions.set_tags(tx, self.cloud, caller(req), server_id, want.tags, rule)}

    def on_delete(self, req: Request, resp: Response, server_id: str) -> None:
        only(req, first="2.26")
        with self.cloud.db.begin() as tx:
            actions.set_tags(
                tx, self.cloud, caller(req), server_id, [], "os_compute_api:os-server-tags:delete_all"
            )
        resp.status = 204


class OneTag(_Room):
    """/servers/{server_id}/tags/{tag}"""

    def on_get(self, req: Request, resp: Response, server_id: str, tag: str) -> None:
        only(req, first="2.26")
        with self.cloud.db.read() as tx:
            found = actions.tags_of(tx, caller(req), server_id, "os_compute_api:os-server-tags:show")
        if tag not in found:
            raise NotFound(f"Server {server_id} has no tag '{tag[:60]}'")
        resp.status = 204

    def on_put(self, req: Request, resp: Response, server_id: str, tag: str) -> None:
        only(req, first="2.26")
        try:
            msgspec.convert(tag, Tag)
        except msgspec.ValidationError as e:
            raise BadRequest(f"Invalid input for field/attribute tag: {e}") from None
        with self.cloud.db.begin() as tx:
            new = actions.add_tag(tx, self.cloud, caller(req), server_id, tag)
        resp.status = 201 if new else 204
        if new:
            resp.set_header("Location", self_url(req, self.cloud))

    def on_delete(self, req: Request, resp: Response, server_id: str, tag: str) -> None:
        only(req, first="2.26")
        with self.cloud.db.begin() as tx:
            actions.remove_tag(tx, self.cloud, caller(req), server_id, tag)
        resp.status = 204


class Addresses(_Room):
    """/servers/{server_id}/ips and /servers/{server_id}/ips/{network}"""

    def on_get(self, req: Request, resp: Response, server_id: str, network: str | None = None) -> None:
        rule = "os_compute_api:ips:index" if network is None else "os_compute_api:ips:show"
        with self.cloud.db.read() as tx:
            found = addresses(interface.face(tx, caller(req), server_id, rule))
        brief = {
            name: [{"version": a["version"], "addr": a["addr"]} for a in listed]
            for name, listed in found.items()
        }
        if network is None:
            resp.media = {"addresses": brief}
        elif network in brief:
            resp.media = {network: brief[network]}
        else:
            raise NotFound("Network name not found")
