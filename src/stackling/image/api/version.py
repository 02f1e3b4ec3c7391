"""The versions of the Image API that are spoken."""

from typing import Any

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.rest import base_url

# All there are: those of several stores (2.8 to 2.13) and of a cache (2.14, 2.16, 2.18) among them.
VERSIONS = tuple(f"v2.{minor}" for minor in range(18, -1, -1))


class Versions:
    """/ and /versions"""

    public = True

    def __init__(self, cloud: Cloud, status: str) -> None:
        self.cloud, self.status = cloud, status

    def on_get(self, req: Request, resp: Response) -> None:
        href = f"{base_url(req, self.cloud)}/image/v2/"
        listed: list[dict[str, Any]] = []
        for id in VERSIONS:
            status = "SUPPORTED" if listed else "CURRENT"
            listed.append({"id": id, "status": status, "links": [{"rel": "self", "href": href}]})
        resp.status, resp.media = self.status, {"versions": listed}
