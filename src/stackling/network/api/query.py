"""Query strings of the network API's lists: filters, fields, sort keys and pages."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import sqlalchemy as sa
from falcon import Request
from msgspec import Struct
from sqlalchemy import Boolean, ColumnElement, DateTime, Integer, Select, Table

from stackling.base import clock, listing, rest
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.network.errors import InvalidInput
from stackling.network.state.standard import tag

Condition = Callable[[list[str]], ColumnElement[bool]]
_MOST = 2**31 - 1
_PAGING = frozenset({"fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"})
_ANYWHERE = frozenset({"tags", "tags-any", "not-tags", "not-tags-any", "changed_since"})


class Asked(Struct, frozen=True):
    """A list as it was asked for."""

    filters: dict[str, list[str]]
    fields: tuple[str, ...]
    sort: tuple[tuple[str, bool], ...]  # (key, descending)
    limit: int | None
    marker: str | None
    page_reverse: bool


def values(req: Request, name: str) -> list[str]:
    """A parameter's values, however often it stands there."""
    return list(req.get_param_as_list(name) or [])


def asked(req: Request) -> Asked:
    """Raises BadRequest naming the parameter."""
    sort_keys, dirs = values(req, "sort_key"), values(req, "sort_dir")
    if dirs and len(dirs) != len(sort_keys):
        raise BadRequest("The number of sort_keys and sort_dirs must be same")
    for word in dirs:
        if word not in ("asc", "desc"):
            raise BadRequest(f"{word[:32]!r} is invalid attribute for sort_dirs")
    limit = rest.one_param(req, "limit")
    number = rest.integer(limit, "limit", most=_MOST) if limit not in (None, "") else 0
    reverse = rest.one_param(req, "page_reverse")
    return Asked(
        filters={name: values(req, name) for name in req.params if name not in _PAGING},
        fields=tuple(f for part in values(req, "fields") for f in part.split(",") if f),
        sort=tuple(zip(sort_keys, [d == "desc" for d in dirs] or [False] * len(sort_keys), strict=True)),
        limit=number or None,
        marker=rest.one_param(req, "marker") or None,
        page_reverse=reverse is not None and rest.boolean(reverse, "page_reverse"),
    )


def column(col: ColumnElement[Any], name: str) -> Condition:
    """Equality with any of the values, as the column's type reads them. An empty value fits null and the empty string."""

    def condition(texts: list[str]) -> ColumnElement[bool]:
        if isinstance(col.type, Boolean):
            return col.in_([_flag(t, name) for t in texts])
        if isinstance(col.type, Integer):
            numbers = [
                int(t) for t in texts if t.lstrip("-").isascii() and t.lstrip("-").isdigit() and len(t) < 10
            ]
            empty = any(t in ("", "None", "null") for t in texts)
            return sa.or_(col.in_(numbers), col.is_(None) if empty else sa.false())
        if isinstance(col.type, DateTime):
            return col.in_([_instant(t, name) for t in texts])
        return sa.or_(col.in_(texts), col.is_(None)) if "" in texts else col.in_(texts)

    return condition


def _flag(text: str, name: str) -> bool:
    try:
        return rest.boolean(text, name)
    except BadRequest:
        raise InvalidInput(
            f"Invalid input for {name}. Reason: '{text[:64]}' cannot be converted to boolean."
        ) from None


def _instant(text: str, name: str) -> Any:
    try:
        return clock.parse(text)
    except (ValueError, OverflowError):
        raise InvalidInput(f"Invalid input for {name}. Reason: '{text[:64]}' is not a time.") from None


def tag_conditions(id: ColumnElement[Any], filters: Mapping[str, list[str]]) -> list[ColumnElement[bool]]:
    """`tags` (all of them), `tags-any`, and their negations."""
    made: list[ColumnElement[bool]] = []
    for name in ("tags", "tags-any", "not-tags", "not-tags-any"):
        words = [w for text in filters.get(name, []) for w in text.split(",") if w]
        if words:
            has = [sa.exists().where(tag.c.resource_id == id, tag.c.tag == w) for w in words]
            fits = sa.or_(*has) if name.endswith("-any") else sa.and_(*has)
            made.append(sa.not_(fits) if name.startswith("not") else fits)
    return made


def page(
    tx: Tx,
    table: Table,
    want: Asked,
    conditions: Mapping[str, Condition],
    sortable: Mapping[str, ColumnElement[Any]],
    visible: ColumnElement[bool] | None,
    noun: str,
) -> list[Row]:
    """The rows that were asked for, in forward order. Raises BadRequest for unknown filters and sort keys, NotFound for the marker."""
    query: Select[Any] = sa.select(table)
    if visible is not None:
        query = query.where(visible)
    unknown = [name for name in want.filters if name not in conditions and name not in _ANYWHERE]
    if unknown:
        raise BadRequest(f"[{', '.join(repr(u[:64]) for u in unknown)}] is invalid attribute for filtering")
    for name, texts in want.filters.items():
        if name in conditions:
            query = query.where(conditions[name](texts))
        elif name == "changed_since":
            query = query.where(table.c.updated_at >= _instant(texts[-1], name))
    query = query.where(*tag_conditions(table.c.id, want.filters))
    bad = [key for key, _ in want.sort if key not in sortable]
    if bad:
        raise BadRequest(f"[{', '.join(repr(b[:64]) for b in bad)}] is invalid attribute for sort_keys")
    sort = [(sortable[key], falling) for key, falling in want.sort]
    if not sort:
        sort = [(table.c.created_at, False)]
    if all(col is not table.c.id for col, _ in sort):
        sort.append((table.c.id, False))
    after = None
    if want.marker is not None:
        after = tx.execute(query.where(table.c.id == want.marker)).first()
        if after is None:
            raise NotFound(f"{noun} {want.marker[:64]} could not be found.")
    return listing.page(tx, query, sort, limit=want.limit, after=after, backwards=want.page_reverse)


def links(req: Request, cloud: Cloud, want: Asked, rows: Sequence[Row]) -> list[dict[str, str]]:
    """Next and previous page, when the list was asked for in pages."""
    if want.limit is None or not rows:
        return []
    here = rest.self_url(req, cloud)
    full = len(rows) >= want.limit
    made = []
    rest_of = [(k, v) for k in req.params if k not in ("marker", "page_reverse") for v in values(req, k)]
    if full or want.page_reverse:
        made.append(
            {
                "rel": "next",
                "href": f"{here}?{urlencode([*rest_of, ('marker', rows[-1].id)], quote_via=quote)}",
            }
        )
    if full or not want.page_reverse:
        query = urlencode([*rest_of, ("marker", rows[0].id), ("page_reverse", "True")], quote_via=quote)
        made.append({"rel": "previous", "href": f"{here}?{query}"})
    return made
