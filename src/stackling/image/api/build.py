"""Builds of images on the wire: paths and bodies of our own, below the Image API."""

from typing import Annotated, Any

import msgspec
from falcon import Request, Response
from msgspec import Meta, Struct

from stackling.base.clock import zulu
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import BadRequest, NotFound
from stackling.base.rest import base_url, body, caller, integer
from stackling.image.actions import build, build_schedule
from stackling.image.api.data import send
from stackling.image.builder import recipe as recipes
from stackling.image.state.build import State
from stackling.image.state.image import Visibility

MOST = 1000
_Name = Annotated[str, Meta(min_length=1, max_length=255)]
_Keep = Annotated[int, Meta(ge=1, le=build.MOST_KEPT)]


class NewBuild(Struct, kw_only=True, forbid_unknown_fields=True):
    """A build as asked for; `recipe` is a shipped one's name, or a recipe."""

    recipe: str | dict[str, Any]
    name: _Name | None = None
    visibility: Visibility = Visibility.PRIVATE
    keep: _Keep | None = None


class NewSchedule(Struct, kw_only=True, forbid_unknown_fields=True):
    """A schedule as asked for; `cron` has five fields, in UTC."""

    recipe: str | dict[str, Any]
    cron: Annotated[str, Meta(min_length=1, max_length=255)]
    name: _Name | None = None
    visibility: Visibility = Visibility.PRIVATE
    keep: _Keep = 1
    enabled: bool = True


class ChangedSchedule(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to change of a schedule."""

    cron: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    keep: _Keep | None = None
    enabled: bool | None = None


def _common(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "owner": row.project_id,
        "user_id": row.user_id,
        "recipe": row.recipe["name"],
        "visibility": row.visibility,
        "keep": row.keep,
        "in_machine": bool(row.in_machine),
        "created_at": zulu(row.created_at),
        "updated_at": zulu(row.updated_at or row.created_at),
    }


def summary(row: Row) -> dict[str, Any]:
    """A build as lists show it."""
    return {
        **_common(row),
        "status": row.state,
        "progress": row.progress,
        "message": (row.failure if row.state == State.FAILED else row.message) or "",
        "image_id": row.image_id if row.state == State.SUCCEEDED else None,
        "schedule_id": row.schedule_id,
        "started_at": zulu(row.started_at) if row.started_at else None,
        "finished_at": zulu(row.finished_at) if row.finished_at else None,
        "self": f"/v2/builds/{row.id}",
    }


def view(row: Row) -> dict[str, Any]:
    return {
        **summary(row),
        "recipe_body": row.recipe,
        "recipe_digest": recipes.convert(row.recipe).digest,
        "log": f"/v2/builds/{row.id}/log",
        "packages": f"/v2/builds/{row.id}/packages",
    }


def schedule_view(row: Row) -> dict[str, Any]:
    return {
        **_common(row),
        "cron": row.cron,
        "enabled": row.enabled,
        "next_at": zulu(row.next_at) if row.next_at else None,
        "recipe_body": row.recipe,
        "self": f"/v2/build_schedules/{row.id}",
    }


def _page(req: Request) -> tuple[int, str | None]:
    limit = req.get_param("limit")
    return (25 if limit is None else min(integer(limit, "limit"), MOST)), req.get_param("marker")


def _listed(resp: Response, key: str, views: list[dict[str, Any]], limit: int) -> None:
    resp.media = {key: views, "first": f"/v2/{key}"}
    if views and len(views) == limit:
        resp.media["next"] = f"/v2/{key}?limit={limit}&marker={views[-1]['id']}"


class Recipes:
    """/v2/build_recipes: the recipes that come with Stackling"""

    def on_get(self, req: Request, resp: Response) -> None:
        caller(req).may("image_build:list")
        resp.media = {
            "build_recipes": [
                {"name": known.name, "about": known.about, "kind": known.kind, "digest": known.digest}
                for known in recipes.shipped().values()
            ]
        }


class Recipe:
    """/v2/build_recipes/{name}"""

    def on_get(self, req: Request, resp: Response, name: str) -> None:
        caller(req).may("image_build:list")
        found = recipes.shipped().get(name)
        if found is None:
            raise NotFound(f"There is no recipe {name[:64]!r}.")
        resp.media = recipes.plain(found)


class Builds:
    """/v2/builds"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        limit, marker = _page(req)
        status, name = req.get_param("status"), req.get_param("name")
        if status is not None and status not in list(State):
            raise BadRequest(f"Invalid status value: {status[:64]!r} is none of {', '.join(State)}")
        with self.cloud.db.read() as tx:
            rows = build.listed(tx, caller(req), status=status, name=name, limit=limit, marker=marker)
        _listed(resp, "builds", [summary(r) for r in rows], limit)

    def on_post(self, req: Request, resp: Response) -> None:
        want = body(req, NewBuild)
        with self.cloud.db.begin() as tx:
            row = build.create(tx, self.cloud, caller(req), build.NewBuild(**msgspec.structs.asdict(want)))
        resp.status, resp.media = "202 Accepted", view(row)
        resp.location = f"{base_url(req, self.cloud)}/image/v2/builds/{row.id}"


class Build:
    """/v2/builds/{build_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, build_id: str) -> None:
        with self.cloud.db.read() as tx:
            resp.media = view(build.get(tx, caller(req), build_id))

    def on_delete(self, req: Request, resp: Response, build_id: str) -> None:
        with self.cloud.db.begin() as tx:
            build.delete(tx, self.cloud, caller(req), build_id)
        resp.status = "204 No Content"


class Cancel:
    """/v2/builds/{build_id}/actions/cancel"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_post(self, req: Request, resp: Response, build_id: str) -> None:
        with self.cloud.db.begin() as tx:
            build.cancel(tx, self.cloud, caller(req), build_id)
        resp.status = "202 Accepted"


class Attached:
    """/v2/builds/{build_id}/log and /packages: a file of a build, or a part of it (Range), also while it grows"""

    def __init__(self, cloud: Cloud, file: str, content_type: str) -> None:
        self.cloud, self.file, self.content_type = cloud, file, content_type

    def on_get(self, req: Request, resp: Response, build_id: str) -> None:
        with self.cloud.db.read() as tx:
            _, file = build.opened(tx, self.cloud, caller(req), build_id, self.file)
        resp.content_type = self.content_type
        send(req, resp, file, file.seek(0, 2))
        if resp.status_code == 200:
            file.seek(0)


class Schedules:
    """/v2/build_schedules"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        limit, marker = _page(req)
        with self.cloud.db.read() as tx:
            rows = build_schedule.listed(tx, caller(req), limit=limit, marker=marker)
        _listed(resp, "build_schedules", [schedule_view(r) for r in rows], limit)

    def on_post(self, req: Request, resp: Response) -> None:
        want = build_schedule.NewSchedule(**msgspec.structs.asdict(body(req, NewSchedule)))
        with self.cloud.db.begin() as tx:
            row = build_schedule.create(tx, self.cloud, caller(req), want)
        resp.status, resp.media = "201 Created", schedule_view(row)
        resp.location = f"{base_url(req, self.cloud)}/image/v2/build_schedules/{row.id}"


class Schedule:
    """/v2/build_schedules/{schedule_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, schedule_id: str) -> None:
        with self.cloud.db.read() as tx:
            resp.media = schedule_view(build_schedule.get(tx, caller(req), schedule_id))

    def on_patch(self, req: Request, resp: Response, schedule_id: str) -> None:
        want = msgspec.structs.asdict(body(req, ChangedSchedule))
        with self.cloud.db.begin() as tx:
            resp.media = schedule_view(
                build_schedule.update(tx, self.cloud, caller(req), schedule_id, **want)
            )

    def on_delete(self, req: Request, resp: Response, schedule_id: str) -> None:
        with self.cloud.db.begin() as tx:
            build_schedule.delete(tx, self.cloud, caller(req), schedule_id)
        resp.status = "204 No Content"
