"""What a request says: names in its path, parameters, headers that are kept, and who asks."""

import re
import time
import uuid
from datetime import UTC, datetime
from urllib.parse import parse_qsl, unquote

from falcon import Request

from stackling.base import access_rule
from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest, NotFound, PreconditionFailed, Unauthorized
from stackling.objectstore.actions import container
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.actions.object import Place, stamp
from stackling.objectstore.api import temp_url

PREFIX = "/object-store"
_INTEGER = re.compile(r"-?[0-9]{1,18}")  # Python refuses to read numbers of thousands of digits
# Where the environment of a request from another origin holds the headers of its container, and the origins that the
# operator allows.
CORS, ORIGINS = "objectstore.cors", "objectstore.origins"


def transaction_id() -> str:
    """An id in the form of Swift's."""
    return f"tx{uuid.uuid4().hex[:21]}-{int(time.time()):010x}"


def text_of(wire: str) -> str:
    """What WSGI hands over as Latin-1. Raises PreconditionFailed: it is no UTF-8."""
    try:
        return wire.encode("latin-1").decode()
    except UnicodeError:
        raise PreconditionFailed("Invalid UTF8 or contains NULL") from None


def path_of(req: Request) -> str:
    """The path below the service's root, decoded, with all its slashes."""
    return text_of(req.env["PATH_INFO"])[len(PREFIX) :]


def place_of(req: Request) -> Place:
    """Account, container and object that the path names; empty where it names none. Raises NotFound."""
    _, _, account, box, name = (path_of(req).split("/", 4) + [""] * 4)[:5]
    if not account or (name and not box):
        raise NotFound("The resource could not be found.")
    return Place(account, box, name)


def params_of(req: Request) -> dict[str, str]:
    """The query's parameters; the last of a name wins. Raises PreconditionFailed: no UTF-8."""
    try:
        return dict(parse_qsl(req.query_string, keep_blank_values=True, errors="strict"))
    except (UnicodeError, ValueError):
        raise PreconditionFailed("Invalid UTF8 or contains NULL") from None


def header(req: Request, name: str) -> str | None:
    """A header's value as text. Raises BadRequest: no UTF-8."""
    value = req.get_header(name)
    if value is None:
        return None
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        raise BadRequest(f"Header {name} is not UTF-8") from None


def quoted_header(req: Request, name: str) -> str | None:
    """A header that holds a URL-encoded path."""
    value = header(req, name)
    return None if value is None else unquote(value)


def true(value: str | None) -> bool:
    return (value or "").lower() in ("true", "1", "yes", "on", "t", "y")


def given(req: Request, kind: str, also: tuple[str, ...] = ()) -> dict[str, str]:
    """Metadata and the headers `also` that a request sets; empty: it takes them away. Names that end in `-` are prefixes."""
    wanted = (f"X-{kind}-Meta-", *also)
    made: dict[str, str] = {}
    for key in sorted(req.env):
        if not key.startswith("HTTP_X_"):
            continue
        name = key[5:].replace("_", "-").title()
        removed = name.startswith("X-Remove-")
        if removed:
            name = "X-" + name[9:]
        if any(name.startswith(w) if w.endswith("-") else name == w for w in wanted):
            value = "" if removed else (header(req, key[5:].replace("_", "-")) or "").strip()
            if not removed or name not in made:
                made[name] = value
    return made


def object_metadata(req: Request) -> dict[str, str]:
    """An object's metadata. It is set as a whole, so nothing need be taken away, and an empty value is one."""
    keys = [key[5:].replace("_", "-") for key in req.env if key.startswith("HTTP_X_OBJECT_META_")]
    return {key.title(): (header(req, key) or "").strip() for key in sorted(keys)}


def visitor(req: Request, cloud: Cloud, at: Place, method: str | None = None) -> Visitor:
    """Who asks. Raises Unauthorized: a signature that isn't right, or a call that the credential may not make."""
    who = req.context.caller
    referer = req.get_header("Referer") or ""
    if req.get_header("Origin"):
        with cloud.db.read() as tx:
            box = container.find(tx, at.account, at.container)
        req.env[CORS] = box.headers if box is not None else {}
        req.env[ORIGINS] = cloud.config.objectstore.cors_allow_origin
    params = params_of(req)
    if at.object and ("temp_url_sig" in params or "temp_url_expires" in params):
        signed = temp_url.verified(
            req, cloud, at, params, text_of(req.env["PATH_INFO"]), PREFIX, method or req.method
        )
        return Visitor(caller=None, signed=signed)
    if who is not None and who.access_rules is not None:
        path = path_of(req)
        if not access_rule.permits(who.access_rules, "object-store", req.method, path):
            raise Unauthorized(
                "The request you have made requires authentication.", detail="not in the access rules"
            )
    return Visitor(caller=who, referer=referer)


def _integer(name: str, text: str) -> int:
    if not _INTEGER.fullmatch(text.strip()):
        raise BadRequest(f"Non-integer {name}")
    return int(text)


def delete_at(req: Request, now: datetime) -> datetime | None:
    """When an object is to go. Raises BadRequest: no number, or in the past."""
    after, at = req.get_header("X-Delete-After"), req.get_header("X-Delete-At")
    seconds = int(float(stamp(now)))
    found = None
    if after:
        found = seconds + _integer("X-Delete-After", after)
        if found < seconds:
            raise BadRequest("X-Delete-After in past")
    elif at:
        found = _integer("X-Delete-At", at)
        if found <= seconds:
            raise BadRequest("X-Delete-At in past")
    if found is None:
        return None
    if found > 9_999_999_999:
        raise BadRequest("X-Delete-At is too far away")
    return datetime.fromtimestamp(found, tz=UTC).replace(tzinfo=None)
