"""The life of an image beyond a request: uploads that died, and data of deleted images."""

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.jobs import Machine, Outcome, done, gone, settle, wait
from stackling.image import store
from stackling.image.actions.data import GIVEN_UP_AFTER
from stackling.image.actions.image import KIND
from stackling.image.state.image import State, image

machine = Machine(KIND, image)


@machine.step(State.SAVING, State.UPLOADING, within=None)
def watch(row: Row, cloud: Cloud) -> Outcome:
    """The upload runs in a request. One that has been silent for too long died with its process."""
    if row.upload is None:
        return done()  # staged: it waits for its import
    silent = cloud.clock.now() - (row.heard_at or row.updated_at)
    if silent < GIVEN_UP_AFTER:
        return wait((GIVEN_UP_AFTER - silent).total_seconds(), "data is arriving")
    store.of(cloud).remove(row.id)
    return settle(State.QUEUED, upload=None, heard_at=None)


@machine.missing
def forget(id: str, cloud: Cloud) -> Outcome:
    """The image was deleted: its data goes."""
    store.of(cloud).remove(id)
    return gone()
