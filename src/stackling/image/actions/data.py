"""Image data: what comes in is hashed and inspected on its way, what goes out is read from the store."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, BinaryIO

import sqlalchemy as sa

from stackling.base import ids, jobs
from stackling.base.background import Background
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, Forbidden, Gone, NotFound, TooLarge, Unavailable
from stackling.image import store
from stackling.image.actions.image import KIND, found, get, owned, target
from stackling.image.export import Exports, ExportUnavailable, pieces
from stackling.image.inspection import Inspected, InspectionError, Inspector
from stackling.image.state.image import State, image
from stackling.image.store import Incoming

CHUNK = 1 << 20
HEARD_EVERY = timedelta(seconds=10)  # how often an upload says that it lives
GIVEN_UP_AFTER = timedelta(minutes=5)  # without a sign of life its image is queued again


def receive(
    cloud: Cloud, caller: Caller | None, id: str, source: Iterator[bytes], length: int | None
) -> None:
    """Take an image's data, `length` bytes if known. The image is active afterwards. `caller` None: the cloud itself.

    Opens its own short transactions: none is held while data arrives. Whatever goes wrong, nothing is kept and the
    image is queued again. Raises NotFound, Forbidden, Conflict (it has data), BadRequest (the data is not what the
    image says, or incomplete), TooLarge, Gone (deleted meanwhile), Unavailable (the disk is full).
    """
    with _arriving(cloud, caller, id, State.SAVING, length) as (row, incoming):
        seen = absorb(cloud, row, incoming, alive(cloud, row, source))
        _complete(incoming, id, length)
        with cloud.db.begin() as tx:
            _write(tx, row, active(cloud, incoming, seen))
            store.of(cloud).keep(incoming, id)


def bring_in(cloud: Cloud, exports: Exports, id: str) -> bool:
    """The copy of a disk that a host made becomes the data of the image: True, it is active. False: ask again.

    For steps, after the image was ordered with `image.create`. One that died is taken over by the next call.
    Raises Gone (the image was deleted), BadRequest and TooLarge (it can never be kept), Unavailable.
    """
    return _brought.run(id, lambda: _bring_in(cloud, exports, id), wait=1.0)


_brought = Background("bring-in")  # keyed by images' ids, which no two clouds share


def _bring_in(cloud: Cloud, exports: Exports, id: str) -> None:
    with cloud.db.read() as tx:
        row = found(tx, id)
    if row is not None and row.state == State.ACTIVE:
        return
    try:
        receive(cloud, None, id, pieces(exports, id), exports.size(id))
    except ExportUnavailable as e:
        raise Unavailable(str(e)) from e


def stage(cloud: Cloud, caller: Caller, id: str, source: Iterator[bytes], length: int | None) -> None:
    """Take data that an import will bring in later; it is inspected then. Raises as `receive` does."""
    with _arriving(cloud, caller, id, State.UPLOADING, length) as (row, incoming):
        for chunk in alive(cloud, row, source):
            incoming.write(chunk)
            _fits(cloud, id, incoming.size)
        _complete(incoming, id, length)
        with cloud.db.begin() as tx:
            _write(tx, row, {"upload": None, "heard_at": None, "size": incoming.size})
            incoming.path.rename(store.of(cloud).staged(id))


def absorb(cloud: Cloud, row: Row, incoming: Incoming, source: Iterator[bytes]) -> Inspected:
    """Write the data of an image, hashed and inspected on its way. Raises InspectionError, TooLarge, OSError."""
    inspector = Inspector(row.disk_format)
    for chunk in source:
        inspector.write(chunk)
        incoming.write(chunk)
        _fits(cloud, row.id, incoming.size)
    seen = inspector.finish()
    incoming.finish()
    return seen


def active(cloud: Cloud, incoming: Incoming, seen: Inspected) -> dict[str, Any]:
    """The columns of an image whose data is complete."""
    return {
        "state": State.ACTIVE,
        "upload": None,
        "heard_at": None,
        "updated_at": cloud.clock.now(),
        "size": incoming.size,
        "virtual_size": seen.virtual_size,
        "checksum": incoming.checksum,
        "os_hash_value": incoming.sha512,
    }


def alive(cloud: Cloud, row: Row, source: Iterator[bytes]) -> Iterator[bytes]:
    """What `source` gives, noting now and then that the upload lives. Raises Gone when it isn't wanted any more."""
    heard = cloud.clock.now()
    for chunk in source:
        yield chunk
        if cloud.clock.now() - heard > HEARD_EVERY:
            heard = cloud.clock.now()
            with cloud.db.begin() as tx:
                _write(tx, row, {"heard_at": heard})


@contextmanager
def _arriving(
    cloud: Cloud, caller: Caller | None, id: str, state: State, length: int | None
) -> Iterator[tuple[Row, Incoming]]:
    """Data is on its way to an image. Left by an error, nothing is kept and the image is queued again."""
    with cloud.db.begin() as tx:
        row = _begin(tx, cloud, caller, id, state, length)
    incoming = store.of(cloud).incoming(id, row.upload)
    try:
        yield row, incoming
    except BaseException as e:
        incoming.drop()
        with cloud.db.begin() as tx:
            mine = sa.and_(image.c.id == id, image.c.upload == row.upload)
            tx.execute(
                sa.update(image).where(mine).values(state=State.QUEUED, upload=None, heard_at=None, size=None)
            )
        if isinstance(e, InspectionError):
            raise BadRequest(e.reason) from e
        if isinstance(e, OSError):
            raise Unavailable("The image store can't take the data now.", detail=repr(e)) from e
        raise


def _fits(cloud: Cloud, id: str, size: int) -> None:
    if size > cloud.config.image.max_size_gib << 30:
        raise TooLarge(
            f"Image {id} is larger than {cloud.config.image.max_size_gib} GiB, the largest accepted."
        )


def _complete(incoming: Incoming, id: str, length: int | None) -> None:
    if length is not None and incoming.size != length:
        raise BadRequest(f"Image {id} arrived incomplete: {incoming.size} of {length} bytes.")
    incoming.finish()


def _begin(tx: Tx, cloud: Cloud, caller: Caller | None, id: str, state: State, length: int | None) -> Row:
    row = owned(tx, caller, id, "upload_image") if caller is not None else found(tx, id)
    if row is None:
        raise Gone(f"Image {id} was deleted.")
    # The cloud itself takes over from a process of it that died.
    begins = (State.QUEUED,) if caller is not None else (State.QUEUED, State.SAVING)
    if row.state not in begins:
        raise Conflict(f"Image status transition from {row.state} to {state} is not allowed")
    unset = [name for name in ("disk_format", "container_format") if getattr(row, name) is None]
    if unset and state == State.SAVING:
        raise BadRequest(f"Properties {', '.join(unset)} must be set prior to saving data.")
    if length is not None:
        _fits(cloud, id, length)
        if length > store.of(cloud).free_bytes():
            raise TooLarge(f"There is not enough disk space on the image storage media for {length} bytes.")
    now = cloud.clock.now()
    values = {"state": state, "upload": ids.uuid4(), "heard_at": now, "updated_at": now}
    queued = sa.and_(image.c.id == id, image.c.state.in_(begins))
    begun = tx.execute(sa.update(image).where(queued).values(**values).returning(image)).first()
    if begun is None:
        raise Conflict(f"Another upload to image {id} began at this moment")
    jobs.start(tx, KIND, id, now=now, delay=GIVEN_UP_AFTER.total_seconds())
    return begun


def _write(tx: Tx, row: Row, columns: Mapping[str, Any]) -> None:
    mine = sa.and_(image.c.id == row.id, image.c.upload == row.upload)
    if not tx.execute(sa.update(image).where(mine).values(columns)).rowcount:
        raise Gone(f"Image {row.id} was deleted or given up while its data arrived.")


def sent(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> tuple[Row, BinaryIO | None]:
    """An image and its opened data, None while it has none. Raises NotFound, Forbidden (deactivated)."""
    row = get(tx, caller, id)
    caller.may("download_image", target(row, caller.project_id))
    if row.state == State.DEACTIVATED and not caller.is_admin:
        raise Forbidden(f"The requested image {id} has been deactivated. Image data download is forbidden.")
    if row.state not in (State.ACTIVE, State.DEACTIVATED):
        return row, None
    try:
        return row, store.of(cloud).open(id)
    except FileNotFoundError as e:
        raise NotFound(f"The data of image {id} is not in the image store.", detail=repr(e)) from e
