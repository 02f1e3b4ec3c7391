"""Lists of images: what a caller sees, narrowed by filters."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import ColumnElement

from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.base.listing import page
from stackling.image.actions.image import find
from stackling.image.state.image import Visibility, image, image_property, image_tag
from stackling.image.state.member import Status, image_member

SORT_KEYS = ("name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at")
COLUMNS = {
    **{c.key: c for c in image.c},
    "status": image.c.state,
    "owner": image.c.project_id,
    "os_hidden": image.c.hidden,
}


class Search(Struct, kw_only=True):
    """Filters of a list. `equal` holds (column, values any of which fits), `times` (column, operator, instant)."""

    equal: list[tuple[str, list[Any]]] = []
    times: list[tuple[str, str, datetime]] = []
    tags: list[str] = []
    properties: list[tuple[str, str]] = []
    size_min: int | None = None
    size_max: int | None = None
    visibility: str | None = None
    member_status: str = Status.ACCEPTED
    hidden: bool = False
    sort: Sequence[tuple[str, bool]] = (("created_at", True),)  # (key, descending)
    limit: int = 25
    marker: str | None = None


# Times are shown in whole seconds, so they are compared in whole seconds.
_SECOND = timedelta(seconds=1)
_COMPARE: dict[str, Callable[[Any, datetime], ColumnElement[bool]]] = {
    "gt": lambda c, v: c >= v + _SECOND,
    "gte": lambda c, v: c >= v,
    "lt": lambda c, v: c < v,
    "lte": lambda c, v: c < v + _SECOND,
    "eq": lambda c, v: sa.and_(c >= v, c < v + _SECOND),
    "neq": lambda c, v: sa.or_(c < v, c >= v + _SECOND),
}


def listed(tx: Tx, caller: Caller, want: Search) -> list[Row]:
    """A page of the images that the caller sees. Raises Forbidden, BadRequest (the marker)."""
    caller.may("get_images")
    query = sa.select(image).where(_seen(caller, want), image.c.hidden == want.hidden)
    if want.visibility not in (None, "all"):
        query = query.where(image.c.visibility == want.visibility)
    elif want.visibility is None:
        query = query.where(
            sa.or_(image.c.visibility != Visibility.COMMUNITY, image.c.project_id == caller.project_id)
        )
    for name, values in want.equal:
        query = query.where(COLUMNS[name].in_(values))
    for name, word, when in want.times:
        query = query.where(_COMPARE[word](COLUMNS[name], when.replace(microsecond=0)))
    if want.size_min is not None:
        query = query.where(image.c.size >= want.size_min)
    if want.size_max is not None:
        query = query.where(image.c.size <= want.size_max)
    for tag in want.tags:
        query = query.where(image.c.id.in_(sa.select(image_tag.c.image_id).where(image_tag.c.value == tag)))
    for name, value in want.properties:
        this = sa.and_(image_property.c.name == name, image_property.c.value == value)
        query = query.where(image.c.id.in_(sa.select(image_property.c.image_id).where(this)))
    sort = [(COLUMNS[key], down) for key, down in want.sort]
    if not any(key == "id" for key, _ in want.sort):
        sort.append((image.c.id, want.sort[-1][1] if want.sort else True))
    after = None
    if want.marker is not None:
        try:
            after = find(tx, caller, want.marker)
        except NotFound as e:
            raise BadRequest(f"Invalid marker: no image {want.marker[:64]!r}") from e
    return page(tx, query, sort, limit=want.limit, after=after)


def _seen(caller: Caller, want: Search) -> ColumnElement[bool]:
    if caller.is_admin:
        return sa.true()
    shared = sa.select(image_member.c.image_id).where(image_member.c.member_id == caller.project_id)
    if want.member_status != "all":
        shared = shared.where(image_member.c.status == want.member_status)
    return sa.or_(
        image.c.visibility.in_((Visibility.PUBLIC, Visibility.COMMUNITY)),
        image.c.project_id == caller.project_id,
        sa.and_(image.c.visibility == Visibility.SHARED, image.c.id.in_(shared)),
    )
