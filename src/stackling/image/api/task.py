"""Tasks on the wire."""

from typing import Any
from urllib.parse import urlencode

from falcon import Request, Response
from msgspec import Struct

from stackling.base.clock import zulu
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import BadRequest
from stackling.base.rest import base_url, body, caller, integer
from stackling.image.actions import image_import, task
from stackling.image.api import image as image_api
from stackling.image.state.task import State, Type

MOST = 1000


class NewTask(Struct, forbid_unknown_fields=True):
    """A task as asked for."""

    type: str
    input: dict[str, Any]


def summary(row: Row) -> dict[str, Any]:
    """A task as lists show it."""
    made = {
        "id": row.id,
        "type": row.type,
        "status": row.state,
        "owner": row.project_id,
        "created_at": zulu(row.created_at),
        "updated_at": zulu(row.updated_at or row.created_at),
        "self": f"/v2/tasks/{row.id}",
        "schema": "/v2/schemas/task",
    }
    if row.expires_at is not None:
        made["expires_at"] = zulu(row.expires_at)
    return made


def view(row: Row) -> dict[str, Any]:
    return {
        **summary(row),
        "input": row.input,
        "result": {"image_id": row.image_id} if row.state == State.SUCCESS else None,
        "message": (row.failure if row.state == State.FAILURE else row.message) or "",
        "image_id": row.image_id,
        "request_id": row.request_id,
        "user_id": row.user_id,
    }


def _last(req: Request, name: str) -> str | None:
    values = req.get_param_as_list(name)
    return values[-1] if values else None


def _search(req: Request) -> task.Search:
    key, way, limit = (
        _last(req, "sort_key") or "created_at",
        _last(req, "sort_dir") or "desc",
        _last(req, "limit"),
    )
    if key not in task.SORT_KEYS:
        raise BadRequest(f"Invalid sort key: {key[:64]!r}. It must be one of {', '.join(task.SORT_KEYS)}.")
    if way not in ("asc", "desc"):
        raise BadRequest(f"Invalid sort direction: {way[:64]!r}")
    kind, status = _last(req, "type"), _last(req, "status")
    if kind is not None and kind not in list(Type):
        raise BadRequest(f"Invalid type value: {kind[:64]!r} is none of {', '.join(Type)}")
    if status is not None and status not in list(State):
        raise BadRequest(f"Invalid status value: {status[:64]!r} is none of {', '.join(State)}")
    most = 25 if limit is None else min(integer(limit, "limit"), MOST)
    return task.Search(
        type=kind, status=status, sort_key=key, falling=way == "desc", limit=most, marker=_last(req, "marker")
    )


class Tasks:
    """/v2/tasks"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        want = _search(req)
        with self.cloud.db.read() as tx:
            rows = task.listed(tx, caller(req), want)
        given = [(k, v) for k in req.params for v in req.get_param_as_list(k) or [] if k != "marker"]
        resp.media = {
            "tasks": [summary(r) for r in rows],
            "first": "/v2/tasks" + (f"?{urlencode(given)}" if given else ""),
            "schema": "/v2/schemas/tasks",
        }
        if rows and len(rows) == want.limit:
            resp.media["next"] = f"/v2/tasks?{urlencode([*given, ('marker', rows[-1].id)])}"

    def on_post(self, req: Request, resp: Response) -> None:
        who = caller(req)
        who.may("tasks_api_access")
        want = body(req, NewTask)
        if want.type != Type.IMPORT:
            raise BadRequest(
                f"Invalid task type {want.type[:64]!r}: tasks of type {Type.IMPORT} can be created"
            )
        uri, properties = _text(want.input, "import_from"), want.input.get("image_properties")
        if not isinstance(properties, dict):
            raise BadRequest("Input does not contain 'image_properties' field")
        wanted = image_api.wanted({"disk_format": _text(want.input, "import_from_format"), **properties})
        with self.cloud.db.begin() as tx:
            row = image_import.start_new(tx, self.cloud, who, wanted, uri, want.input)
        resp.status, resp.media = "201 Created", view(row)
        resp.location = f"{base_url(req, self.cloud)}/image/v2/tasks/{row.id}"


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"Input does not contain '{name}' field")
    return value


class Task:
    """/v2/tasks/{task_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, task_id: str) -> None:
        with self.cloud.db.read() as tx:
            resp.media = view(task.get(tx, caller(req), task_id))
