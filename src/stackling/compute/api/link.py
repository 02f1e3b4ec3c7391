"""Links: of an object to itself, and of a page to the next one."""

from typing import Any
from urllib.parse import urlencode

from falcon import Request

from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest
from stackling.base.rest import base_url, integer, one_param, self_url

MOST = 1000  # objects on a page


class Links:
    """Makes the links of many objects of one request."""

    def __init__(self, req: Request, cloud: Cloud) -> None:
        project = f"/{req.context.project_in_path}" if req.context.project_in_path else ""
        base = f"{base_url(req, cloud)}/compute"
        self.versioned, self.bare = f"{base}/v2.1{project}", f"{base}{project}"
        self.images = f"{base_url(req, cloud)}/image/v2/images"
        self._references: dict[tuple[str, str], dict[str, Any]] = {}

    def of(self, kind: str, id: str) -> list[dict[str, str]]:
        return [
            {"rel": "self", "href": f"{self.versioned}/{kind}/{id}"},
            {"rel": "bookmark", "href": f"{self.bare}/{kind}/{id}"},
        ]

    def bookmark(self, kind: str, id: str) -> list[dict[str, str]]:
        return [{"rel": "bookmark", "href": f"{self.bare}/{kind}/{id}"}]

    def reference(self, kind: str, id: str) -> dict[str, Any]:
        """How one object names another; the same dict for all that name it, since a list of servers has few flavors and images."""
        made = self._references.get((kind, id))
        if made is None:
            made = self._references[kind, id] = {"id": id, "links": self.bookmark(kind, id)}
        return made


def limit_of(req: Request) -> int:
    """How many objects to show; a larger limit is lowered. Raises BadRequest."""
    text = one_param(req, "limit")
    if text is None:
        return MOST
    return min(integer(text, "limit", most=2**62), MOST)


def next_page(req: Request, cloud: Cloud, marker: str) -> list[dict[str, str]]:
    given = [(k, v) for k in req.params for v in req.get_param_as_list(k) or [] if k != "marker"]
    return [{"rel": "next", "href": f"{self_url(req, cloud)}?{urlencode([*given, ('marker', marker)])}"}]


def known_queries(req: Request, *names: str) -> None:
    """Raises BadRequest for a query parameter that the call does not have."""
    for name in req.params:
        if name not in names:
            raise BadRequest(f"Additional properties are not allowed ({name[:64]!r} was unexpected)")


def paged(
    req: Request, cloud: Cloud, name: str, shown: list[Any], markers: list[str], limit: int
) -> dict[str, Any]:
    """A page and, when it is full, the link to the next."""
    made: dict[str, Any] = {name: shown}
    if markers and len(markers) == limit:
        made[f"{name}_links"] = next_page(req, cloud, markers[-1])
    return made
