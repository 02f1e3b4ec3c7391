"""The life of an import: its data is read (`steps.reading`) on a thread of its own, which the step asks after.

When the process dies the step begins the reading anew: nothing of an import counts before the image's row says that
its data is there.
"""

import traceback
from datetime import timedelta

import sqlalchemy as sa

from stackling.base import log
from stackling.base.background import Background
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import Error
from stackling.base.jobs import Machine, Outcome, gone, move, wait
from stackling.image import download, store
from stackling.image.actions import image_import, location
from stackling.image.actions.data import refused
from stackling.image.actions.image import found
from stackling.image.actions.image_import import COPY, LOCATION
from stackling.image.actions.task import KEPT, KIND
from stackling.image.decompress import Damaged
from stackling.image.inspection import InspectionError
from stackling.image.qemu_img import QemuImgFailed
from stackling.image.signature import SignatureError
from stackling.image.state.task import State, image_task
from stackling.image.steps.reading import Stopped, read

machine = Machine(KIND, image_task)
_running = Background("import")  # keyed by tasks' ids, which no two clouds share


@machine.step(State.PENDING, within=None)
def begin(row: Row, cloud: Cloud) -> Outcome:
    """Somebody works on it from now on."""
    unseen = image_import.method(row) == LOCATION and not row.input["validation_data"]
    return move(State.PROCESSING, then=(lambda tx: image_import.trust(tx, row)) if unseen else None)


@machine.step(State.PROCESSING, within=None)
def bring_in(row: Row, cloud: Cloud) -> Outcome:
    """Ask after the reading, or begin it; then the task ends, one way or the other."""
    now = cloud.clock.now()
    with cloud.db.read() as tx:
        target = image_import.imported_by(tx, row)
    if target is None:
        _forget_deleted(row, cloud)
        return move(State.FAILURE, failure="The image was deleted.", expires_at=now + KEPT)
    if row.expires_at is not None:  # everything is where it should be
        store.of(cloud).staging.remove(target.id)
        end = now + KEPT
        return move(
            State.SUCCESS, message="", expires_at=end, then=lambda tx: image_import.succeeded(tx, row)
        )
    if row.failure is not None:
        _forget_brought(row, cloud)
        end = now + KEPT
        return move(State.FAILURE, expires_at=end, then=lambda tx: image_import.failed(tx, cloud, row))
    most = timedelta(seconds=cloud.config.image.import_timeout)
    if now - row.updated_at > most:
        return wait(
            0, "giving up", failure=f"The import took longer than {most.total_seconds():.0f} seconds."
        )
    try:
        ended = _running.run(row.id, lambda: read(row, target, cloud), wait=1.0)
    except sa.exc.SQLAlchemyError:
        raise  # the database was away for a moment: later again
    except Exception as e:  # noqa: BLE001 (whatever it was, the image must not stay importing)
        return wait(0, "failed", failure=_why(e))
    mib = store.of(cloud).staging.arrived(target.id) >> 20
    return wait(0 if ended else 1.0, "data is arriving", message="" if ended else f"Copied {mib} MiB")


@machine.step(State.SUCCESS, State.FAILURE, within=None)
def expire(row: Row, cloud: Cloud) -> Outcome:
    """A finished task can be looked at for a while."""
    left = (row.expires_at - cloud.clock.now()).total_seconds()
    return gone() if left <= 0 else wait(left, "kept for its owner to see")


def _forget_brought(row: Row, cloud: Cloud) -> None:
    """Remove what a failed import brought: it is nobody's before the image's row says so."""
    stores = store.of(cloud)
    stores.staging.remove(row.image_id)
    if image_import.method(row) == LOCATION:
        return
    with cloud.db.read() as tx:
        there = location.stores(location.of(tx, cloud, row.image_id))
    for name in stores.writable:
        if image_import.method(row) != COPY or (name in row.input["backend"] and name not in there):
            stores[name].remove(row.image_id)


def _forget_deleted(row: Row, cloud: Cloud) -> None:
    """Remove what an import brought after its image was deleted; not what belongs to a new one of the same id."""
    with cloud.db.read() as tx:
        known = found(tx, row.image_id)
    if known is None:
        store.of(cloud).remove(row.image_id)


def _why(error: Exception) -> str:
    if isinstance(error, (Error, download.Refused)):
        return error.says
    if isinstance(error, (Stopped, InspectionError, SignatureError, Damaged)):
        return str(error)
    if isinstance(error, QemuImgFailed):
        return f"The image could not be converted: {error}"
    log.get("image").warning("import.failed", trace="".join(traceback.format_exception(error)))
    return refused(error).says if isinstance(error, OSError) else "An unexpected error ended the import."
