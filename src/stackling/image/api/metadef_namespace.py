"""Namespaces of metadata definitions on the wire."""

from typing import Any
from urllib.parse import urlencode

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest
from stackling.base.rest import base_url, caller
from stackling.image.actions import metadef_definition, metadef_namespace, metadef_resource_type
from stackling.image.actions.metadef_definition import OBJECT, PROPERTY, TAG
from stackling.image.api import metadef_body as wire
from stackling.image.state.metadef import Visibility


def _wanted(given: wire.Namespace) -> metadef_namespace.Wanted:
    return metadef_namespace.Wanted(
        name=given.namespace,
        display_name=given.display_name,
        description=given.description,
        visibility=given.visibility,
        protected=given.protected,
        owner=given.owner,
    )


def _search(req: Request) -> metadef_namespace.Search:
    key, falling = wire.sorting(req, metadef_namespace.SORT_KEYS)
    visibility = wire.last(req, "visibility")
    if visibility is not None and visibility not in list(Visibility):
        raise BadRequest(f"Invalid visibility value: {visibility[:64]!r}")
    types = [t for text in req.get_param_as_list("resource_types") or [] for t in text.split(",") if t]
    return metadef_namespace.Search(
        visibility=Visibility(visibility) if visibility else None,
        resource_types=types,
        sort_key=key,
        falling=falling,
        limit=wire.limit(req, 25) or 0,
        marker=wire.last(req, "marker"),
    )


def _whole(tx: Tx, row: Row, prefix: str = "") -> dict[str, Any]:
    """A namespace with all that it defines; names of properties begin with `prefix`."""
    made = wire.namespace_view(row, metadef_namespace.associations_of(tx, [row.id]).get(row.id, []))
    objects = [wire.object_view(row.name, o, prefix) for o in metadef_definition.of(tx, OBJECT, row.id)]
    properties = {
        prefix + p.name: {**p.schema, "name": prefix + p.name}
        for p in metadef_definition.of(tx, PROPERTY, row.id)
    }
    tags = [{"name": t.name} for t in metadef_definition.of(tx, TAG, row.id)]
    for name, defined in (("objects", objects), ("properties", properties), ("tags", tags)):
        if defined:
            made[name] = defined
    return made


class Namespaces:
    """/v2/metadefs/namespaces"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        want = _search(req)
        with self.cloud.db.read() as tx:
            rows = metadef_namespace.listed(tx, caller(req), want)
            about = metadef_namespace.associations_of(tx, [r.id for r in rows])
        given = [(k, v) for k in req.params for v in req.get_param_as_list(k) or [] if k != "marker"]
        resp.media = {
            "namespaces": [wire.namespace_view(r, about.get(r.id, [])) for r in rows],
            "first": wire.ROOT + (f"?{urlencode(given)}" if given else ""),
            "schema": "/v2/schemas/metadefs/namespaces",
        }
        if rows and len(rows) == want.limit:
            resp.media["next"] = f"{wire.ROOT}?{urlencode([*given, ('marker', rows[-1].name)])}"

    def on_post(self, req: Request, resp: Response) -> None:
        who = caller(req)
        given = wire.sent(req, wire.Namespace)
        with self.cloud.db.begin() as tx:
            row = metadef_namespace.create(tx, self.cloud, who, _wanted(given))
            for a in given.resource_type_associations:
                metadef_resource_type.associate(
                    tx,
                    self.cloud,
                    who,
                    row.name,
                    a.name,
                    prefix=a.prefix,
                    properties_target=a.properties_target,
                )
            for kind, defined in (
                (OBJECT, [wire.object_columns(o) for o in given.objects]),
                (PROPERTY, [wire.schema_columns(name, schema) for name, schema in given.properties.items()]),
                (TAG, [{"name": t.name} for t in given.tags]),
            ):
                if defined:
                    metadef_definition.create(tx, self.cloud, who, kind, row.name, defined)
            resp.media = _whole(tx, row)
        resp.status = "201 Created"
        resp.location = f"{base_url(req, self.cloud)}/image{wire.path(row.name)}"


class Namespace:
    """/v2/metadefs/namespaces/{namespace}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, namespace: str) -> None:
        about = wire.last(req, "resource_type")
        with self.cloud.db.read() as tx:
            row = metadef_namespace.get(tx, caller(req), namespace)
            resp.media = _whole(tx, row, metadef_resource_type.prefix(tx, row, about) if about else "")

    def on_put(self, req: Request, resp: Response, namespace: str) -> None:
        given = wire.sent(req, wire.Namespace)
        with self.cloud.db.begin() as tx:
            row = metadef_namespace.update(tx, self.cloud, caller(req), namespace, _wanted(given))
            resp.media = wire.namespace_view(
                row, metadef_namespace.associations_of(tx, [row.id]).get(row.id, [])
            )

    def on_delete(self, req: Request, resp: Response, namespace: str) -> None:
        with self.cloud.db.begin() as tx:
            metadef_namespace.delete(tx, caller(req), namespace)
        resp.status = "204 No Content"
