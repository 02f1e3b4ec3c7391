"""HTTP in and out for every service: what a request says, and what a service says of itself.

A service describes itself with `Service`; `application.py` makes one WSGI app of all of them, each below its own path.
Handlers are Falcon resources: decode with `body`, call one action, encode.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import msgspec
from falcon import Request, Response
from msgspec import Struct

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.errors import (
    BadRequest,
    Error,
    TooLarge,
    Unauthorized,
)
from stackling.base.microversion import Microversions, Version, at, render

T = TypeVar("T")


class Problem(Struct, frozen=True):
    """An error on its way out, before a service wraps it in its envelope."""

    error: Error
    status: int
    kind: str  # route (no such path), method, auth, body, or error
    request_id: str
    version: Version | None
    accept: str


class Envelope(Struct):
    """What a service sends for a problem."""

    body: Any = None
    text: str | None = None
    content_type: str = "application/json"
    status: int | None = None
    headers: dict[str, str] = {}


class Service(Struct, frozen=True):
    """One service as the REST layer knows it.

    `routes(cloud)` gives (path below `prefix`, Falcon resource); a resource with `public = True` needs no token.
    `envelope` wraps errors. `scoped` strips a project id that stands after the version in the path.
    `headers(req, resp)` adds what the service sends on every answer. Without `trailing_slash` a path that ends in
    one is not found, except that of a version document. `request_id` makes ids of its own form. `own_unauthorized`:
    its envelope is for 401 too. Without `private_routes` nobody needs a token to learn that there is no such path.
    """

    name: str
    prefix: str
    routes: Callable[[Cloud], Iterable[tuple[str, object]]]
    envelope: Callable[[Problem], Envelope]
    versions: Microversions | None = None
    version_root: str = ""
    scoped: bool = False
    trailing_slash: bool = True
    headers: Callable[[Request, Response], None] | None = None
    request_id: Callable[[], str] | None = None
    own_unauthorized: bool = False
    private_routes: bool = True
    before: Callable[[Request], None] | None = (
        None  # looks at a request before it is known whether there is a route
    )


class Context:
    """What `req.context` holds."""

    __slots__ = (
        "caller",
        "global_request_id",
        "project_in_path",
        "request_id",
        "service",
        "started",
        "version",
    )

    def __init__(self) -> None:
        self.caller: Caller | None = None
        self.service: Service | None = None
        self.version = Version(0, 0)
        self.project_in_path: str | None = None
        self.request_id = ids.request()
        self.global_request_id: str | None = None
        self.started = time.perf_counter()


# -- for handlers ------------------------------------------------------------------------------------------------------


def caller(req: Request) -> Caller:
    """The authenticated caller. Raises Unauthorized when there is none."""
    if req.context.caller is None:
        raise Unauthorized("The request you have made requires authentication.")
    return cast(Caller, req.context.caller)


def bearer(req: Request) -> str | None:
    """The token in the header `Authorization`: one of ours (RFC 6750), or an identity provider's."""
    kind, _, text = (req.get_header("Authorization") or "").partition(" ")
    return text.strip() if kind.lower() == "bearer" and text.strip() else None


def token_of(req: Request) -> str | None:
    """The text of the caller's token."""
    return req.env.get("HTTP_X_AUTH_TOKEN") or bearer(req)


def version(req: Request) -> Version:
    return cast(Version, req.context.version)


def raw_body(req: Request, most: int = 1 << 20) -> bytes:
    """The body, at most `most` bytes. Raises TooLarge."""
    if _BODY in req.env:
        return cast(bytes, req.env[_BODY])
    length = req.content_length
    if length is not None and length > most:
        raise TooLarge(f"Request body is larger than {most} bytes.")
    data = req.bounded_stream.read(most + 1) if length is None else req.bounded_stream.read(length)
    if len(data) > most:
        raise TooLarge(f"Request body is larger than {most} bytes.")
    return data


MOST_BODY = "stackling.max_body"
_BODY = "stackling.body"


def early_json(req: Request) -> None:
    """Read the body before there is a route, and keep it. Raises BadRequest when it says it is JSON and isn't."""
    if req.method not in ("POST", "PUT", "PATCH"):
        return
    kind = (req.content_type or "application/json").partition(";")[0].strip()
    if kind == "application/json":
        req.env[_BODY] = raw_body(req, req.env.get(MOST_BODY, 1 << 20))
        if req.env[_BODY]:
            json_body(req)


def json_body(req: Request) -> Any:
    """The body as plain JSON values. Raises BadRequest when it is none."""
    data = raw_body(req, req.env.get(MOST_BODY, 1 << 20))
    if b"\\u0000" in data:
        raise BadRequest("Malformed request body: a text holds a NUL character.")
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise BadRequest(f"Malformed request body: {e}") from None


def body(req: Request, kind: type[T], *, key: str | None = None) -> T:
    """The body (what stands under `key`) as `kind`, with the fields of the request's microversion.

    Raises BadRequest naming the field that is unknown, missing, or of a wrong type or range.
    """
    return convert(json_body(req), kind, key=key, version=req.context.version)


def convert(value: Any, kind: type[T], *, key: str | None = None, version: Version | None = None) -> T:
    """Like `body`, for values that were decoded already."""
    if key is not None:
        if not isinstance(value, dict) or key not in value:
            raise BadRequest(f"Invalid input for field/attribute {key}: '{key}' is a required property")
        surplus = [str(k) for k in value if k != key]
        if (
            surplus
            and isinstance(kind, type)
            and issubclass(kind, Struct)
            and kind.__struct_config__.forbid_unknown_fields
        ):
            raise BadRequest(f"Additional properties are not allowed ({surplus[0][:64]!r} was unexpected)")
        value = value[key]
    wanted: Any = kind
    if isinstance(kind, type) and issubclass(kind, Struct):
        wanted = at(kind, version or Version(999, 999))
    try:
        return cast(T, msgspec.convert(value, wanted, strict=True, str_keys=True))
    except (msgspec.ValidationError, RecursionError) as e:
        raise BadRequest(f"Invalid input for field/attribute {_field_of(str(e), key)}") from None


def _field_of(says: str, key: str | None) -> str:
    what, _, where = says.partition(" - at `$")
    where = where.rstrip("`").lstrip(".") or (key or "body")
    if "unknown field" in what:
        name = what.rpartition(" ")[2].strip("`")
        return f"{where}: Additional properties are not allowed ('{name}' was unexpected)"
    if "missing required field" in what:
        name = what.rpartition(" ")[2].strip("`")
        return f"{name}: '{name}' is a required property"
    return f"{where}: {what}"


def view(req: Request, made: Any) -> Any:
    """A view struct (or list of them) as plain values at the request's microversion."""
    return render(made, req.context.version)


def base_url(req: Request, cloud: Cloud) -> str:
    """The URL of the cloud as this caller reaches it, no trailing slash."""
    if cloud.config.api.public_url:
        return cloud.config.base_url
    return f"{req.forwarded_scheme}://{req.forwarded_host}"


def self_url(req: Request, cloud: Cloud) -> str:
    """The URL of this request without its query, as the caller wrote it."""
    return base_url(req, cloud) + cast(str, req.env.get("stackling.path", req.path))


def one_param(req: Request, name: str) -> str | None:
    """A query parameter that makes sense once; the last one wins."""
    values = req.get_param_as_list(name)
    return values[-1] if values else None


def boolean(text: Any, name: str) -> bool:
    """OpenStack's idea of a boolean in a query or lenient body. Raises BadRequest naming the field."""
    if isinstance(text, bool):
        return text
    word = str(text).strip().lower()
    if word in ("1", "t", "true", "on", "y", "yes"):
        return True
    if word in ("0", "f", "false", "off", "n", "no"):
        return False
    raise BadRequest(f"Invalid value for {name}: {str(text)[:64]!r} is not a boolean")


def integer(text: Any, name: str, *, least: int = 0, most: int = 2**31 - 1) -> int:
    """A whole number from a query. Raises BadRequest naming the field."""
    try:
        value = int(str(text)) if len(str(text)) < 20 else None
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        raise BadRequest(
            f"Invalid input for query parameter {name}: {str(text)[:64]!r} is not a whole number from {least} to {most}"
        )
    return value
