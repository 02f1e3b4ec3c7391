"""The life of an import: the data is read, hashed and inspected on its way, and kept only when it is whole.

The reading runs on a thread of its own, which the step asks after. When the process dies the step begins it anew:
nothing of an import counts before the image's row says that its data is there.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from stackling.base import ids, log
from stackling.base.background import Background
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import Error
from stackling.base.jobs import Machine, Outcome, gone, move, wait
from stackling.image import download, store
from stackling.image.actions import image_import
from stackling.image.actions.data import CHUNK, absorb, active, refused
from stackling.image.actions.image import found, properties
from stackling.image.actions.image_import import COPY, GLANCE, INTERFACES, STAGED
from stackling.image.actions.task import KEPT, KIND
from stackling.image.inspection import InspectionError
from stackling.image.state.image import State as ImageState
from stackling.image.state.image import image
from stackling.image.state.task import State, Type, image_task

LOOK_EVERY = timedelta(seconds=5)  # how often an import asks whether it is still wanted

machine = Machine(KIND, image_task)
_running = Background("import")  # keyed by tasks' ids, which no two clouds share


@machine.step(State.PENDING, within=None)
def begin(row: Row, cloud: Cloud) -> Outcome:
    """Somebody works on it from now on."""
    return move(State.PROCESSING)


@machine.step(State.PROCESSING, within=None)
def bring_in(row: Row, cloud: Cloud) -> Outcome:
    """Ask after the reading, or begin it; then the task ends, one way or the other."""
    now = cloud.clock.now()
    target = _target(row, cloud)
    if target is None:
        _forget_deleted(row, cloud)
        return move(State.FAILURE, failure="The image was deleted.", expires_at=now + KEPT)
    if target.state != ImageState.IMPORTING or _method(row) == COPY:
        # The data is there. There is one store, so an image that has data is in all stores.
        return move(
            State.SUCCESS,
            message="",
            expires_at=now + KEPT,
            then=lambda tx: image_import.succeeded(tx, target.id, row.id),
        )
    if row.failure is not None:
        store.of(cloud).remove(target.id)  # nothing of it is anybody's before the row says so
        new = row.type == Type.IMPORT
        end = State.FAILURE
        return move(
            end,
            expires_at=now + KEPT,
            then=lambda tx: image_import.failed(tx, cloud, target.id, row.id, new=new),
        )
    most = timedelta(seconds=cloud.config.image.import_timeout)
    if now - row.updated_at > most:
        return wait(
            0, "giving up", failure=f"The import took longer than {most.total_seconds():.0f} seconds."
        )
    try:
        ended = _running.run(row.id, lambda: _read(row, target, cloud), wait=1.0)
    except sa.exc.SQLAlchemyError:
        raise  # the database was away for a moment: later again
    except Exception as e:  # noqa: BLE001 (whatever it was, the image must not stay importing)
        return wait(0, "failed", failure=_why(e))
    mib = store.of(cloud).arrived(target.id) >> 20
    return wait(0 if ended else 1.0, "data is arriving", message="" if ended else f"Copied {mib} MiB")


@machine.step(State.SUCCESS, State.FAILURE, within=None)
def expire(row: Row, cloud: Cloud) -> Outcome:
    """A finished task can be looked at for a while."""
    left = (row.expires_at - cloud.clock.now()).total_seconds()
    return gone() if left <= 0 else wait(left, "kept for its owner to see")


def _target(row: Row, cloud: Cloud) -> Row | None:
    mine = sa.and_(image.c.id == row.image_id, image.c.import_task == row.id)
    with cloud.db.read() as tx:
        return tx.execute(sa.select(image).where(mine)).first()


def _method(row: Row) -> str:
    return (
        str(row.input["import_req"]["method"]["name"])
        if row.type == Type.API_IMAGE_IMPORT
        else image_import.WEB
    )


def _forget_deleted(row: Row, cloud: Cloud) -> None:
    """Remove what an import brought after its image was deleted; not what belongs to a new one of the same id."""
    with cloud.db.read() as tx:
        known = found(tx, row.image_id)
    if known is None:
        store.of(cloud).remove(row.image_id)


class _Stopped(Exception):
    """The import can't be finished; the sentence says why."""


def _why(error: Exception) -> str:
    if isinstance(error, (Error, download.Refused)):
        return error.says
    if isinstance(error, (_Stopped, InspectionError)):
        return str(error)
    log.get("image").warning("import.failed", trace="".join(traceback.format_exception(error)))
    return refused(error).says if isinstance(error, OSError) else "An unexpected error ended the import."


def _read(row: Row, target: Row, cloud: Cloud) -> None:
    """Read the data and keep it. Raises what `bring_in` turns into a reason."""
    files = store.of(cloud)
    files.forget_parts(target.id)
    method = _method(row)
    if method == STAGED:
        # An earlier run may have been killed between renaming the data and saying so.
        path = next((p for p in (files.staged(target.id), files.path(target.id)) if p.exists()), None)
        if path is None:
            raise _Stopped("The staged data is gone; stage it again.")
        incoming: store.Incoming = store.Staged(path)
        _take(row, target, cloud, incoming, _pieces(path), {}, {})
        return
    incoming = files.incoming(target.id, ids.uuid4())
    try:
        if method == GLANCE:
            _copy(row, target, cloud, incoming)
            return
        uri = (
            row.input["import_from"] if row.type == Type.IMPORT else row.input["import_req"]["method"]["uri"]
        )
        with download.fetch(uri, image_import.allowed(cloud)) as body:
            _fits(body.length, cloud)
            _take(row, target, cloud, incoming, body.chunks, {}, {})
    except BaseException:
        incoming.drop()
        raise


def _copy(row: Row, target: Row, cloud: Cloud, incoming: store.Incoming) -> None:
    """From an image of this cloud, which is the one region there is."""
    asked = row.input["import_req"]["method"]
    region, interface = asked["glance_region"], asked.get("glance_service_interface") or "public"
    if region != cloud.config.identity.region or interface not in INTERFACES:
        raise _Stopped(
            f"No {str(interface)[:64]} endpoint of an image service in region {str(region)[:64]!r} is known."
        )
    with cloud.db.read() as tx:
        source = image_import.lent(tx, asked["glance_image_id"], row.project_id)
        known = properties(tx, source.id) if source is not None else {}
    if source is None:
        raise _Stopped(
            f"Image {asked['glance_image_id']} is not in region {region}, not active, or not open to this project."
        )
    formats = {"disk_format": source.disk_format, "container_format": source.container_format}
    following = {n: v for n, v in known.items() if n.startswith(image_import.FOLLOWING)}
    with _opened(cloud, source.id) as chunks:
        _take(row, source, cloud, incoming, chunks, formats, following)


@contextmanager
def _opened(cloud: Cloud, image_id: str) -> Iterator[Iterator[bytes]]:
    with store.of(cloud).open(image_id) as file:
        yield iter(lambda: file.read(CHUNK), b"")


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _fits(length: int | None, cloud: Cloud) -> None:
    """Refuse what is announced to be too large before it is read."""
    if length is None:
        return
    if length > cloud.config.image.max_size_gib << 30:
        raise _Stopped(
            f"The data is larger than {cloud.config.image.max_size_gib} GiB, the largest accepted."
        )
    if length > store.of(cloud).free_bytes():
        raise _Stopped(f"There is not enough disk space on the image storage media for {length} bytes.")


def _take(
    row: Row,
    like: Row,
    cloud: Cloud,
    incoming: store.Incoming,
    source: Iterator[bytes],
    columns: dict[str, str],
    following: dict[str, str | None],
) -> None:
    """Read `source` to its end as an image of `like`'s format, and keep it as the task's image."""
    seen = absorb(cloud, like, incoming, _wanted(row, cloud, source))
    values = {**active(cloud, incoming, seen), **columns}
    with cloud.db.begin() as tx:
        if not image_import.keep(tx, row.image_id, row.id, values, following):
            raise _Stopped("The image was deleted, or its import given up, while data arrived.")
        store.of(cloud).keep(incoming, row.image_id)


def _wanted(row: Row, cloud: Cloud, source: Iterator[bytes]) -> Iterator[bytes]:
    """What `source` gives, as long as the image waits for it. Raises _Stopped."""
    looked = cloud.clock.now()
    for chunk in source:
        yield chunk
        if cloud.clock.now() - looked > LOOK_EVERY:
            looked = cloud.clock.now()
            if _target(row, cloud) is None:
                raise _Stopped("The image was deleted while data arrived.")
