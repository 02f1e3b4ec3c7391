"""Many objects in one request, on the wire. The answer is 200 whatever happened; its body says what did."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

import msgspec
from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest, LengthRequired, NotFound
from stackling.base.rest import raw_body
from stackling.objectstore.actions import access, bulk, reading
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.actions.bulk import Outcome
from stackling.objectstore.actions.object import Place
from stackling.objectstore.api.request import params_of, visitor

_MODES: dict[str, bulk.Mode] = {"tar": "r|", "tar.gz": "r|gz", "tar.bz2": "r|bz2"}
_MOST_LIST = bulk.MOST_DELETES * 4096  # bytes: each name may be that long, with what encodes it


def delete(cloud: Cloud, req: Request, resp: Response, at: Place) -> None:
    """Delete what the lines of the body name."""
    who = visitor(req, cloud, at)
    if who.caller is None:
        raise access.deny(who)
    if req.content_length is None:
        raise LengthRequired("Missing Content-Length header.")
    body = raw_body(req, _MOST_LIST)
    if len(body) != req.content_length:
        raise BadRequest(
            "The list arrived incomplete; nothing was deleted."
        )  # its last name may be that of another
    lines = body.decode("utf-8", "replace").splitlines()
    names = [unquote(line.strip()) for line in lines if line.strip()]
    outcome = bulk.delete(cloud, who, at.account, names)
    if not names:
        outcome.why = "Invalid bulk delete."
    _tell(req, resp, outcome, {"Number Deleted": outcome.done, "Number Not Found": outcome.missing}, "200 OK")


def delete_manifest(cloud: Cloud, req: Request, resp: Response, at: Place, who: Visitor) -> None:
    """Delete a static large object with its segments, and those of manifests among them."""
    names = list(_segments(cloud, who, at))
    outcome = bulk.delete(cloud, who, at.account, [*names, f"{at.container}/{at.object}"])
    _tell(req, resp, outcome, {"Number Deleted": outcome.done, "Number Not Found": outcome.missing}, "200 OK")


def _segments(cloud: Cloud, who: Visitor, at: Place, depth: int = 1) -> Iterator[str]:
    opened = reading.open_object(cloud, who, at, None, manifest=True, link=True)
    opened.body.close()
    if "slo" not in (opened.row.special or {}):
        if depth == 1:
            raise BadRequest("Not an SLO manifest")
        return
    for segment in reading.segments_of(cloud, opened.row):
        box, name = segment.place
        if segment.sub_slo and depth < reading.DEEPEST:
            try:
                yield from _segments(cloud, who, Place(at.account, box, name), depth + 1)
            except NotFound:
                continue
        yield f"{box}/{name}"


def extract(cloud: Cloud, req: Request, resp: Response, at: Place) -> None:
    """Make an object of each file of the archive in the body."""
    who = visitor(req, cloud, at)
    if who.caller is None and who.signed is None:
        raise access.deny(who)
    mode = _MODES.get(params_of(req)["extract-archive"].lower())
    if mode is None:
        raise BadRequest("Unsupported archive format; there are tar, tar.gz and tar.bz2")
    body: Any = req.bounded_stream if req.content_length is not None else req.stream
    outcome = bulk.extract(cloud, who, at, body, mode)
    while body.read(1 << 20):  # what follows the archive's end
        pass
    if not outcome.done and not outcome.errors and not outcome.why:
        outcome.why = "Invalid Tar File: No Valid Files"
    _tell(req, resp, outcome, {"Number Files Created": outcome.done}, "201 Created")


def _tell(req: Request, resp: Response, outcome: Outcome, counts: dict[str, int], well: str) -> None:
    failed = bool(outcome.errors or outcome.why)
    made: dict[str, Any] = {
        **counts,
        "Response Body": outcome.why,
        "Response Status": "400 Bad Request" if failed else well,
        "Errors": outcome.errors,
    }
    resp.status = "200 OK"
    wanted = req.client_prefers(("text/plain", "application/json", "application/xml", "text/xml"))
    if wanted == "application/json":
        resp.content_type, resp.data = wanted, msgspec.json.encode(made)
    elif wanted in ("application/xml", "text/xml"):
        resp.content_type, resp.data = wanted, _xml(made, outcome).encode()
    else:
        plain = "".join(f"{name}: {value}\n" for name, value in made.items() if name != "Errors")
        errors = "".join(f"{name}, {status}\n" for name, status in outcome.errors)
        resp.content_type, resp.data = "text/plain", f"{plain}Errors:\n{errors}".encode()


def _xml(made: dict[str, Any], outcome: Outcome) -> str:
    tags = "".join(
        f"<{n.replace(' ', '_').lower()}>{escape(str(v))}</{n.replace(' ', '_').lower()}>"
        for n, v in made.items()
        if n != "Errors"
    )
    errors = "".join(
        f"<object><name>{escape(n)}</name><status>{escape(s)}</status></object>" for n, s in outcome.errors
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<delete>{tags}<errors>{errors}</errors></delete>'
