"""The WSGI application: routing to services, who calls, errors in each service's envelope, one log line a request."""

import errno
import hmac
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import falcon
import msgspec
import prometheus_client
import sqlalchemy as sa
from falcon import Request, Response

from stackling.base import access_rule, audited, db, log, peer
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.errors import (
    BadRequest,
    Conflict,
    Error,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    Unauthorized,
    Unavailable,
)
from stackling.base.rest import (
    MOST_BODY,
    Context,
    Envelope,
    Problem,
    Service,
    base_url,
    token_of,
)


class _Request(falcon.Request):
    context_type = Context


Authenticate = Callable[[str], Caller]


class Instruments:
    """What the control plane tells Prometheus about itself; one set a cloud."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self.requests = prometheus_client.Counter(
            "stackling_requests", "Requests answered", ["service", "method", "status"], registry=self.registry
        )
        self.seconds = prometheus_client.Histogram(
            "stackling_request_seconds",
            "Seconds a request took",
            ["service", "method"],
            registry=self.registry,
        )
        prometheus_client.ProcessCollector(registry=self.registry)
        self._of: dict[
            tuple[str, str, str], tuple[prometheus_client.Counter, prometheus_client.Histogram]
        ] = {}

    def answered(self, service: str, method: str, status: str, seconds: float) -> None:
        """Count one answer. Methods that HTTP doesn't have count as one, or clients could make series without end."""
        key = service, method if method in falcon.HTTP_METHODS else "other", status
        kept = self._of.get(key)
        if kept is None:
            kept = self._of[key] = self.requests.labels(*key), self.seconds.labels(*key[:2])
        kept[0].inc()
        kept[1].observe(seconds)


def wsgi_app(
    cloud: Cloud,
    services: Sequence[Service],
    authenticate: Authenticate,
    *,
    extra: Iterable[tuple[str, object]] = (),
) -> Callable[..., Any]:
    """The WSGI app of all `services`. `authenticate(token)` returns the caller or raises Unauthorized."""
    instruments = Instruments()
    outer = _Outer(cloud, services, authenticate, instruments)
    app = falcon.App(middleware=[outer], request_type=_Request)
    app.req_options.strip_url_path_trailing_slash = True
    app.req_options.auto_parse_form_urlencoded = False
    app.req_options.keep_blank_qs_values = True
    app.req_options.auto_parse_qs_csv = False
    app.resp_options.xml_error_serialization = False
    app.resp_options.media_handlers[falcon.MEDIA_JSON] = _Json()
    app.add_error_handler(Exception, outer.on_error)
    app.add_error_handler(falcon.HTTPError, outer.on_error)  # which Falcon would answer itself
    for service in services:
        for path, resource in service.routes(cloud):
            app.add_route((service.prefix + path).rstrip("/") or "/", resource)
    for path, resource in extra:
        app.add_route(path, resource)
    app.add_route("/metrics", Metrics(instruments))
    return cast(Callable[..., Any], app)


class _Json(falcon.media.BaseHandler):
    def serialize(self, media: Any, content_type: str) -> bytes:
        return msgspec.json.encode(media)

    def deserialize(self, stream: Any, content_type: str | None, content_length: int | None) -> Any:
        return msgspec.json.decode(stream.read())


class Metrics:
    """Prometheus endpoint of the control plane; for the machine itself and for admins."""

    public = True

    def __init__(self, instruments: Instruments) -> None:
        self.instruments = instruments

    def on_get(self, req: Request, resp: Response) -> None:
        local = req.remote_addr in ("127.0.0.1", "::1") and not req.get_header("X-Forwarded-For")
        if not local and not (req.context.caller and req.context.caller.is_admin):
            raise Forbidden("Metrics are for the machine itself and for admins.")
        resp.content_type = prometheus_client.CONTENT_TYPE_LATEST
        resp.data = prometheus_client.generate_latest(self.instruments.registry)


class _Outer:
    """Middleware: everything around a handler."""

    def __init__(
        self, cloud: Cloud, services: Sequence[Service], authenticate: Authenticate, instruments: Instruments
    ) -> None:
        self.cloud = cloud
        self.services = {s.prefix: s for s in services}
        self.authenticate = authenticate
        self.instruments = instruments
        self.log = log.get("api")

    def process_request(self, req: Request, resp: Response) -> None:
        context = cast(Context, req.context)
        req.env[MOST_BODY] = self.cloud.config.api.max_body_mib << 20
        given = req.env.get("HTTP_X_OPENSTACK_REQUEST_ID")
        if given and given.startswith("req-") and len(given) == 40:
            context.global_request_id = given
        end = req.path.find("/", 1)
        service = context.service = self.services.get(req.path if end < 0 else req.path[:end])
        if service is not None and service.request_id:
            context.request_id = service.request_id()
        if "\x00" in req.path or "%00" in (req.query_string or ""):
            raise BadRequest("The URL holds a NUL character.")
        req.env["stackling.path"] = req.path
        if service is not None and service.scoped:
            self._strip_project(req, service)
        if service is not None and service.versions:
            legacy = req.get_header(service.versions.legacy) if service.versions.legacy else None
            context.version = service.versions.lowest  # what an error about the version itself is sent with
            context.version = service.versions.asked(req.get_header("OpenStack-API-Version"), legacy)
        token = token_of(req)
        if token:
            try:
                context.caller = self._bearer(req, token)
            except Unauthorized:
                context.caller = None  # public routes answer; all others say 401 in process_resource
        if service is None:
            return
        if service.before:
            service.before(req)
        if not service.trailing_slash and req.env.get("PATH_INFO", "").endswith("/"):
            below = req.path[len(service.prefix) :]
            if below.count("/") > 1 or below[:2] not in ("", "/v"):  # version documents are the exception
                raise falcon.HTTPRouteNotFound()

    def _bearer(self, req: Request, token: str) -> Caller:
        found = self.authenticate(token)
        if found.certificate:
            shown = peer.thumbprint(peer.certificate(req, self.cloud.config.api))
            if not hmac.compare_digest(found.certificate, shown):
                raise Unauthorized(detail="the token is bound to another client certificate")
        # A copy, since the authenticator's own serves other requests too.
        return msgspec.structs.replace(found, request_id=req.context.request_id)

    def _strip_project(self, req: Request, service: Service) -> None:
        root = service.prefix + service.version_root
        rest = req.path[len(root) :]
        if req.path.startswith(root + "/"):
            first, _, after = rest[1:].partition("/")
            if len(first) in (32, 36) and all(c in "0123456789abcdef-" for c in first.lower()):
                req.context.project_in_path = first
                req.path = root + ("/" + after if after else "")

    def process_resource(
        self, req: Request, resp: Response, resource: object, params: dict[str, Any]
    ) -> None:
        if not getattr(resource, "public", False):
            if req.context.caller is None:
                raise Unauthorized("The request you have made requires authentication.")
            self._within_access_rules(req)
        act = audited.act_of(req, resource, params, self.cloud.config.api)
        if act is not None:
            self.cloud.audit.begin(act)
        inside = req.context.project_in_path
        who = req.context.caller
        if (
            inside
            and who
            and who.project_id
            and inside.replace("-", "") != who.project_id.replace("-", "")
            and not who.is_admin
        ):
            raise BadRequest(
                f"Malformed request URL: URL's project_id '{inside}' doesn't match Context's project_id '{who.project_id}'"
            )

    def _within_access_rules(self, req: Request) -> None:
        """An application credential with access rules is nobody to every call that none of them names."""
        who, service = req.context.caller, req.context.service
        if who is None or who.access_rules is None or service is None:
            return
        path = req.env["stackling.path"][len(service.prefix) :]
        if not access_rule.permits(who.access_rules, service.name, req.method, path):
            raise Unauthorized(
                "The request you have made requires authentication.", detail="not in the access rules"
            )

    def process_response(self, req: Request, resp: Response, resource: object, succeeded: bool) -> None:
        context = cast(Context, req.context)
        resp.set_header("X-Openstack-Request-Id", context.request_id)
        service = context.service
        if service is not None:
            if service.versions:
                word = f"{service.versions.word} {context.version}"
                vary = ["OpenStack-API-Version"]
                resp.set_header("OpenStack-API-Version", word)
                if service.versions.legacy:
                    resp.set_header(service.versions.legacy, str(context.version))
                    vary.append(service.versions.legacy)
                resp.set_header("Vary", ", ".join(vary))
            if service.headers:
                service.headers(req, resp)
        status = str(resp.status)[:3]
        if self.cloud.audit.act is not None:
            self.cloud.audit.end(int(status), audited.made_id(resp))
        took = time.perf_counter() - context.started
        name = service.name if service else "-"
        self.instruments.answered(name, req.method, status, took)
        if self.cloud.config.log.requests:
            who = context.caller
            line = {
                "logger": "api",
                "event": "request",
                "request_id": context.request_id,
                "service": name,
                "method": req.method,
                "path": req.env.get("stackling.path", req.path),
                "status": int(status),
                "user": who.user_id if who else None,
                "project": who.project_id if who else None,
                "ms": round(took * 1000, 2),
            }
            if context.global_request_id:
                line["global_request_id"] = context.global_request_id
            log.plain(line)

    def on_error(self, req: Request, resp: Response, error: Exception, params: Any) -> None:
        kind, known = _known(error)
        context = cast(Context, req.context)
        if known is None:
            self.log.exception("api.bug", request_id=context.request_id, method=req.method, path=req.path)
            known = Error("An unexpected error prevented the server from fulfilling your request.")
        elif known.detail:
            self.log.info("api.refused", request_id=context.request_id, says=known.says, detail=known.detail)
        service = context.service
        if kind == "route" and service is not None and context.caller is None and service.private_routes:
            kind, known = "auth", Unauthorized("The request you have made requires authentication.")
        problem = Problem(
            known, known.status, kind, context.request_id, context.version, req.get_header("Accept") or "*/*"
        )
        made = (
            service.envelope(problem)
            if service
            else Envelope({"error": {"code": known.status, "title": known.title, "message": known.says}})
        )
        if known.status == 401:
            if service is None or not service.own_unauthorized:
                made = Envelope({"error": {"code": 401, "title": "Unauthorized", "message": known.says}})
            resp.set_header("WWW-Authenticate", f'Keystone uri="{base_url(req, self.cloud)}/identity/v3"')
        resp.status = falcon.code_to_http_status(made.status or known.status)
        for name, value in {**known.headers, **made.headers}.items():
            resp.set_header(name, value)
        if req.method == "HEAD":
            resp.data, resp.media, resp.text = None, None, None
        elif made.text is not None:
            resp.content_type, resp.text = made.content_type, made.text
        else:
            resp.content_type, resp.data = made.content_type, msgspec.json.encode(made.body)


def _known(error: Exception) -> tuple[str, Error | None]:
    """The kind of problem, and the error as one of ours; None for a bug."""
    if isinstance(error, Unauthorized):
        return "auth", error
    if isinstance(error, Error):
        return "error", error
    if isinstance(error, falcon.HTTPRouteNotFound):
        return "route", NotFound("The resource could not be found.")
    if isinstance(error, falcon.HTTPMethodNotAllowed):
        allow = (error.headers or {}).get("Allow", "") if isinstance(error.headers, dict) else ""
        return "method", MethodNotAllowed(
            "The method is not allowed for the requested URL.", headers={"Allow": allow}
        )
    if isinstance(error, falcon.HTTPError):
        status = int(str(error.status)[:3])
        kinds = {k.status: k for k in Error.__subclasses__() if k.__name__ != "QuotaExceeded"}
        return "error", kinds.get(status, BadRequest)(error.description or error.title or "")
    if isinstance(error, (UnicodeError, OverflowError, sa.exc.DataError)):
        return "error", BadRequest(
            "The request holds text or numbers that can't be kept.", detail=repr(error)
        )
    deadlock = isinstance(error, sa.exc.OperationalError) and getattr(error.orig, "sqlstate", None) in (
        "40P01",
        "40001",
    )
    if deadlock or isinstance(error, sa.exc.IntegrityError):
        return "error", Conflict(
            "Another request changed the same thing at this moment; try again.", detail=repr(error)
        )
    why = db.FULL if isinstance(error, OSError) and error.errno in _FULL else db.away(error)
    if why == db.FULL:
        return "error", Unavailable(
            "The disk of the cloud is full, so nothing was changed. Its operator has to free space, "
            "`stackling doctor` says where; then the same request works.",
            detail=repr(error),
        )
    if why:
        return "error", Unavailable(
            f"The database of the cloud can't be used just now: {why}. Try again; if it lasts, its operator "
            "should look at `stackling status`.",
            detail=repr(error),
        )
    return "error", None


_FULL = (errno.ENOSPC, errno.EDQUOT)
