"""The version of the Block Storage API that is spoken."""

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.errors import NotFound
from stackling.base.microversion import Microversions, Version
from stackling.base.rest import base_url, version

SPOKEN = Microversions(
    word="volume",
    lowest=Version(3, 0),
    highest=Version(3, 60),
    legacy="X-OpenStack-Volume-API-Version",
    aliases=("block-storage",),
)


class Versions:
    """/ and /v3"""

    public = True

    def __init__(self, cloud: Cloud, status: str) -> None:
        self.cloud, self.status = cloud, status

    def on_get(self, req: Request, resp: Response) -> None:
        v3 = {
            "id": "v3.0",
            "status": "CURRENT",
            "version": str(SPOKEN.highest),
            "min_version": str(SPOKEN.lowest),
            "updated": "2019-04-17T00:00:00Z",
            "links": [
                {"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"},
                {"rel": "self", "href": f"{base_url(req, self.cloud)}/volume/v3/"},
            ],
            "media-types": [
                {"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"},
            ],
        }
        resp.status, resp.media = self.status, {"versions": [v3]}


def since(req: Request, minor: int) -> None:
    """Raises NotFound when the request's microversion is older than 3.`minor`: the call did not exist then."""
    if version(req) < Version(3, minor):
        raise NotFound("The resource could not be found.")
