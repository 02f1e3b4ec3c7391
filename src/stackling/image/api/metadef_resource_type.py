"""Kinds of resources, and which namespaces are about them, on the wire."""

from falcon import Request, Response

from stackling.base.clock import zulu
from stackling.base.cloud import Cloud
from stackling.base.rest import base_url, caller
from stackling.image.actions import metadef_resource_type
from stackling.image.api import metadef_body as wire


class ResourceTypes:
    """/v2/metadefs/resource_types"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        with self.cloud.db.read() as tx:
            rows = metadef_resource_type.listed(tx, caller(req))
        resp.media = {
            "resource_types": [
                {"name": r.name, "created_at": zulu(r.created_at), "updated_at": zulu(r.updated_at)}
                for r in rows
            ]
        }


class Associations:
    """/v2/metadefs/namespaces/{namespace}/resource_types"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, namespace: str) -> None:
        with self.cloud.db.read() as tx:
            rows = metadef_resource_type.associations(tx, caller(req), namespace)
        resp.media = {"resource_type_associations": [wire.association_view(r) for r in rows]}

    def on_post(self, req: Request, resp: Response, namespace: str) -> None:
        given = wire.sent(req, wire.Association)
        with self.cloud.db.begin() as tx:
            row = metadef_resource_type.associate(
                tx,
                self.cloud,
                caller(req),
                namespace,
                given.name,
                prefix=given.prefix,
                properties_target=given.properties_target,
            )
        resp.status, resp.media = "201 Created", wire.association_view(row)
        resp.location = (
            f"{base_url(req, self.cloud)}/image{wire.path(namespace, 'resource_types', given.name)}"
        )


class Association:
    """/v2/metadefs/namespaces/{namespace}/resource_types/{name}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_delete(self, req: Request, resp: Response, namespace: str, name: str) -> None:
        with self.cloud.db.begin() as tx:
            metadef_resource_type.dissociate(tx, caller(req), namespace, name)
        resp.status = "204 No Content"
