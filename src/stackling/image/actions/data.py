"""Image data: what comes in is hashed and inspected on its way, what goes out is read from the store."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import BinaryIO

import sqlalchemy as sa

from stackling.base import ids, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, Forbidden, Gone, NotFound, TooLarge, Unavailable
from stackling.image import store
from stackling.image.actions.image import KIND, get, owned, target
from stackling.image.inspection import InspectionError, Inspector
from stackling.image.state.image import State, image

CHUNK = 1 << 20
HEARD_EVERY = timedelta(seconds=10)  # how often an upload says that it lives
GIVEN_UP_AFTER = timedelta(minutes=5)  # without a sign of life its image is queued again


def receive(cloud: Cloud, caller: Caller, id: str, source: Iterator[bytes], length: int | None) -> None:
    """Take an image's data, `length` bytes if known. The image is active afterwards.

    Opens its own short transactions: none is held while data arrives. Whatever goes wrong, nothing is kept and the
    image is queued again. Raises NotFound, Forbidden, Conflict (it has data), BadRequest (the data is not what the
    image says, or incomplete), TooLarge, Gone (deleted meanwhile), Unavailable (the disk is full).
    """
    upload = ids.uuid4()
    with cloud.db.begin() as tx:
        row = _begin(tx, cloud, caller, id, upload, length)
    files = store.of(cloud)
    incoming = files.incoming(id, upload)
    try:
        inspector = Inspector(row.disk_format)
        most = cloud.config.image.max_size_gib << 30
        heard = cloud.clock.now()
        for chunk in source:
            inspector.write(chunk)
            incoming.write(chunk)
            if incoming.size > most:
                raise TooLarge(f"Image {id} is larger than {cloud.config.image.max_size_gib} GiB, the largest accepted.")
            if cloud.clock.now() - heard > HEARD_EVERY:
                heard = cloud.clock.now()
                with cloud.db.begin() as tx:
                    _write(tx, id, upload, {"heard_at": heard})
        if length is not None and incoming.size != length:
            raise BadRequest(f"Image {id} arrived incomplete: {incoming.size} of {length} bytes.")
        seen = inspector.finish()
        incoming.finish()
        with cloud.db.begin() as tx:
            active = {
                "state": State.ACTIVE,
                "upload": None,
                "heard_at": None,
                "updated_at": cloud.clock.now(),
                "size": incoming.size,
                "virtual_size": seen.virtual_size,
                "checksum": incoming.checksum,
                "os_hash_value": incoming.sha512,
            }
            _write(tx, id, upload, active)
            files.keep(incoming, id)
    except BaseException as e:
        incoming.drop()
        with cloud.db.begin() as tx:
            mine = sa.and_(image.c.id == id, image.c.upload == upload)
            tx.execute(sa.update(image).where(mine).values(state=State.QUEUED, upload=None, heard_at=None))
        if isinstance(e, InspectionError):
            raise BadRequest(e.reason) from e
        if isinstance(e, OSError):
            raise Unavailable("The image store can't take the data now.", detail=repr(e)) from e
        raise


def _begin(tx: Tx, cloud: Cloud, caller: Caller, id: str, upload: str, length: int | None) -> Row:
    row = owned(tx, caller, id, "upload_image")
    if row.state != State.QUEUED:
        raise Conflict(f"Image status transition from {row.state} to saving is not allowed")
    unset = [name for name in ("disk_format", "container_format") if getattr(row, name) is None]
    if unset:
        raise BadRequest(f"Properties {', '.join(unset)} must be set prior to saving data.")
    if length is not None:
        if length > cloud.config.image.max_size_gib << 30:
            raise TooLarge(f"Image {id} is larger than {cloud.config.image.max_size_gib} GiB, the largest accepted.")
        if length > store.of(cloud).free_bytes():
            raise TooLarge(f"There is not enough disk space on the image storage media for {length} bytes.")
    now = cloud.clock.now()
    tx.execute(
        sa.update(image).where(image.c.id == id).values(state=State.SAVING, upload=upload, heard_at=now, updated_at=now)
    )
    jobs.start(tx, KIND, id, now=now, delay=GIVEN_UP_AFTER.total_seconds())
    return row


def _write(tx: Tx, id: str, upload: str, columns: Mapping[str, object]) -> None:
    mine = sa.and_(image.c.id == id, image.c.upload == upload)
    if not tx.execute(sa.update(image).where(mine).values(columns)).rowcount:
        raise Gone(f"Image {id} was deleted or given up while its data arrived.")


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
