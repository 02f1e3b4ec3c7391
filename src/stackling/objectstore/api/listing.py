"""Lists of containers and objects: as text, JSON or XML."""

from typing import Any
from xml.sax.saxutils import escape, quoteattr

import msgspec
from falcon import Request, Response

from stackling.base.clock import bare_micros
from stackling.base.db import Row
from stackling.base.errors import NotAcceptable, PreconditionFailed
from stackling.objectstore.actions import listing
from stackling.objectstore.actions.listing import Window
from stackling.objectstore.api.answer import version_id
from stackling.objectstore.api.request import params_of, true

_FORMS = {"json": "application/json", "xml": "application/xml", "plain": "text/plain"}
_KNOWN = ("text/plain", "application/json", "application/xml", "text/xml")


def window(params: dict[str, str]) -> Window:
    """The part of a list that a query asks for. Raises PreconditionFailed: more than may be had at once."""
    limit = params.get("limit", "")
    most = int(limit) if limit.isdecimal() and len(limit) < 19 else listing.MOST
    if most > listing.MOST:
        raise PreconditionFailed(f"Maximum limit is {listing.MOST}")
    return Window(
        limit=most,
        marker=params.get("marker", ""),
        end_marker=params.get("end_marker", ""),
        prefix=params.get("prefix", ""),
        delimiter=params.get("delimiter", ""),
        path=params.get("path"),
        reverse=true(params.get("reverse")),
        version_marker=params.get("version_marker"),
    )


def form_of(req: Request) -> str:
    """The media type of the list. Raises NotAcceptable."""
    wanted = params_of(req).get("format")
    if wanted is not None:
        return _FORMS.get(wanted.lower(), "text/plain")
    accept = req.get_header("Accept") or "*/*"
    if accept.strip() == "*/*":
        return "text/plain"
    found = req.client_prefers(_KNOWN)
    if found is None:
        raise NotAcceptable("The resource could not be generated that was acceptable to your browser")
    return found


def of_container(row: Row | str) -> dict[str, Any]:
    """An account's entry."""
    if isinstance(row, str):
        return {"subdir": row}
    modified = bare_micros(row.created_at)
    return {"name": row.name, "count": row.object_count, "bytes": row.bytes_used, "last_modified": modified}


def of_object(row: Row | str, account: str, *, versions: bool = False) -> dict[str, Any]:
    """A container's entry."""
    if isinstance(row, str):
        return {"subdir": row}
    made = {
        "name": row.name,
        "hash": row.etag,
        "bytes": row.size,
        "content_type": row.content_type,
        "last_modified": bare_micros(row.modified_at),
    }
    special = row.special or {}
    if "slo" in special:
        made["slo_etag"] = f'"{special["slo"]["etag"]}"'
    if "symlink" in special:
        link = special["symlink"]
        made["symlink_path"] = f"/v1/{link['account'] or account}/{link['target']}"
        if link.get("etag"):
            made |= {"symlink_etag": link["etag"], "symlink_bytes": link["bytes"]}
    if versions:
        made |= {"version_id": version_id(row), "is_latest": row.latest}
    return made


def send(
    req: Request, resp: Response, entries: list[dict[str, Any]], kind: str, name: str, inner: str
) -> None:
    """Answer with a list. In XML it is a `kind` called `name` with one `inner` an entry."""
    form = form_of(req)
    resp.content_type = f"{form}; charset=utf-8"
    if form == "application/json":
        resp.data = msgspec.json.encode(entries)
    elif form == "text/plain":
        resp.data = "".join(f"{e.get('name', e.get('subdir'))}\n" for e in entries).encode()
        if not entries:
            resp.status = "204 No Content"
    else:
        resp.data = _xml(entries, kind, name, inner).encode()


def _xml(entries: list[dict[str, Any]], kind: str, name: str, inner: str) -> str:
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<{kind} name={quoteattr(name)}>"]
    for entry in entries:
        if "subdir" in entry:
            lines.append(
                f"<subdir name={quoteattr(entry['subdir'])}><name>{escape(entry['subdir'])}</name></subdir>"
            )
        else:
            fields = "".join(f"<{n}>{escape(str(v))}</{n}>" for n, v in entry.items())
            lines.append(f"<{inner}>{fields}</{inner}>")
    return lines[0] + "\n" + "".join(lines[1:]) + f"</{kind}>"
