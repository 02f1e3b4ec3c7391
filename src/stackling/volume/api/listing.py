"""Filters, sort keys, pages and links that the lists of this API share."""

import ast
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlencode

from falcon import Request

from stackling.base import clock
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import BadRequest
from stackling.base.microversion import Version
from stackling.base.rest import base_url, boolean, caller, integer, self_url, version
from stackling.volume.actions.search import Search

MOST = 1000
_NUMBERS = ("size",)
_BOOLEANS = ("bootable", "multiattach")
_PAGING = ("limit", "offset", "marker", "sort", "sort_key", "sort_dir", "all_tenants", "with_count")


def search(
    req: Request,
    *,
    filters: Mapping[str, str],
    admin_filters: Mapping[str, str] = {},
    sort_keys: Mapping[str, str],
    like: Collection[str] = (),
) -> Search:
    """What a list's query asks for.

    `filters` and `sort_keys` map wire names to columns; `admin_filters` are for administrators, others' are ignored.
    From 3.31 on an unknown filter is refused, before that it is ignored. Raises BadRequest.
    """
    who, now = caller(req), version(req)
    want = paging(req, sort_keys)
    allowed = {**filters, **(admin_filters if who.is_admin else {})}
    want.all_tenants = who.is_admin and boolean(req.get_param("all_tenants") or "0", "all_tenants")
    want.count = now >= Version(3, 45) and boolean(req.get_param("with_count") or "0", "with_count")
    for name in req.params:
        text = (req.get_param_as_list(name) or [""])[-1]
        plain = name.rstrip("~")
        if name in _PAGING:
            continue
        if name.endswith("~") and plain in like and plain in allowed and now >= Version(3, 34):
            want.like[allowed[plain]] = text
        elif name == "metadata" and "metadata" in filters:
            want.metadata = literal(text, name)
        elif name == "glance_metadata" and "glance_metadata" in filters and now >= Version(3, 4):
            want.image_metadata = literal(text, name)
        elif name in ("created_at", "updated_at") and now >= Version(3, 60):
            want.times += _times(name, text)
        elif name in allowed:
            want.equal[allowed[name]] = [_value(allowed[name], text, now)]
        elif now >= Version(3, 31) and name not in admin_filters:
            raise BadRequest(f"Invalid filters {name[:64]} are found in query options.")
    return want


def paging(req: Request, sort_keys: Mapping[str, str]) -> Search:
    """Just sort, limit, marker and offset of a query."""
    want = Search()
    if (limit := req.get_param("limit")) is not None:
        want.limit = min(integer(limit, "limit", most=2**62), MOST)
    if (offset := req.get_param("offset")) is not None:
        want.offset = integer(offset, "offset")
    want.marker = req.get_param("marker") or None
    want.sort = _sort(req, sort_keys)
    return want


def _value(column: str, text: str, now: Version) -> Any:
    if column == "bootable" and now >= Version(3, 2) and text.lower() not in ("true", "false"):
        raise BadRequest(f"Invalid value for bootable: {text[:64]!r} is neither true nor false")
    if column in _BOOLEANS:
        return boolean(text, column)
    if column in _NUMBERS:
        return integer(text, column)
    return text


def literal(text: str, name: str) -> dict[str, str]:
    """A dictionary in Python's or JSON's notation, as clients write them into a query."""
    try:
        made = ast.literal_eval(text) if len(text) < 4096 else None
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        made = None
    if not isinstance(made, dict) or len(made) > 64:
        raise BadRequest(f"Invalid filter {name}: {text[:64]!r} is not a dictionary")
    return {str(k): str(v) for k, v in made.items()}


def _times(name: str, text: str) -> list[tuple[str, str, Any]]:
    made = []
    for part in text.split(","):
        word, colon, rest = part.partition(":")
        if not colon or word not in ("gt", "gte", "lt", "lte", "eq", "neq"):
            word, rest = "eq", part
        try:
            made.append((name, word, clock.parse(rest)))
        except (ValueError, OverflowError):
            raise BadRequest(f"Invalid filter {name}: {part[:64]!r} is not an ISO 8601 time") from None
    return made


def _sort(req: Request, known: Mapping[str, str]) -> list[tuple[str, bool]]:
    pairs = req.get_param("sort")
    keys = req.get_param_as_list("sort_key") or []
    ways = req.get_param_as_list("sort_dir") or []
    if pairs and (keys or ways):
        raise BadRequest(
            "The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter."
        )
    if pairs:
        split = [p.strip().partition(":") for p in pairs.split(",")]
        chosen = [(k, d or "desc") for k, _, d in split]
    else:
        keys = keys or ["created_at"]
        chosen = list(zip(keys, (ways or ["desc"]) * len(keys), strict=False))
    made: list[tuple[str, bool]] = []
    for key, way in chosen:
        if key not in known:
            raise BadRequest(f"Invalid sort key: {key[:64]!r}. It must be one of {', '.join(sorted(known))}.")
        if way not in ("asc", "desc"):
            raise BadRequest(f"Invalid sort direction: {way[:64]!r}")
        if all(known[key] != other for other, _ in made):
            made.append((known[key], way == "desc"))
    return made


def collection(
    req: Request,
    cloud: Cloud,
    name: str,
    made: list[Any],
    rows: list[Row],
    want: Search,
    count: int | None = None,
) -> dict[str, Any]:
    """A page of a list with its link to the next one."""
    body: dict[str, Any] = {name: made}
    if rows and len(rows) == want.limit:
        given = [
            (k, v)
            for k in req.params
            for v in req.get_param_as_list(k) or []
            if k not in ("marker", "offset")
        ]
        href = f"{self_url(req, cloud)}?{urlencode([*given, ('marker', rows[-1].id)])}"
        body[f"{name}_links"] = [{"rel": "next", "href": href}]
    if count is not None:
        body["count"] = count
    return body


def links(req: Request, cloud: Cloud, kind: str, id: str) -> list[dict[str, str]]:
    """An object's own URLs; the project's id stands in them when the caller put it into the path."""
    project = f"/{req.context.project_in_path}" if req.context.project_in_path else ""
    base = f"{base_url(req, cloud)}/volume"
    return [
        {"rel": "self", "href": f"{base}/v3{project}/{kind}/{id}"},
        {"rel": "bookmark", "href": f"{base}{project}/{kind}/{id}"},
    ]
