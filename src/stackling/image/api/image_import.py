"""Staging and importing image data on the wire."""

from typing import Any

import falcon
from falcon import Request, Response
from msgspec import Struct

from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest, NotFound, UnsupportedMediaType
from stackling.base.rest import caller, convert, json_body
from stackling.base.streaming import chunks
from stackling.image import store
from stackling.image.actions import data, image_import, task
from stackling.image.api.data import OCTETS
from stackling.image.api.task import view


class Method(Struct, forbid_unknown_fields=True):
    """How to import."""

    name: str
    uri: str | None = None
    glance_image_id: str | None = None
    glance_region: str | None = None
    glance_service_interface: str | None = None


class ImportRequest(Struct, forbid_unknown_fields=True):
    """What to import, and where to."""

    method: Method
    stores: list[str] | None = None
    all_stores: bool | None = None
    all_stores_must_succeed: bool | None = None


class Stage:
    """/v2/images/{image_id}/stage"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_put(self, req: Request, resp: Response, image_id: str) -> None:
        if (req.content_type or "").partition(";")[0].strip() != OCTETS:
            raise UnsupportedMediaType(f"Image data is sent as {OCTETS}.")
        data.stage(self.cloud, caller(req), image_id, chunks(req), req.content_length)
        resp.status = "204 No Content"


class Import:
    """/v2/images/{image_id}/import"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_post(self, req: Request, resp: Response, image_id: str) -> None:
        given: Any = json_body(req)
        want = convert(given, ImportRequest)
        if want.all_stores and (want.stores or req.get_header("X-Image-Meta-Store")):
            raise BadRequest(
                "All_stores parameter can't be used with x-image-meta-store header or stores parameter"
            )
        named = req.get_header("X-Image-Meta-Store")
        stores = want.stores if want.stores is not None else [named] if named else None
        if stores is None and not want.all_stores:
            stores = [store.of(self.cloud).default]
        if stores == []:
            raise BadRequest("Invalid input for field/attribute stores: there is none to import to")
        how = want.method
        source = image_import.Source(
            method=how.name,
            uri=how.uri,
            image_id=how.glance_image_id,
            region=how.glance_region,
            interface=how.glance_service_interface or "public",
        )
        with self.cloud.db.begin() as tx:
            image_import.start(tx, self.cloud, caller(req), image_id, source, stores=stores, request=given)
        resp.status = "202 Accepted"


class Tasks:
    """/v2/images/{image_id}/tasks"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, image_id: str) -> None:
        try:
            with self.cloud.db.read() as tx:
                rows = task.of_image(tx, caller(req), image_id)
        except NotFound:
            raise falcon.HTTPRouteNotFound() from None  # upstream answers like an unknown path here
        resp.media = {"tasks": [view(r) for r in rows]}
