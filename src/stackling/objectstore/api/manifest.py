"""Static large objects on the wire."""

import msgspec
from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import BadRequest, RangeNotSatisfiable
from stackling.base.rest import raw_body
from stackling.objectstore.actions import large, reading
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.actions.object import New, Place
from stackling.objectstore.actions.reading import Opened
from stackling.objectstore.api.request import params_of


def put(cloud: Cloud, req: Request, at: Place, who: Visitor, new: New) -> Row:
    """Keep the manifest that a request brings."""
    etag = (req.get_header("ETag") or "").strip().strip('"').lower()
    return large.put(cloud, who, at, new, large.parse(raw_body(req, large.MOST_BYTES)), etag)


def send(cloud: Cloud, req: Request, resp: Response, opened: Opened) -> None:
    """Answer with the manifest itself."""
    opened.body.close()
    raw = params_of(req).get("format") == "raw"
    data = msgspec.json.encode(large.shown(reading.segments_of(cloud, opened.row), raw=raw))
    resp.content_type = "application/json; charset=utf-8"
    if req.method == "HEAD":
        resp.content_length = len(data)
    else:
        resp.data = data


def part(resp: Response, opened: Opened, number: str) -> list[tuple[int, int]]:
    """The segment of that number, from 1. Raises BadRequest, RangeNotSatisfiable."""
    if not number.isdecimal() or len(number) > 5 or not 0 < int(number) <= 10_000:
        raise BadRequest("Part number must be an integer greater than 0")
    pieces = opened.body.pieces
    resp.set_header("X-Parts-Count", str(pieces[-1].number))
    found = opened.body.part(int(number))
    if found is None:
        raise RangeNotSatisfiable("The requested part number is not satisfiable")
    return [found]
