"""The life of an image beyond a request: uploads that died, copies that are taken back, data of deleted images."""

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.jobs import Machine, Outcome, done, gone, settle, wait
from stackling.image import store
from stackling.image.actions import location
from stackling.image.actions.data import GIVEN_UP_AFTER
from stackling.image.actions.location import KIND
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
    store.of(cloud).remove(row.id)  # parts, and a whole file whose row was not written any more
    return settle(State.QUEUED, upload=None, heard_at=None, size=None)


@machine.step(State.ACTIVE, within=None)
def take_back(row: Row, cloud: Cloud) -> Outcome:
    """Copies that the image is to be without go."""
    leaving = _taken_back(row, cloud)
    if not leaving:
        return done()
    return settle(State.ACTIVE, then=lambda tx: location.cleared(tx, leaving), updated_at=row.updated_at)


@machine.step(State.DEACTIVATED, within=None)
def take_back_too(row: Row, cloud: Cloud) -> Outcome:
    """The same, of an image that nobody may use just now."""
    leaving = _taken_back(row, cloud)
    if not leaving:
        return done()
    return settle(State.DEACTIVATED, then=lambda tx: location.cleared(tx, leaving), updated_at=row.updated_at)


def _taken_back(row: Row, cloud: Cloud) -> list[Row]:
    """Remove the data of the locations that are going; which they are."""
    with cloud.db.read() as tx:
        leaving = location.going(tx, row.id)
    stores = store.of(cloud)
    for place in leaving:
        if place.store in stores.writable:
            stores[place.store].remove(row.id)
    return leaving


@machine.missing
def forget(id: str, cloud: Cloud) -> Outcome:
    """The image was deleted: its data goes."""
    store.of(cloud).remove(id)
    return gone()
