"""Image data in and out, in constant memory."""

from typing import BinaryIO

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.errors import RangeNotSatisfiable, UnsupportedMediaType
from stackling.base.rest import caller
from stackling.base.streaming import Part, chunks
from stackling.image.actions import data

OCTETS = "application/octet-stream"


class File:
    """/v2/images/{image_id}/file"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_put(self, req: Request, resp: Response, image_id: str) -> None:
        if (req.content_type or "").partition(";")[0].strip() != OCTETS:
            raise UnsupportedMediaType(f"Image data is sent as {OCTETS}.")
        named = req.get_header("X-Image-Meta-Store")
        data.receive(self.cloud, caller(req), image_id, chunks(req), req.content_length, named)
        resp.status = "204 No Content"

    def on_get(self, req: Request, resp: Response, image_id: str) -> None:
        row, file = data.sent(self.cloud, caller(req), image_id)
        if file is None:
            resp.status = "204 No Content"
            return
        resp.content_type = OCTETS
        if row.size is None:  # it lies on the web, and nobody read it yet
            resp.stream = Part(file, 1 << 62)
            return
        send(req, resp, file, row.size)
        if resp.status_code == 200 and row.checksum:
            resp.set_header("Content-MD5", row.checksum)


def send(req: Request, resp: Response, file: BinaryIO, size: int) -> None:
    """Answer with an opened file of `size` bytes, or the part of it that was asked for. Raises RangeNotSatisfiable."""
    resp.set_header("Accept-Ranges", "bytes")
    try:
        first, last = _range(req, size)
    except RangeNotSatisfiable:
        file.close()
        raise
    if req.get_header("Range") is not None:
        resp.status = "206 Partial Content"
        resp.content_range = (first, last, size)
        file.seek(first)
    resp.set_stream(Part(file, last - first + 1), last - first + 1)


def _range(req: Request, size: int) -> tuple[int, int]:
    """First and last byte asked for. Several ranges at once are answered with the whole (RFC 9110 allows that)."""
    header = req.get_header("Range")
    unit, _, text = (header or "").partition("=")
    if header is None or unit.strip() != "bytes" or "," in text:
        return 0, size - 1
    start, dash, end = text.strip().partition("-")
    well = dash and (not start or start.isdigit()) and (not end or end.isdigit()) and (start or end)
    refused = RangeNotSatisfiable(
        "The range asked for is not within the data.", headers={"Content-Range": f"bytes */{size}"}
    )
    if not well or len(text) > 64:
        raise refused
    if not start:
        first, last = max(0, size - int(end)), size - 1
    else:
        first, last = int(start), min(int(end), size - 1) if end else size - 1
    if first > last:
        raise refused
    return first, last
