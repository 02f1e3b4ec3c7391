"""Objects, properties and tags of a namespace on the wire."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import BadRequest, NotFound
from stackling.base.rest import base_url, boolean, caller
from stackling.image.actions import metadef_definition as definition
from stackling.image.actions import metadef_namespace, metadef_resource_type
from stackling.image.actions.metadef_definition import OBJECT, PROPERTY, TAG, Kind
from stackling.image.api import metadef_body as wire


class _Many:
    """All of a kind in a namespace."""

    kind: Kind
    segment: str

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_delete(self, req: Request, resp: Response, namespace: str) -> None:
        with self.cloud.db.begin() as tx:
            definition.delete_all(tx, caller(req), self.kind, namespace)
        resp.status = "204 No Content"

    def _add(self, req: Request, resp: Response, namespace: str, columns: Mapping[str, Any]) -> Row:
        with self.cloud.db.begin() as tx:
            (row,) = definition.create(tx, self.cloud, caller(req), self.kind, namespace, [columns])
        resp.status = "201 Created"
        resp.location = f"{base_url(req, self.cloud)}/image{wire.path(namespace, self.segment, row.name)}"
        return row

    def _page(self, req: Request, resp: Response, namespace: str) -> tuple[list[Row], dict[str, Any]]:
        """The rows asked for, and what stands around them."""
        want = wire.search(req)
        with self.cloud.db.read() as tx:
            rows = definition.listed(tx, caller(req), self.kind, namespace, want)
        given = [(k, v) for k in req.params for v in req.get_param_as_list(k) or [] if k != "marker"]
        here = wire.path(namespace, self.segment)
        around = {
            "first": here + (f"?{urlencode(given)}" if given else ""),
            "schema": f"/v2/schemas/metadefs/{self.segment}",
        }
        if rows and len(rows) == want.limit:
            around["next"] = f"{here}?{urlencode([*given, ('marker', rows[-1].name)])}"
        return rows, around


class _One:
    """One of a kind in a namespace."""

    kind: Kind

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_delete(self, req: Request, resp: Response, namespace: str, name: str) -> None:
        with self.cloud.db.begin() as tx:
            definition.delete(tx, caller(req), self.kind, namespace, name)
        resp.status = "204 No Content"

    def _get(self, req: Request, namespace: str, name: str) -> Row:
        with self.cloud.db.read() as tx:
            return definition.shown(tx, caller(req), self.kind, namespace, name)

    def _set(self, req: Request, namespace: str, name: str, columns: Mapping[str, Any]) -> Row:
        with self.cloud.db.begin() as tx:
            return definition.update(tx, self.cloud, caller(req), self.kind, namespace, name, columns)


class Objects(_Many):
    """/v2/metadefs/namespaces/{namespace}/objects"""

    kind, segment = OBJECT, "objects"

    def on_get(self, req: Request, resp: Response, namespace: str) -> None:
        rows, around = self._page(req, resp, namespace)
        resp.media = {"objects": [wire.object_view(namespace, r) for r in rows], **around}

    def on_post(self, req: Request, resp: Response, namespace: str) -> None:
        row = self._add(req, resp, namespace, wire.object_columns(wire.sent(req, wire.Object)))
        resp.media = wire.object_view(namespace, row)


class Object(_One):
    """/v2/metadefs/namespaces/{namespace}/objects/{name}"""

    kind = OBJECT

    def on_get(self, req: Request, resp: Response, namespace: str, name: str) -> None:
        resp.media = wire.object_view(namespace, self._get(req, namespace, name))

    def on_put(self, req: Request, resp: Response, namespace: str, name: str) -> None:
        row = self._set(req, namespace, name, wire.object_columns(wire.sent(req, wire.Object)))
        resp.media = wire.object_view(namespace, row)


class Properties(_Many):
    """/v2/metadefs/namespaces/{namespace}/properties"""

    kind, segment = PROPERTY, "properties"

    def on_get(self, req: Request, resp: Response, namespace: str) -> None:
        with self.cloud.db.read() as tx:
            rows = definition.listed(tx, caller(req), PROPERTY, namespace, definition.Search(falling=False))
        resp.media = {"properties": {r.name: wire.property_view(r) for r in rows}}

    def on_post(self, req: Request, resp: Response, namespace: str) -> None:
        given = wire.sent(req, wire.NamedSchema)
        resp.media = wire.property_view(
            self._add(req, resp, namespace, wire.schema_columns(given.name, given))
        )


class Property(_One):
    """/v2/metadefs/namespaces/{namespace}/properties/{name}"""

    kind = PROPERTY

    def on_get(self, req: Request, resp: Response, namespace: str, name: str) -> None:
        about = wire.last(req, "resource_type")
        if about:  # the name is the one that the property has on this kind of resource
            with self.cloud.db.read() as tx:
                parent = metadef_namespace.get(tx, caller(req), namespace)
                prefix = metadef_resource_type.prefix(tx, parent, about)
            if not name.startswith(prefix):
                raise NotFound(
                    f"Property {name[:80]} does not start with the expected resource type association prefix of '{prefix}'."
                )
            name = name[len(prefix) :]
        resp.media = wire.property_view(self._get(req, namespace, name))

    def on_put(self, req: Request, resp: Response, namespace: str, name: str) -> None:
        given = wire.sent(req, wire.NamedSchema)
        resp.media = wire.property_view(
            self._set(req, namespace, name, wire.schema_columns(given.name, given))
        )


class Tags(_Many):
    """/v2/metadefs/namespaces/{namespace}/tags"""

    kind, segment = TAG, "tags"

    def on_get(self, req: Request, resp: Response, namespace: str) -> None:
        rows, around = self._page(req, resp, namespace)
        resp.media = {"tags": [wire.tag_view(r) for r in rows], **around}

    def on_post(self, req: Request, resp: Response, namespace: str) -> None:
        given = wire.sent(req, wire.Tags)
        append = boolean(req.get_header("X-Openstack-Append") or "false", "X-Openstack-Append")
        wanted = [{"name": t.name} for t in given.tags]
        with self.cloud.db.begin() as tx:
            rows = definition.replace_all(tx, self.cloud, caller(req), TAG, namespace, wanted, append=append)
        resp.status = "201 Created"
        resp.location = f"{base_url(req, self.cloud)}/image{wire.path(namespace, 'tags')}"
        resp.media = {"tags": [{"name": r.name} for r in rows]}


class Tag(_One):
    """/v2/metadefs/namespaces/{namespace}/tags/{name}"""

    kind = TAG

    def on_get(self, req: Request, resp: Response, namespace: str, name: str) -> None:
        resp.media = wire.tag_view(self._get(req, namespace, name))

    def on_post(self, req: Request, resp: Response, namespace: str, name: str) -> None:
        if len(name) > 80:
            raise BadRequest("Invalid input for field/attribute name: a tag has at most 80 characters")
        with self.cloud.db.begin() as tx:
            (row,) = definition.create(tx, self.cloud, caller(req), TAG, namespace, [{"name": name}])
        resp.status, resp.media = "201 Created", wire.tag_view(row)
        resp.location = f"{base_url(req, self.cloud)}/image{wire.path(namespace, 'tags', name)}"

    def on_put(self, req: Request, resp: Response, namespace: str, name: str) -> None:
        given = wire.sent(req, wire.Tag)
        resp.media = wire.tag_view(self._set(req, namespace, name, {"name": given.name}))
