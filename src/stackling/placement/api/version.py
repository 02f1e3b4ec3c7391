"""The versions of the Placement API that are spoken, and what depends on them."""

from datetime import UTC, datetime
from email.utils import format_datetime

import falcon

from stackling.base.cloud import Cloud
from stackling.base.errors import NotFound
from stackling.base.microversion import Microversions, Version
from stackling.base.rest import version

SPOKEN = Microversions(word="placement", lowest=Version(1, 0), highest=Version(1, 39))


def since(req: falcon.Request, major: int, minor: int) -> bool:
    return version(req) >= Version(major, minor)


def only(req: falcon.Request, minor: int) -> None:
    """Raises NotFound when the call does not exist at the request's microversion."""
    if not since(req, 1, minor):
        raise NotFound("The resource could not be found.")


def stamp(req: falcon.Request, resp: falcon.Response, cloud: Cloud, when: datetime | None = None) -> None:
    """When what is answered was last changed, from 1.15 on."""
    if since(req, 1, 15):
        resp.set_header(
            "Last-Modified", format_datetime((when or cloud.clock.now()).replace(tzinfo=UTC), usegmt=True)
        )
        resp.set_header("Cache-Control", "no-cache")


class Versions:
    """/"""

    public = True

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        one = {
            "id": "v1.0",
            "status": "CURRENT",
            "min_version": str(SPOKEN.lowest),
            "max_version": str(SPOKEN.highest),
        }
        resp.media = {"versions": [{**one, "links": [{"rel": "self", "href": ""}]}]}
