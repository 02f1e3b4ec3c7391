"""Many objects in one request: deleted by a list of names, or made of an archive's files."""

import mimetypes
import tarfile
from collections.abc import Iterable, Iterator
from typing import IO, Literal

from msgspec import Struct, field

from stackling.base.cloud import Cloud
from stackling.base.errors import Error, NotFound
from stackling.base.streaming import CHUNK
from stackling.objectstore.actions import container, object, upload
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.actions.object import New, Place

Mode = Literal[
    "r|", "r|gz", "r|bz2"
]  # tarfile's, of archives that are read from their beginning to their end
MOST_DELETES, MOST_FAILURES, MOST_CONTAINERS = 10_000, 1000, 10_000


class Outcome(Struct):
    """What became of it all. `errors` are names with the statuses that they would have had alone."""

    done: int = 0
    missing: int = 0
    errors: list[tuple[str, str]] = field(default_factory=list)
    why: str = ""  # what ended it before its end


def delete(cloud: Cloud, visitor: Visitor, account: str, names: Iterable[str]) -> Outcome:
    """Delete objects (`container/object`) and containers."""
    outcome = Outcome()
    for number, name in enumerate(names):
        if number >= MOST_DELETES:
            outcome.why = f"Maximum Bulk Deletes: {MOST_DELETES} per request"
            return outcome
        box, _, key = name.lstrip("/").partition("/")
        try:
            _delete(cloud, visitor, Place(account, box, key))
            outcome.done += 1
        except NotFound:
            outcome.missing += 1
        except Error as error:
            outcome.errors.append((name, f"{error.status} {error.title}"))
        if len(outcome.errors) >= MOST_FAILURES:
            outcome.why = f"Max delete failures exceeded: {MOST_FAILURES}"
            return outcome
    return outcome


def _delete(cloud: Cloud, visitor: Visitor, at: Place) -> None:
    if at.object:
        object.delete(cloud, visitor, at)
        return
    with cloud.db.begin() as tx:
        container.delete(tx, cloud, visitor, at.account, at.container)


def extract(cloud: Cloud, visitor: Visitor, at: Place, archive: IO[bytes], mode: Mode) -> Outcome:
    """Make an object of each file of a tar archive, in constant memory.

    Where `at` names no container, the first directory of each file does; containers are made.
    """
    outcome, known = Outcome(), {at.container} if at.container else set()
    if at.container:
        _container(cloud, visitor, at.account, at.container)
    try:
        with tarfile.open(fileobj=archive, mode=mode) as files:
            for member in files:
                if member.isfile():
                    _extract(cloud, visitor, at, files, member, known, outcome)
                if outcome.why:
                    break
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        outcome.why = f"Invalid Tar File: {error}"
    return outcome


def _extract(
    cloud: Cloud,
    visitor: Visitor,
    at: Place,
    files: tarfile.TarFile,
    member: tarfile.TarInfo,
    known: set[str],
    outcome: Outcome,
) -> None:
    name = member.name.removeprefix("./").lstrip("/")
    path = "/".join(part for part in (at.container, at.object.rstrip("/"), name) if part)
    box, _, key = path.partition("/")
    if not key:
        return
    try:
        if box not in known:
            if len(known) >= MOST_CONTAINERS:
                outcome.why = f"More than {MOST_CONTAINERS} containers to create from tar."
                return
            _container(cloud, visitor, at.account, box)
            known.add(box)
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        file = files.extractfile(member)
        source = _pieces(file) if file is not None else iter(())
        new = New(content_type=kind, headers={})
        upload.receive(cloud, visitor, Place(at.account, box, key), new, source, member.size)
        outcome.done += 1
    except Error as error:
        outcome.errors.append((path, f"{error.status} {error.title}"))
        if len(outcome.errors) >= MOST_FAILURES:
            outcome.why = f"Max failed extractions exceeded: {MOST_FAILURES}"


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _container(cloud: Cloud, visitor: Visitor, account: str, name: str) -> None:
    """The container is there; for those who may only write in it, it must have been before."""
    with cloud.db.begin() as tx:
        if container.find(tx, account, name) is None:
            container.put(tx, cloud, visitor, account, name, {}, None)
