"""The life of a volume."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import sqlalchemy as sa

from stackling.base import jobs
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import Error, Unavailable
from stackling.base.jobs import GiveUp, Machine, Outcome, gone, move, settle, wait
from stackling.image.actions import data
from stackling.image.actions import image as images
from stackling.image.export import Exports, ExportUnavailable
from stackling.volume.actions import attachment, message
from stackling.volume.actions.volume import KIND
from stackling.volume.driver import (
    Backend,
    BackendUnavailable,
    Blank,
    Format,
    FromImage,
    FromSnapshot,
    FromVolume,
    Source,
    VolumeBusy,
    VolumeFailed,
    VolumeSpec,
)
from stackling.volume.state.attachment import attachment as attachments
from stackling.volume.state.snapshot import snapshot
from stackling.volume.state.transfer import transfer
from stackling.volume.state.volume import State, volume, volume_image_metadata, volume_metadata
from stackling.volume.steps.host import NoHost, choose

COPY = 6 * 3600.0  # seconds that a copy may take
AWAY = timedelta(minutes=10)  # how long a backend may be away while a volume is made

machine = Machine(KIND, volume)


@contextmanager
def asking() -> Iterator[None]:
    """Calls of a backend: what it will never do ends the wish, what it can't do now is tried again."""
    try:
        yield
    except VolumeFailed as e:
        raise GiveUp(str(e)) from e
    except (BackendUnavailable, ExportUnavailable) as e:
        raise Unavailable(str(e)) from e


@machine.step(State.CREATING, State.DOWNLOADING, within=COPY)
def create(row: Row, cloud: Cloud) -> Outcome:
    """Choose a host, then have its backend make the volume; copying may go on over many calls."""
    if row.host is None:
        try:
            host = choose(row, cloud)
        except NoHost as e:
            raise GiveUp(str(e)) from e
        return move(State.DOWNLOADING if row.image_id else State.CREATING, host=host)
    try:
        with asking():
            spec = VolumeSpec(
                id=row.id,
                size_gib=row.size,
                format=_format(row.multiattach, cloud),
                source=_source(row, cloud),
            )
            made = cloud.driver(Backend, row.host).ensure(spec)
    except Unavailable as e:
        if cloud.clock.now() - row.created_at > AWAY:
            raise GiveUp(e.says) from e
        raise
    if not made:
        return wait(1, "its content is being copied")
    return settle(State.AVAILABLE, then=_tell(row, cloud))


def _format(shared: bool, cloud: Cloud) -> Format:
    """Only a raw file may be open in several guests."""
    return "raw" if shared else cloud.config.volume.format


def _source(row: Row, cloud: Cloud) -> Source:
    if row.image_id:
        with cloud.db.read() as tx:
            image = images.found(tx, row.image_id)
        if image is None:
            raise GiveUp(f"Image {row.image_id} was deleted before the volume was made from it.")
        return FromImage(images.ref(image))
    if row.snapshot_id:
        return FromSnapshot(row.snapshot_id)
    if row.source_volid:
        return FromVolume(row.source_volid)
    return Blank()


def _tell(row: Row, cloud: Cloud) -> Callable[[Tx], None]:
    """Those who wait for this volume: its server, and the deletion of what it was copied from."""

    def tell(tx: Tx) -> None:
        now = cloud.clock.now()
        if row.server_id:
            jobs.wake(tx, "compute.server", row.server_id, now=now)
        if row.snapshot_id:
            jobs.wake(tx, "volume.snapshot", row.snapshot_id, now=now)
        if row.source_volid:
            jobs.wake(tx, KIND, row.source_volid, now=now)

    return tell


@machine.step(State.EXTENDING, within=600)
def extend(row: Row, cloud: Cloud) -> Outcome:
    """Grow it where it is, also under a running guest."""
    with asking():
        cloud.driver(Backend, row.host).extend(row.id, row.wanted_size)

    def then(tx: Tx) -> None:
        attachment.settle(tx, cloud, row.id)
        attachment.wake_servers(tx, cloud, row.id)

    return settle(State.AVAILABLE, then=then, size=row.wanted_size)


@machine.step(State.RETYPING, within=COPY)
def retype(row: Row, cloud: Cloud) -> Outcome:
    """Have it in the format that its new type needs; then it is of that type."""
    shared = not row.multiattach  # a type that differs in nothing else needs no work
    with asking():
        made = cloud.driver(Backend, row.host).reformat(row.id, _format(shared, cloud))
    if not made:
        return wait(1, "its content is being copied")
    return settle(State.AVAILABLE, volume_type_id=row.wanted_type_id, wanted_type_id=None, multiattach=shared)


@machine.step(State.UPLOADING, within=None)
def upload(row: Row, cloud: Cloud) -> Outcome:
    """Have the backend copy it, and the image service take the copy; then it is what it was before."""
    why = "it could not be finished in time"
    if cloud.clock.now() - row.updated_at < timedelta(seconds=COPY):
        try:
            if not _uploaded(row, cloud):
                return wait(1, "the volume is being copied to an image")
            why = ""
        except Unavailable:
            raise
        except (Error, GiveUp) as e:
            why = e.says
    with asking():
        cloud.driver(Exports, row.host).remove(row.upload_image_id)

    def then(tx: Tx) -> None:
        if why:
            images.forget(tx, cloud, row.upload_image_id)
            says = f"copy volume to image: {why}"
            message.create(tx, row, event_id="VOLUME_VOLUME_004_004", resource_type="VOLUME", says=says)
        attachment.settle(tx, cloud, row.id)

    return settle(State.AVAILABLE, then=then, upload_image_id=None, upload_format=None)


def _uploaded(row: Row, cloud: Cloud) -> bool:
    """Whether the image is active. Raises GiveUp and Error when it never will be."""
    with cloud.db.read() as tx:
        image = images.found(tx, row.upload_image_id)
    if image is None:
        raise GiveUp("the image was deleted")
    if image.state == images.State.ACTIVE:
        return True
    with asking():
        made = cloud.driver(Backend, row.host).export(row.id, image.id, row.upload_format)
        return made and data.bring_in(cloud, cloud.driver(Exports, row.host), image.id)


@machine.step(State.DELETING, within=None)
def delete(row: Row, cloud: Cloud) -> Outcome:
    """Its snapshots first, then whoever copies it, then itself."""
    with cloud.db.read() as tx:
        left = tx.execute(sa.select(sa.func.count()).where(snapshot.c.volume_id == row.id)).scalar_one()
        copying = sa.and_(volume.c.source_volid == row.id, volume.c.state == State.CREATING)
        clone = tx.execute(sa.select(volume.c.id).where(copying).limit(1)).scalar()
    if left:
        return wait(5, f"{left} of its snapshots are still there")
    if clone:
        return wait(5, f"volume {clone} is being copied from it")
    if row.host is not None:
        try:
            with asking():
                cloud.driver(Backend, row.host).remove(row.id)
        except Unavailable as e:
            if isinstance(e.__cause__, VolumeBusy):
                return wait(2, e.says)
            raise
    return gone(then=_forget(row, cloud))


def _forget(row: Row, cloud: Cloud) -> Callable[[Tx], None]:
    def forget(tx: Tx) -> None:
        for table in (volume_metadata, volume_image_metadata, attachments, transfer):
            tx.execute(sa.delete(table).where(table.c.volume_id == row.id))
        _tell(row, cloud)(tx)

    return forget


_FAILED = {
    State.CREATING: (State.ERROR, "VOLUME_VOLUME_001_001", "schedule allocate volume"),
    State.DOWNLOADING: (State.ERROR, "VOLUME_VOLUME_005_004", "copy image to volume"),
    State.EXTENDING: (State.ERROR_EXTENDING, "VOLUME_VOLUME_006_007", "extend volume"),
    State.RETYPING: (State.AVAILABLE, "VOLUME_VOLUME_001_001", "retype volume"),
    State.DELETING: (State.ERROR_DELETING, "VOLUME_VOLUME_014_001", "delete volume"),
}


@machine.failed
def fail(row: Row, why: str) -> Outcome:
    """The error state of what was asked, and a message to the project that says why."""
    state, event, did = _FAILED.get(row.state, (State.ERROR, "VOLUME_VOLUME_001_001", "change volume"))

    def complain(tx: Tx) -> None:
        message.create(tx, row, event_id=event, resource_type="VOLUME", says=f"{did}: {why}")
        if row.server_id:
            # Any instant that has passed is due now.
            jobs.wake(tx, "compute.server", row.server_id, now=row.created_at)

    # What it was to grow to counts no longer.
    return settle(state, then=complain, wanted_size=row.size)
