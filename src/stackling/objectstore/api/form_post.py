"""Uploads from web forms: a signature in the form, made with a key of the account or the container, stands for a token."""

from typing import Any, cast
from urllib.parse import quote

import falcon
from falcon import Request, Response
from falcon.media import MultipartFormHandler

from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest, Error, TooLarge, Unauthorized
from stackling.base.streaming import CHUNK
from stackling.objectstore.actions import metadata, upload
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.actions.object import New, Place, stamp
from stackling.objectstore.api import answer, temp_url
from stackling.objectstore.api.request import PREFIX, text_of

_LONGEST = 8192  # bytes of a field that is no file


def is_form(req: Request) -> bool:
    return (req.content_type or "").partition(";")[0].strip().lower() == "multipart/form-data"


def receive(cloud: Cloud, req: Request, resp: Response, at: Place) -> None:
    """Keep the files of a form as objects, whose names begin with what the path says."""
    fields: dict[str, str] = {}
    kept, made = 0, "400 Bad Request"
    body: Any = req.bounded_stream if req.content_length is not None else req.stream
    try:
        who: Visitor | None = None
        for part in MultipartFormHandler().deserialize(body, req.content_type, req.content_length):
            if part.filename is None:
                fields[part.name or ""] = metadata.plain(
                    part.stream.read(_LONGEST).decode("utf-8", "replace")
                )
                continue
            who = who or _verified(cloud, req, at, fields)
            if kept >= _number(fields, "max_file_count"):
                raise BadRequest("max file count exceeded")
            name = at.object + part.filename
            if name:
                _file(cloud, who, Place(at.account, at.container, name), part, fields)
                kept += 1
        if not kept:
            raise BadRequest("no files to process")
        made, says = "201 Created", ""
    except falcon.HTTPError as error:
        raise BadRequest(f"Invalid form: {error.description or error.title}") from error
    except Error as error:
        if isinstance(error, Unauthorized) or not fields.get("redirect"):
            raise
        made, says = f"{error.status} {error.title}", error.says
    answer.empty(resp, made)
    if to := fields.get("redirect"):
        status = made.partition(" ")[0]
        mark = "&" if "?" in to else "?"
        resp.set_header("Location", answer.wire(f"{to}{mark}status={status}&message={quote(says)}"))
        resp.status = "303 See Other"


def _file(cloud: Cloud, who: Visitor, at: Place, part: Any, fields: dict[str, str]) -> None:
    most = _number(fields, "max_file_size")

    def pieces() -> Any:
        size = 0
        while chunk := part.stream.read(CHUNK):
            size += len(chunk)
            if size > most:
                raise TooLarge("max_file_size exceeded")
            yield chunk

    headers = {}
    if encoding := fields.get("content-encoding") or fields.get("Content-Encoding"):
        headers["Content-Encoding"] = encoding
    new = New(content_type=cast(str, part.content_type) or "application/octet-stream", headers=headers)
    upload.receive(cloud, who, at, new, pieces(), None)


def _number(fields: dict[str, str], name: str) -> int:
    text = fields.get(name, "")
    if not text.isdecimal() or len(text) > 18:
        raise BadRequest(f"{name} not an integer")
    return int(text)


def _verified(cloud: Cloud, req: Request, at: Place, fields: dict[str, str]) -> Visitor:
    """What the form's signature opens. Raises Unauthorized: it is wrong, or too old."""
    expires = fields.get("expires", "")
    if not expires.isdecimal() or int(expires[:15]) <= float(stamp(cloud.clock.now())):
        raise Unauthorized("FormPost: Form Expired")
    try:
        digest, said = temp_url.signature(fields.get("signature", ""))
    except Unauthorized:
        raise Unauthorized("FormPost: Invalid Signature") from None
    path = text_of(req.env["PATH_INFO"])
    rest = [
        fields.get("redirect", ""),
        fields.get("max_file_size", ""),
        fields.get("max_file_count", ""),
        expires,
    ]
    for key, opened in temp_url.keys(cloud, at.account, at.container):
        for one in (path, path.replace(PREFIX, "", 1)):
            if temp_url.signed_by(key, digest, said, "\n".join([one, *rest])):
                return Visitor(caller=None, signed=opened)
    raise Unauthorized("FormPost: Invalid Signature")
