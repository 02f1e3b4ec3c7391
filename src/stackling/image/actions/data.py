"""Image data: what comes in is hashed and inspected on its way, what goes out is read from its stores."""

import errno
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, BinaryIO

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import ids, jobs
from stackling.base.background import Background
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import (
    BadRequest,
    Conflict,
    Error,
    Forbidden,
    Gone,
    NotFound,
    TooLarge,
    Unavailable,
)
from stackling.base.lane import Digest
from stackling.image import signature, store
from stackling.image.actions import certificate, location, usage
from stackling.image.actions.image import KIND, found, get, owned, properties, target
from stackling.image.actions.web import opened
from stackling.image.data_driver import Incoming, Store
from stackling.image.export import Exports, ExportUnavailable, pieces
from stackling.image.inspection import InspectionError, Inspector
from stackling.image.signature import SignatureError
from stackling.image.state.image import State, image

CHUNK, GIB = 1 << 20, 1 << 30
HEARD_EVERY = timedelta(seconds=10)  # how often an upload says that it lives
GIVEN_UP_AFTER = timedelta(minutes=5)  # without a sign of life its image is queued again


class Taken(Struct, frozen=True, kw_only=True):
    """Data that arrived whole. `size` in bytes, `virtual_size` in bytes where there is a disk in it."""

    size: int
    virtual_size: int | None
    digest: Digest

    @property
    def columns(self) -> dict[str, Any]:
        """What the image's row says of it."""
        return {
            "size": self.size,
            "virtual_size": self.virtual_size,
            "checksum": self.digest.of("md5").hex(),
            "os_hash_algo": "sha512",
            "os_hash_value": self.digest.of("sha512").hex(),
        }


class Form(Struct, frozen=True, kw_only=True):
    """What data is said to be, and whose."""

    image_id: str
    project_id: str
    disk_format: str
    container_format: str

    @property
    def is_disk(self) -> bool:
        """Whether the content is a disk, not a container of one."""
        return self.container_format in ("bare", "ami", "ari", "aki")


def form(row: Row, like: Row | None = None) -> Form:
    """The form of an image, or of one that is to become like another."""
    shape = like or row
    return Form(
        image_id=row.id,
        project_id=row.project_id,
        disk_format=shape.disk_format,
        container_format=shape.container_format,
    )


def receive(
    cloud: Cloud,
    caller: Caller | None,
    id: str,
    source: Iterator[bytes],
    length: int | None,
    store_name: str | None = None,
) -> None:
    """Take an image's data, `length` bytes if known, into a store (by default the default one). It is active then.
    `caller` None: the cloud itself.

    Opens its own short transactions: none is held while data arrives. Whatever goes wrong, nothing is kept and the
    image is queued again. Raises NotFound, Forbidden, Conflict (it has data), BadRequest (the data is not what the
    image says, not what was signed, or incomplete; the store), TooLarge (also when the store's disk is full),
    QuotaExceeded, Gone (deleted meanwhile), Unavailable.
    """
    stores = store.of(cloud)
    name = store_name or stores.default
    if name not in stores.writable:
        raise BadRequest(f"Store {name[:64]!r} takes no data. There are: {', '.join(stores.writable)}.")
    with _arriving(cloud, caller, id, State.SAVING, length, stores[name]) as (row, incoming):
        taken = absorb(cloud, form(row), incoming, alive(cloud, row, source))
        _complete(incoming, id, length)
        with cloud.db.begin() as tx:
            _write(tx, row, {**taken.columns, **_ended(cloud), "state": State.ACTIVE})
            location.forget(tx, id)
            location.add(tx, id, name)
            stores[name].keep(incoming, id)


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
    staging = store.of(cloud).staging
    with _arriving(cloud, caller, id, State.UPLOADING, length, staging) as (row, incoming):
        for chunk in alive(cloud, row, source):
            incoming.write(chunk)
            _fits(cloud, id, incoming.size)
        _complete(incoming, id, length)
        with cloud.db.begin() as tx:
            _write(tx, row, {**_ended(cloud), "size": incoming.size})
            staging.keep(incoming, id)


def absorb(
    cloud: Cloud,
    said: Form,
    into: Incoming | None,
    source: Iterator[bytes],
    *,
    signed: bool = True,
    also: Collection[str] = (),
) -> Taken:
    """Write an image's data (None: nowhere), hashed and inspected on its way; compare it with what was signed.

    What is in a container is not inspected: no disk is made of it. `also` are further hashes to make. Raises
    InspectionError, SignatureError, TooLarge, OSError.
    """
    promise = _promise(cloud, said.image_id) if signed else None
    pem = certificate.read(cloud, promise.certificate_id, said.project_id) if promise else b""
    inspector = Inspector(said.disk_format) if said.is_disk else None
    digest = Digest(*({*also, *((promise.hash,) if promise else ())} - {"md5", "sha512"}))
    size = 0
    try:
        for chunk in source:
            digest.write(chunk)
            if into is not None:
                into.write(chunk)
            if inspector is not None:
                inspector.write(chunk)
            size += len(chunk)
            _fits(cloud, said.image_id, size)
    finally:
        digest.finish()
    seen = inspector.finish() if inspector is not None else None
    if promise is not None:
        signature.verify(promise, digest.of(promise.hash), pem, cloud.clock.now())
    return Taken(size=size, virtual_size=seen.virtual_size if seen else None, digest=digest)


def _promise(cloud: Cloud, id: str) -> signature.Signed | None:
    with cloud.db.read() as tx:
        return signature.of(properties(tx, id))


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
    cloud: Cloud, caller: Caller | None, id: str, state: State, length: int | None, into: Store
) -> Iterator[tuple[Row, Incoming]]:
    """Data is on its way to an image. Left by an error, nothing is kept and the image is queued again."""
    with cloud.db.begin() as tx:
        row = _begin(tx, cloud, caller, id, state, length, into)
    try:
        incoming = into.incoming(id, row.upload)
        try:
            yield row, incoming
        except BaseException:
            incoming.drop()
            raise
    except BaseException as e:
        with cloud.db.begin() as tx:
            mine = sa.and_(image.c.id == id, image.c.upload == row.upload)
            again = {"state": State.QUEUED, "upload": None, "heard_at": None, "size": None}
            if tx.execute(sa.update(image).where(mine).values(again)).rowcount:
                into.remove(id)  # it may have its name, and no row that says so
        if isinstance(e, (InspectionError, SignatureError)):
            raise BadRequest(str(e)) from e
        if isinstance(e, OSError):
            raise refused(e) from e
        raise


def refused(error: OSError) -> Error:
    """What users are told when the store can't take data: as upstream, 413 for a full disk."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        says = "The image store's disk is full; its operator has to free space, then the same upload works."
        return TooLarge(says, detail=repr(error))
    return Unavailable("The image store can't take the data now.", detail=repr(error))


def _fits(cloud: Cloud, id: str, size: int) -> None:
    if size > cloud.config.image.max_size_gib * GIB:
        raise TooLarge(
            f"Image {id} is larger than {cloud.config.image.max_size_gib} GiB, the largest accepted."
        )


def _complete(incoming: Incoming, id: str, length: int | None) -> None:
    if length is not None and incoming.size != length:
        raise BadRequest(f"Image {id} arrived incomplete: {incoming.size} of {length} bytes.")
    incoming.finish()


def _begin(
    tx: Tx, cloud: Cloud, caller: Caller | None, id: str, state: State, length: int | None, into: Store
) -> Row:
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
        if length > into.free_bytes():
            raise TooLarge(f"There is not enough disk space on the image storage media for {length} bytes.")
    # Bytes are known when they are there: a project may go over its limit once, as upstream lets it, and not again.
    bytes_of = "image_size_total" if state == State.SAVING else "image_stage_total"
    usage.QUOTAS.check(tx, cloud, row.project_id, {"image_count_uploading": 1, bytes_of: 0})
    now = cloud.clock.now()
    values = {"state": state, "upload": ids.uuid4(), "heard_at": now, "updated_at": now}
    queued = sa.and_(image.c.id == id, image.c.state.in_(begins))
    begun = tx.execute(sa.update(image).where(queued).values(**values).returning(image)).first()
    if begun is None:
        raise Conflict(f"Another upload to image {id} began at this moment")
    jobs.start(tx, KIND, id, now=now, delay=GIVEN_UP_AFTER.total_seconds())
    return begun


def _ended(cloud: Cloud) -> dict[str, Any]:
    return {"upload": None, "heard_at": None, "updated_at": cloud.clock.now()}


def _write(tx: Tx, row: Row, columns: Mapping[str, Any]) -> None:
    mine = sa.and_(image.c.id == row.id, image.c.upload == row.upload)
    if not tx.execute(sa.update(image).where(mine).values(columns)).rowcount:
        raise Gone(f"Image {row.id} was deleted or given up while its data arrived.")


def sent(cloud: Cloud, caller: Caller, id: str) -> tuple[Row, BinaryIO | None]:
    """An image and its opened data, None while it has none. Raises NotFound, Forbidden (deactivated), Unavailable."""
    with cloud.db.read() as tx:
        row = get(tx, caller, id)
        caller.may("download_image", target(row, caller.project_id))
        if row.state == State.DEACTIVATED and not caller.is_admin:
            raise Forbidden(
                f"The requested image {id} has been deactivated. Image data download is forbidden."
            )
        known = location.of(tx, cloud, id)
    if row.state not in (State.ACTIVE, State.DEACTIVATED):
        return row, None
    try:
        return row, opened(cloud, known)
    except FileNotFoundError as e:
        raise NotFound(f"The data of image {id} is not in the image store.", detail=repr(e)) from e
    except OSError as e:
        raise Unavailable(f"The data of image {id} can't be read now.", detail=repr(e)) from e
