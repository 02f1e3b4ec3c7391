"""The life of a snapshot."""

import sqlalchemy as sa

from stackling.base import jobs
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import Unavailable
from stackling.base.jobs import GiveUp, Machine, Outcome, gone, settle, wait
from stackling.volume.actions import message
from stackling.volume.actions.snapshot import KIND
from stackling.volume.driver import Backend
from stackling.volume.state import volume as volumes
from stackling.volume.state.snapshot import State, snapshot, snapshot_metadata
from stackling.volume.steps.volume import AWAY, COPY, asking

machine = Machine(KIND, snapshot)


@machine.step(State.CREATING, within=COPY)
def create(row: Row, cloud: Cloud) -> Outcome:
    """The volume's backend keeps its content; copying may go on over many calls."""
    try:
        with asking():
            made = cloud.driver(Backend, row.host).ensure_snapshot(row.id, row.volume_id)
    except Unavailable as e:
        if cloud.clock.now() - row.created_at > AWAY:
            raise GiveUp(e.says) from e
        raise
    return settle(State.AVAILABLE) if made else wait(1, "the volume's content is being copied")


@machine.step(State.DELETING, within=None)
def delete(row: Row, cloud: Cloud) -> Outcome:
    """Not before the volumes that are being made from it are whole."""
    with cloud.db.read() as tx:
        making = sa.and_(
            volumes.volume.c.snapshot_id == row.id, volumes.volume.c.state == volumes.State.CREATING
        )
        clone = tx.execute(sa.select(volumes.volume.c.id).where(making).limit(1)).scalar()
    if clone:
        return wait(5, f"volume {clone} is being made from it")
    if row.host is not None:
        with asking():
            cloud.driver(Backend, row.host).remove_snapshot(row.id)

    def forget(tx: Tx) -> None:
        tx.execute(sa.delete(snapshot_metadata).where(snapshot_metadata.c.snapshot_id == row.id))
        jobs.wake(tx, "volume.volume", row.volume_id, now=cloud.clock.now())

    return gone(then=forget)


@machine.failed
def fail(row: Row, why: str) -> Outcome:
    deleting = row.state == State.DELETING
    event = "VOLUME_SNAPSHOT_014_001" if deleting else "VOLUME_SNAPSHOT_003_001"
    says = f"{'delete' if deleting else 'create'} snapshot: {why}"
    then = lambda tx: message.create(tx, row, event_id=event, resource_type="VOLUME_SNAPSHOT", says=says)  # noqa: E731
    return settle(State.ERROR_DELETING if deleting else State.ERROR, then=then)
