"""Builds: asking for images to be made, and following, cancelling and forgetting that."""

from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import ids, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, Forbidden, NotFound
from stackling.base.listing import page
from stackling.identity.actions.quota import Projects, Quotas
from stackling.image import builds
from stackling.image.actions import image as images
from stackling.image.actions import protection
from stackling.image.builder import limits
from stackling.image.builder import recipe as recipes
from stackling.image.builder.recipe import InvalidRecipe, Recipe
from stackling.image.state.build import ENDED, State, image_build, image_build_schedule
from stackling.image.state.image import State as ImageState
from stackling.image.state.image import Visibility, image, image_property

KIND = "image.build"
MOST_KEPT = 1000


class NewBuild(Struct, kw_only=True):
    """A build as asked for: a shipped recipe's name, or a recipe. `keep`: how many images of the name stay."""

    recipe: str | Mapping[str, Any]
    name: str | None = None
    visibility: Visibility = Visibility.PRIVATE
    keep: int | None = None


def chosen(cloud: Cloud, caller: Caller, want: str | Mapping[str, Any]) -> tuple[Recipe, bool]:
    """The recipe that is meant, and whether it is built in a virtual machine, within limits: that of a tenant is.

    Raises Forbidden (a recipe of one's own, a protected property), BadRequest naming the recipe's field, NotFound.
    """
    known = recipes.shipped()
    if isinstance(want, str) and want not in known:
        raise NotFound(f"There is no recipe {want[:64]!r}. There are: {', '.join(known)}.")
    if not isinstance(want, str):
        caller.may("image_build:create_custom")
    in_machine = not caller.can("image_build:on_host")
    try:
        recipe = known[want] if isinstance(want, str) else recipes.convert(dict(want))
        if in_machine:
            limits.configured(cloud.config.image).check(recipe)
    except InvalidRecipe as e:
        raise BadRequest(f"Invalid input for field/attribute recipe.{e}") from None
    protection.of(cloud).may_create(caller, recipe.properties)
    return recipe, in_machine


def may_build(caller: Caller, rule: str, visibility: str) -> str:
    """The project that the caller may build for. Raises Forbidden."""
    if caller.project_id is None:
        raise Forbidden("An image needs an owner: use a token of a project.")
    caller.may(rule)
    aim = {"project_id": caller.project_id, "owner": caller.project_id, "visibility": visibility}
    caller.may("add_image", aim)
    if visibility == Visibility.PUBLIC:
        caller.may("publicize_image", aim)
    if visibility == Visibility.COMMUNITY:
        caller.may("communitize_image", aim)
    return caller.project_id


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewBuild) -> Row:
    """Have an image built. Raises Forbidden, NotFound (the recipe), BadRequest, QuotaExceeded."""
    project_id = may_build(caller, "image_build:create", want.visibility)
    recipe, in_machine = chosen(cloud, caller, want.recipe)
    return start(
        tx,
        cloud,
        project_id=project_id,
        user_id=caller.user_id,
        request_id=caller.request_id,
        name=want.name or recipe.name,
        recipe=recipes.plain(recipe),
        visibility=want.visibility,
        keep=want.keep,
        in_machine=in_machine,
        schedule_id=None,
    )


def start(
    tx: Tx,
    cloud: Cloud,
    *,
    project_id: str,
    user_id: str,
    request_id: str,
    name: str,
    recipe: Mapping[str, Any],
    visibility: str,
    keep: int | None,
    in_machine: bool,
    schedule_id: str | None,
) -> Row:
    """Record a build and have it worked on. Raises QuotaExceeded."""
    QUOTAS.check(tx, cloud, project_id, {"image_builds": 1})
    now = cloud.clock.now()
    values = {
        "id": ids.uuid4(),
        "project_id": project_id,
        "created_at": now,
        "updated_at": now,
        "state": State.QUEUED,
        "name": name,
        "recipe": dict(recipe),
        "visibility": visibility,
        "user_id": user_id,
        "request_id": request_id,
        "image_id": ids.uuid4(),
        "keep": keep,
        "in_machine": in_machine,
        "schedule_id": schedule_id,
        "cancelled": False,
        "runs": 0,
        "progress": 0,
    }
    row = tx.execute(sa.insert(image_build).values(**values).returning(image_build)).one()
    jobs.start(tx, KIND, row.id, now=now)
    return row


def configured(cloud: Cloud) -> dict[str, int]:
    """The limits of the configuration."""
    return {
        "image_builds": cloud.config.image.builds,
        "image_build_schedules": cloud.config.image.build_schedules,
    }


def usage(tx: Tx, projects: Projects, names: Iterable[str] = ()) -> dict[str, int]:
    """Builds of projects that have not ended, and schedules."""
    count = sa.select(sa.func.count())
    running = sa.and_(image_build.c.project_id.in_(projects), image_build.c.state.not_in(ENDED))
    theirs = image_build_schedule.c.project_id.in_(projects)
    return {
        "image_builds": tx.execute(count.select_from(image_build).where(running)).scalar_one(),
        "image_build_schedules": tx.execute(
            count.select_from(image_build_schedule).where(theirs)
        ).scalar_one(),
    }


QUOTAS = Quotas("image", configured, usage)


def get(tx: Tx, caller: Caller, id: str, rule: str = "image_build:show") -> Row:
    """One build. Raises NotFound, Forbidden."""
    row = tx.execute(sa.select(image_build).where(image_build.c.id == id)).first()
    says = f"No build found with ID {id[:64]}"
    if row is None:
        raise NotFound(says)
    caller.may_see(row.project_id, "image_build:show", says)
    caller.may(rule, {"project_id": row.project_id})
    return row


def listed(
    tx: Tx, caller: Caller, *, status: str | None, name: str | None, limit: int, marker: str | None
) -> list[Row]:
    """A page of the builds that the caller sees, the newest first. Raises Forbidden, BadRequest (the marker)."""
    caller.may("image_build:list")
    query = sa.select(image_build)
    if not caller.is_admin:
        query = query.where(image_build.c.project_id == caller.project_id)
    if status is not None:
        query = query.where(image_build.c.state == status)
    if name is not None:
        query = query.where(image_build.c.name == name)
    after = None
    if marker is not None:
        try:
            after = get(tx, caller, marker)
        except NotFound as e:
            raise BadRequest(f"Invalid marker: no build {marker[:64]!r}") from e
    return page(
        tx, query, [(image_build.c.created_at, True), (image_build.c.id, True)], limit=limit, after=after
    )


def cancel(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> None:
    """Nobody wants the image any more. Raises NotFound, Forbidden, Conflict (it has ended)."""
    row = get(tx, caller, id, "image_build:cancel")
    if row.state in ENDED or row.state == State.PUBLISHING:
        raise Conflict(f"Build {id} can't be cancelled: its status is {row.state}.")
    now = cloud.clock.now()
    tx.execute(sa.update(image_build).where(image_build.c.id == id).values(cancelled=True, updated_at=now))
    jobs.wake(tx, KIND, id, now=now)


def delete(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> None:
    """Forget a build that has ended, and its log. Its image stays. Raises NotFound, Forbidden, Conflict (it runs)."""
    row = get(tx, caller, id, "image_build:delete")
    if row.state not in ENDED:
        raise Conflict(f"Build {id} has not ended: its status is {row.state}. Cancel it first.")
    tx.execute(sa.delete(image_build).where(image_build.c.id == id))
    jobs.start(tx, KIND, id, now=cloud.clock.now())


def opened(tx: Tx, cloud: Cloud, caller: Caller, id: str, file: str) -> tuple[Row, BinaryIO]:
    """A build and one of its files (`log`, `packages.json`). Raises NotFound, Forbidden."""
    row = get(tx, caller, id)
    try:
        return row, (builds.directory(cloud, id) / file).open("rb")
    except FileNotFoundError:
        raise NotFound(f"Build {id} has no {file.partition('.')[0]} yet.") from None


# -- for the steps of a build ------------------------------------------------------------------------------------------


def retain(tx: Tx, cloud: Cloud, row: Row) -> None:
    """The new image has the name. Older builds of it are renamed and hidden; those beyond `keep` go."""
    if row.keep is None:
        return
    named = sa.and_(image_property.c.name == "stackling_build_name", image_property.c.value == row.name)
    older = list(
        tx.execute(
            sa.select(image)
            .join(image_property, image_property.c.image_id == image.c.id)
            .where(named, image.c.project_id == row.project_id, image.c.id != row.image_id)
            .order_by(image.c.created_at.desc(), image.c.id)
        )
    )
    now = cloud.clock.now()
    for old in older[: max(0, row.keep - 1)]:
        if old.name == row.name:
            named_now = f"{row.name[:230]} ({old.created_at:%Y-%m-%d %H:%M})"
            values = {"name": named_now, "hidden": True, "updated_at": now}
            tx.execute(sa.update(image).where(image.c.id == old.id).values(**values))
    for old in older[max(0, row.keep - 1) :]:
        # A protected image stays, but nobody finds it under the name any more.
        if old.protected:
            tx.execute(sa.update(image).where(image.c.id == old.id).values(hidden=True, updated_at=now))
        elif old.state in (ImageState.ACTIVE, ImageState.DEACTIVATED):
            images.forget(tx, cloud, old.id)
