"""The versions of the Image API that are spoken."""

from typing import Any

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.rest import base_url

# The list tells what exists; upstream leaves out what a deployment does not offer (several stores, the image cache).
VERSIONS = ("v2.12", "v2.9", "v2.7", "v2.6", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0")


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
