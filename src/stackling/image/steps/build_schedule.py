"""The life of a schedule: wait until it is due, have the image built, and wait again."""

from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import QuotaExceeded
from stackling.base.jobs import Machine, Outcome, done, move, wait
from stackling.identity.actions import project
from stackling.image.actions import build, build_schedule
from stackling.image.actions.build_schedule import KIND
from stackling.image.state.build import ScheduleState, image_build_schedule

machine = Machine(KIND, image_build_schedule)


@machine.step(ScheduleState.ACTIVE, within=None)
def repeat(row: Row, cloud: Cloud) -> Outcome:
    """A time that was missed (the cloud was down) is made up for once."""
    if row.next_at is None:
        return done()
    now = cloud.clock.now()
    left = (row.next_at - now).total_seconds()
    if left > 0:
        return wait(min(left, 3600.0), f"next build at {row.next_at}")

    def begin(tx: Tx) -> None:
        if not project.exists(tx, row.project_id):
            return
        try:
            build.start(
                tx,
                cloud,
                project_id=row.project_id,
                user_id=row.user_id,
                request_id="",
                name=row.name,
                recipe=row.recipe,
                visibility=row.visibility,
                keep=row.keep,
                in_machine=bool(row.in_machine),
                schedule_id=row.id,
            )
        except QuotaExceeded:
            # Builds of the project pile up: this time is left out, the next one is not.
            return

    return move(ScheduleState.ACTIVE, next_at=build_schedule.following(row.cron, now), then=begin)
