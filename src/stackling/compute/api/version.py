"""The versions of the Compute API that are spoken."""

from typing import Any

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.errors import NotFound
from stackling.base.microversion import Microversions, Version
from stackling.base.rest import base_url, version

SPOKEN = Microversions(
    word="compute",
    lowest=Version(2, 1),
    highest=Version(2, 92),
    legacy="X-OpenStack-Nova-API-Version",
)


def _document(req: Request, cloud: Cloud, id: str, *, media_types: bool) -> dict[str, Any]:
    newest = id == "v2.1"
    made: dict[str, Any] = {
        "id": id,
        "status": "CURRENT" if newest else "SUPPORTED",
        "version": str(SPOKEN.highest) if newest else "",
        "min_version": str(SPOKEN.lowest) if newest else "",
        "updated": "2013-07-23T11:33:21Z" if newest else "2011-01-21T11:33:21Z",
        "links": [{"rel": "self", "href": f"{base_url(req, cloud)}/compute/{'v2.1' if newest else 'v2'}/"}],
    }
    if media_types:
        made["links"].append(
            {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"}
        )
        kind = f"application/vnd.openstack.compute+json;version={'2.1' if newest else '2'}"
        made["media-types"] = [{"base": "application/json", "type": kind}]
    return made


class Versions:
    """/"""

    public = True

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        resp.media = {
            "versions": [_document(req, self.cloud, id, media_types=False) for id in ("v2.0", "v2.1")]
        }


class OneVersion:
    """/v2 and /v2.1"""

    public = True

    def __init__(self, cloud: Cloud, id: str) -> None:
        self.cloud, self.id = cloud, id

    def on_get(self, req: Request, resp: Response) -> None:
        resp.media = {"version": _document(req, self.cloud, self.id, media_types=True)}


class VersionById:
    """/v2.1/versions/{id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        if id not in ("v2.0", "v2.1"):
            raise NotFound("The resource could not be found.")
        resp.media = {"version": _document(req, self.cloud, id, media_types=True)}


def since(req: Request, text: str) -> bool:
    """The request's microversion is at least `text`."""
    return version(req) >= Version.parse(text)


def only(req: Request, *, first: str | None = None, last: str | None = None) -> None:
    """Raises NotFound when the call does not exist at the request's microversion."""
    now = version(req)
    if (first and now < Version.parse(first)) or (last and now > Version.parse(last)):
        raise NotFound("The resource could not be found.")
