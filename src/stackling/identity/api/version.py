"""`/` and `/v3`: where the API is and which versions of it there are."""

from typing import Any

import msgspec
from falcon import Request, Response

from stackling.base import rest
from stackling.identity.api import home
from stackling.identity.api.resource import ROOT, Resource


class _Discovery(Resource):
    public = True
    paths: list[str] = []  # all of the API, for its JSON Home

    def at_home(self, req: Request, resp: Response, prefix: str) -> bool:
        """Answer with the JSON Home if that is asked for."""
        if "application/json-home" not in (req.get_header("Accept") or ""):
            return False
        resp.content_type, resp.data = (
            "application/json-home",
            msgspec.json.encode(home.document(self.paths, prefix)),
        )
        return True

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
        if self.at_home(req, resp, "/v3"):
            return
        resp.status = "300 Multiple Choices"
        resp.set_header("Location", f"{rest.base_url(req, self.cloud)}{ROOT}/")
        resp.media = {"versions": {"values": [self.version(req)]}}


class Version(_Discovery):
    """/v3"""

    def on_get(self, req: Request, resp: Response) -> None:
        if not self.at_home(req, resp, ""):
            resp.media = {"version": self.version(req)}


ROUTES = (("/", Versions), ("/v3", Version))
