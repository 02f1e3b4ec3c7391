"""Where images are, on the wire: the locations API, and taking an image out of one store."""

from typing import Any

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest
from stackling.base.rest import caller, json_body
from stackling.image.actions import image_import, location, location_change
from stackling.image.api.patch import place_of


class Locations:
    """/v2/images/{image_id}/locations"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, image_id: str) -> None:
        with self.cloud.db.read() as tx:
            rows = location_change.shown_to_services(tx, self.cloud, caller(req), image_id)
        resp.media = [_view(r) for r in rows]

    def on_post(self, req: Request, resp: Response, image_id: str) -> None:
        place = place_of(json_body(req))
        if place.metadata:
            raise BadRequest(
                "Invalid input for field/attribute metadata: it is noted by a patch of /locations"
            )
        with self.cloud.db.begin() as tx:
            image_import.start_location(
                tx, self.cloud, caller(req), image_id, place.url, place.validation_data
            )
            resp.media = [_view(r) for r in location.of(tx, self.cloud, image_id)]
        resp.status = "202 Accepted"


def _view(row: Any) -> dict[str, Any]:
    return {"url": location.url(row), "metadata": {"store": row.store, **row.meta}}


class Copy:
    """/v2/stores/{store}/{image_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_delete(self, req: Request, resp: Response, store: str, image_id: str) -> None:
        with self.cloud.db.begin() as tx:
            location_change.leave(tx, self.cloud, caller(req), store, image_id)
        resp.status = "204 No Content"
