"""Tasks: finding them. They are made by imports (`image_import`) and worked on in `steps.task`."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import ids, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.base.listing import page
from stackling.image.actions.image import get as get_image
from stackling.image.state.task import State, Type, image_task

KIND = "image.import"
KEPT = timedelta(hours=48)  # how long a finished task can be looked at
SORT_KEYS = ("created_at", "updated_at", "expires_at", "status", "type", "id")
_COLUMNS = {**{c.key: c for c in image_task.c}, "status": image_task.c.state}


class Search(Struct, kw_only=True):
    """Filters of a list of tasks."""

    type: str | None = None
    status: str | None = None
    sort_key: str = "created_at"
    falling: bool = True
    limit: int = 25
    marker: str | None = None


def create(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    *,
    type: Type,
    image_id: str,
    project_id: str,
    input: Mapping[str, Any],
    inject: Mapping[str, str] = {},
) -> Row:
    """Record a task and have it worked on; its import sets the properties `inject`."""
    now = cloud.clock.now()
    values = {
        "id": ids.uuid4(),
        "project_id": project_id,
        "created_at": now,
        "updated_at": now,
        "state": State.PENDING,
        "type": type,
        "image_id": image_id,
        "user_id": caller.user_id,
        "request_id": caller.request_id,
        "input": dict(input),
        "inject": dict(inject),
    }
    row = tx.execute(sa.insert(image_task).values(**values).returning(image_task)).one()
    jobs.start(tx, KIND, row.id, now=now)
    return row


def get(tx: Tx, caller: Caller, id: str) -> Row:
    """Raises NotFound, Forbidden."""
    caller.may("tasks_api_access")
    caller.may("get_task")
    return _seen(tx, caller, id)


def _seen(tx: Tx, caller: Caller, id: str) -> Row:
    row = tx.execute(sa.select(image_task).where(image_task.c.id == id)).first()
    if row is None or not (caller.is_admin or row.project_id == caller.project_id):
        raise NotFound(f"No task found with ID {id[:64]}")
    return row


def listed(tx: Tx, caller: Caller, want: Search) -> list[Row]:
    """A page of the tasks that the caller sees. Raises Forbidden, BadRequest (the marker)."""
    caller.may("tasks_api_access")
    caller.may("get_tasks")
    query = sa.select(image_task)
    if not caller.is_admin:
        query = query.where(image_task.c.project_id == caller.project_id)
    if want.type is not None:
        query = query.where(image_task.c.type == want.type)
    if want.status is not None:
        query = query.where(image_task.c.state == want.status)
    after = None
    if want.marker is not None:
        try:
            after = _seen(tx, caller, want.marker)
        except NotFound as e:
            raise BadRequest(f"Invalid marker: no task {want.marker[:64]!r}") from e
    sort = [(_COLUMNS[want.sort_key], want.falling)]
    if want.sort_key != "id":
        sort.append((image_task.c.id, want.falling))
    return page(tx, query, sort, limit=want.limit, after=after)


def of_image(tx: Tx, caller: Caller, image_id: str) -> list[Row]:
    """The tasks of an image that the caller sees, the newest first. Raises NotFound, Forbidden."""
    get_image(tx, caller, image_id)
    query = sa.select(image_task).where(image_task.c.image_id == image_id)
    if not caller.is_admin:
        query = query.where(image_task.c.project_id == caller.project_id)
    return list(tx.execute(query.order_by(image_task.c.created_at.desc(), image_task.c.id)))
