"""One tag of an image."""

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest
from stackling.base.rest import caller
from stackling.image.actions import image


class Tag:
    """/v2/images/{image_id}/tags/{tag}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_put(self, req: Request, resp: Response, image_id: str, tag: str) -> None:
        if len(tag) > 255:
            raise BadRequest("Invalid input for field/attribute tag: a tag has at most 255 characters")
        with self.cloud.db.begin() as tx:
            image.add_tag(tx, self.cloud, caller(req), image_id, tag)
        resp.status = "204 No Content"

    def on_delete(self, req: Request, resp: Response, image_id: str, tag: str) -> None:
        with self.cloud.db.begin() as tx:
            image.remove_tag(tx, self.cloud, caller(req), image_id, tag)
        resp.status = "204 No Content"
