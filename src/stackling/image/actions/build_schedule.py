"""Schedules: images that are built again and again."""

from datetime import UTC, datetime

import sqlalchemy as sa
from cronsim import CronSim, CronSimError

from stackling.base import ids, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.base.listing import page
from stackling.image.actions import build
from stackling.image.builder import recipe as recipes
from stackling.image.state.build import ScheduleState, image_build_schedule

KIND = "image.build_schedule"


class NewSchedule(build.NewBuild, kw_only=True):
    """A schedule as asked for; `cron` has five fields, in UTC."""

    cron: str
    enabled: bool = True


def following(cron: str, now: datetime) -> datetime:
    """When it is next due (naive UTC). Raises BadRequest when that is never, or `cron` is no schedule."""
    try:
        found = next(CronSim(cron, now.replace(tzinfo=UTC)))
    except (CronSimError, StopIteration) as e:
        raise BadRequest(
            f"Invalid input for field/attribute cron: {str(e) or 'it is never due'}; give five fields, as 30 3 * * 0"
        ) from None
    return found.replace(tzinfo=None)


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewSchedule) -> Row:
    """Have an image built at these times. Raises Forbidden, NotFound (the recipe), BadRequest, QuotaExceeded."""
    project_id = build.may_build(caller, "image_build:schedule", want.visibility)
    recipe, in_machine = build.chosen(cloud, caller, want.recipe)
    now = cloud.clock.now()
    due = following(want.cron, now)
    build.QUOTAS.check(tx, cloud, project_id, {"image_build_schedules": 1})
    values = {
        "id": ids.uuid4(),
        "project_id": project_id,
        "created_at": now,
        "updated_at": now,
        "state": ScheduleState.ACTIVE,
        "name": want.name or recipe.name,
        "recipe": recipes.plain(recipe),
        "visibility": want.visibility,
        "user_id": caller.user_id,
        "cron": want.cron,
        "keep": want.keep or 1,
        "in_machine": in_machine,
        "enabled": want.enabled,
        "next_at": due if want.enabled else None,
    }
    row = tx.execute(sa.insert(image_build_schedule).values(**values).returning(image_build_schedule)).one()
    jobs.start(tx, KIND, row.id, now=now)
    return row


def get(tx: Tx, caller: Caller, id: str) -> Row:
    """Raises NotFound, Forbidden."""
    row = tx.execute(sa.select(image_build_schedule).where(image_build_schedule.c.id == id)).first()
    says = f"No schedule found with ID {id[:64]}"
    if row is None:
        raise NotFound(says)
    caller.may_see(row.project_id, "image_build:show", says)
    return row


def listed(tx: Tx, caller: Caller, *, limit: int, marker: str | None) -> list[Row]:
    """A page of schedules, the oldest first. Raises Forbidden, BadRequest (the marker)."""
    caller.may("image_build:list")
    query = sa.select(image_build_schedule)
    if not caller.is_admin:
        query = query.where(image_build_schedule.c.project_id == caller.project_id)
    after = None
    if marker is not None:
        try:
            after = get(tx, caller, marker)
        except NotFound as e:
            raise BadRequest(f"Invalid marker: no schedule {marker[:64]!r}") from e
    order = [(image_build_schedule.c.created_at, False), (image_build_schedule.c.id, False)]
    return page(tx, query, order, limit=limit, after=after)


def update(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    id: str,
    *,
    cron: str | None = None,
    keep: int | None = None,
    enabled: bool | None = None,
) -> Row:
    """Change what is given. Raises NotFound, Forbidden, BadRequest (cron)."""
    row = _owned(tx, caller, id)
    now = cloud.clock.now()
    on, due = row.enabled if enabled is None else enabled, following(cron or row.cron, now)
    change = (
        sa.update(image_build_schedule)
        .where(image_build_schedule.c.id == id)
        .values(
            cron=cron or row.cron,
            keep=keep or row.keep,
            enabled=on,
            updated_at=now,
            next_at=due if on else None,
        )
    )
    made = tx.execute(change.returning(image_build_schedule)).one()
    jobs.start(tx, KIND, id, now=now)
    return made


def delete(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> None:
    """No more builds; those there are stay. Raises NotFound, Forbidden."""
    _owned(tx, caller, id)
    tx.execute(sa.delete(image_build_schedule).where(image_build_schedule.c.id == id))
    jobs.wake(tx, KIND, id, now=cloud.clock.now())


def _owned(tx: Tx, caller: Caller, id: str) -> Row:
    row = get(tx, caller, id)
    caller.may("image_build:schedule", {"project_id": row.project_id})
    return row
