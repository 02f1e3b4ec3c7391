"""`/` and `/v3`: where the API is and which versions of it there are."""

from typing import Any

from falcon import Request, Response

from stackling.base import rest
from stackling.identity.api.resource import ROOT, Resource


class _Discovery(Resource):
    public = True

    def version(self, req: Request) -> dict[str, Any]:
        return {
            "id": "v3.14",
            "status": "stable",
            "updated": "2020-04-07T00:00:00Z",
            "links": [{"rel": "self", "href": f"{rest.base_url(req, self.cloud)}{ROOT}/"}],
            "media-types": [
                {"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}
            ],
        }


class Versions(_Discovery):
    """/"""

    def on_get(self, req: Request, resp: Response) -> None:
        resp.status = "300 Multiple Choices"
        resp.set_header("Location", f"{rest.base_url(req, self.cloud)}{ROOT}/")
        resp.media = {"versions": {"values": [self.version(req)]}}


class Version(_Discovery):
    """/v3"""

    def on_get(self, req: Request, resp: Response) -> None:
        resp.media = {"version": self.version(req)}


ROUTES = (("/", Versions), ("/v3", Version))
