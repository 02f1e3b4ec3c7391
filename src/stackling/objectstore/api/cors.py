"""Cross-origin requests (CORS): which pages of other sites may use a container, as its metadata says."""

from collections.abc import Sequence

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.errors import Unauthorized
from stackling.objectstore.api import answer
from stackling.objectstore.api.request import CORS, ORIGINS, place_of, visitor

_META = "X-Container-Meta-Access-Control-"
_EXPOSED = (
    "cache-control, content-language, content-type, expires, last-modified, pragma, etag, x-timestamp, x-trans-id, "
    "x-openstack-request-id"
)


def allowed(req: Request, options: Sequence[str]) -> str | None:
    """The origin to be told that it may; None: it may not, or there is none."""
    origin = req.get_header("Origin")
    if not origin:
        return None
    wanted = (req.env.get(CORS) or {}).get(f"{_META}Allow-Origin", "").split()
    if "*" in wanted or "*" in options:
        return "*"
    return origin if origin in wanted or origin in options else None


def on_every(req: Request, resp: Response) -> None:
    """What the service sends with every answer."""
    answer.on_every(req, resp)
    if req.method == "OPTIONS":
        return
    origin = allowed(req, req.env.get(ORIGINS, ()))
    if origin is None:
        return
    resp.set_header("Access-Control-Allow-Origin", origin)
    if origin != "*":
        resp.append_header("Vary", "Origin")
    own = (req.env.get(CORS) or {}).get(f"{_META}Expose-Headers", "").split()
    meta = [name for name in resp.headers if name.startswith(("x-object-meta-", "x-container-meta-"))]
    resp.set_header("Access-Control-Expose-Headers", ", ".join([_EXPOSED, *meta, *own]))


class Door:
    """What accounts, containers and objects have in common: access lists and signatures decide, so none needs a token."""

    public = True
    methods: tuple[str, ...] = ()

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_options(self, req: Request, resp: Response, **_: str) -> None:
        """What a browser asks before it lets a page of another site go on."""
        at = place_of(req)
        visitor(req, self.cloud, at, "OPTIONS")
        methods = ", ".join((*self.methods, "OPTIONS"))
        answer.empty(resp, "200 OK")
        resp.set_header("Allow", methods)
        if not req.get_header("Origin"):
            return
        origin = allowed(req, self.cloud.config.objectstore.cors_allow_origin)
        if origin is None or req.get_header("Access-Control-Request-Method") not in self.methods:
            raise Unauthorized("The origin may not do that.", headers={"Allow": methods})
        resp.set_header("Access-Control-Allow-Origin", origin)
        resp.set_header("Access-Control-Allow-Methods", methods)
        if asked := req.get_header("Access-Control-Request-Headers"):
            resp.set_header("Access-Control-Allow-Headers", asked)
        if age := (req.env.get(CORS) or {}).get(f"{_META}Max-Age"):
            resp.set_header("Access-Control-Max-Age", age)
        resp.set_header("Vary", "Origin, Access-Control-Request-Headers")
