"""Objects' data on its way in: kept safe first, named by a row then. Whatever goes wrong in between leaves nothing."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import (
    BadRequest,
    Error,
    InsufficientStorage,
    PreconditionFailed,
    TooLarge,
    Unprocessable,
)
from stackling.base.streaming import Part
from stackling.objectstore import store
from stackling.objectstore.actions import container, metadata, object, quota
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.actions.object import New, Place
from stackling.objectstore.driver import Incoming

GIB = 1 << 30


def allowed(cloud: Cloud, visitor: Visitor, at: Place, length: int | None, *, only_new: bool = False) -> Row:
    """The container that an object may be sent to, as far as is known before its data comes.

    `only_new`: there must be no object of that name. Raises Unauthorized, Forbidden, NotFound, BadRequest, TooLarge,
    PreconditionFailed, InsufficientStorage.
    """
    with cloud.db.read() as tx:
        box = container.for_writing(tx, cloud, visitor, at.account, at.container)
        metadata.check_name("Object", at.object, object.MOST_NAME)
        old = object.latest(tx, box.id, at.object)
        there = old is not None and object.present(old, cloud.clock.now())
        if only_new and there:
            raise PreconditionFailed("There is an object of that name.")
        if length is not None:
            _fits(cloud, length)
            replaced = 0 if box.versions or old is None else old.stored
            quota.check(tx, box, int(not there), length - replaced)
    if length:
        with store.reachable():
            free = store.of(cloud)[box.policy].free_bytes()
        if length > free:
            raise InsufficientStorage(f"There is not enough space left for {length} bytes.")
    return box


def _fits(cloud: Cloud, size: int) -> None:
    if size > cloud.config.objectstore.max_object_gib * GIB:
        raise TooLarge(
            f"Your request is too large: an object is at most {cloud.config.objectstore.max_object_gib} GiB."
        )


def receive(
    cloud: Cloud,
    visitor: Visitor,
    at: Place,
    new: New,
    source: Iterable[bytes],
    length: int | None,
    *,
    etag: str = "",
    only_new: bool = False,
) -> Row:
    """Keep an object: `source` is its data, `length` bytes if known, `etag` its MD5 if known.

    `new.size` other than 0 is what readers of it get, instead of its own data (a manifest). Opens its own
    short transactions: none is held while data arrives. Raises what `allowed` does, Unprocessable (other data than
    was announced), OSError.
    """
    metadata.check("Object", new.headers)
    box = allowed(cloud, visitor, at, length, only_new=only_new)
    pieces: Iterator[bytes] = iter(source)
    first = next(pieces, b"")
    if not first:
        _whole(0, length, object.EMPTY, etag)
        return keep(cloud, visitor, at, new, None, box.policy, only_new=only_new)
    new.id = ids.uuid4()
    md5 = hashlib.md5(usedforsecurity=False)
    with store.reachable(), store.of(cloud)[box.policy].incoming(new.id) as incoming:
        for chunk in itertools.chain([first], pieces):
            incoming.write(chunk)
            md5.update(chunk)
            _fits(cloud, incoming.size)
        new.etag, new.stored = md5.hexdigest(), incoming.size
        _whole(incoming.size, length, new.etag, etag)
        new.size = new.size or incoming.size
        return keep(cloud, visitor, at, new, incoming, box.policy, only_new=only_new)


def _whole(size: int, length: int | None, has: str, etag: str) -> None:
    if length is not None and size != length:
        raise BadRequest(f"The object arrived incomplete: {size} of {length} bytes.")
    if etag and etag != has:
        raise Unprocessable(
            "Unable to process the contained instructions: the data's MD5 is not the one of its ETag."
        )


def keep(
    cloud: Cloud,
    visitor: Visitor,
    at: Place,
    new: New,
    incoming: Incoming | None,
    policy: str,
    *,
    only_new: bool = False,
) -> Row:
    """Data that arrived, if there is any, becomes an object's."""
    if incoming is not None:
        incoming.finish()
    new.policy = policy
    try:
        with cloud.db.begin() as tx:
            box = container.for_writing(tx, cloud, visitor, at.account, at.container)
            box = container.locked(tx, box.id)
            if only_new and object.present(object.latest(tx, box.id, at.object), cloud.clock.now()):
                raise PreconditionFailed("There is an object of that name.")
            made, going = object.replace(tx, cloud, box, at.object, new)
    except Error:
        if incoming is not None:
            incoming.drop()  # nothing was committed; after other errors nobody knows, and the sweep looks
        raise
    object.forget(cloud, going)
    return made


def copied(cloud: Cloud, visitor: Visitor, source: Row, at: Place, new: New) -> Row:
    """An object's own data becomes another's too. Raises as `receive` does."""
    metadata.check("Object", new.headers)
    box = allowed(cloud, visitor, at, source.stored)
    if source.stored and source.policy != box.policy:
        new.size = source.size
        with store.of(cloud)[source.policy].open(source.id) as file:
            return receive(cloud, visitor, at, new, Part(file, source.stored), source.stored)
    new.size, new.stored, new.etag = source.size, source.stored, source.etag
    if not source.stored:
        return keep(cloud, visitor, at, new, None, box.policy)
    new.id = ids.uuid4()
    with store.of(cloud)[box.policy].copy(source.id, new.id) as incoming:
        return keep(cloud, visitor, at, new, incoming, box.policy)
