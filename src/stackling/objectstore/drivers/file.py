"""A store that is a directory: one file per object, in 256 directories by the first two digits of its key.

What arrives is written beside its name, synced, renamed, and the directory synced. Who writes holds a shared lock on
the file until its row is committed; the sweep takes a file only with the exclusive lock, and asks for the row then: so
it can't take what is being written, however slowly, and needs no clock to know.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from stackling.base.incoming_file import IncomingFile

_AT_ONCE = 500  # keys asked after at once
_PART = ".part"
_JUST_MADE = 60.0  # seconds


class FileStore:
    """See `objectstore.driver.Store`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, key: str) -> Path:
        name = str(uuid.UUID(key))
        return self.directory / name[:2] / name

    def incoming(self, key: str) -> Arriving:
        return Arriving(self._place(key))

    def copy(self, key: str, new: str) -> Linked:
        return Linked(self.path(key), self._place(new))

    def open(self, key: str) -> BinaryIO:
        return self.path(key).open("rb")

    def remove(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def sweep(self, wanted: Callable[[list[str]], Collection[str]]) -> int:
        removed = 0
        for some in self._some():
            named = wanted([path.stem for path in some])
            for path in some:
                if path.suffix == _PART or path.stem not in named:
                    removed += self._take(path, wanted)
        return removed

    def free_bytes(self) -> int:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = os.statvfs(self.directory)
        return found.f_bavail * found.f_frsize

    def _place(self, key: str) -> Path:
        """The path of `key`, in a directory that is there for good."""
        path = self.path(key)
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            sync(self.directory)
            sync(self.directory.parent)
        return path

    def _some(self) -> Iterator[list[Path]]:
        some: list[Path] = []
        if not self.directory.is_dir():
            return
        for below in sorted(self.directory.iterdir()):
            for path in below.iterdir() if below.is_dir() else ():
                some.append(path)
                if len(some) == _AT_ONCE:
                    yield some
                    some = []
        if some:
            yield some

    def _take(self, path: Path, wanted: Callable[[list[str]], Collection[str]]) -> bool:
        """Remove a file if nobody is writing it and no row wants it now."""
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        if path.suffix == _PART and time.time() - os.fstat(handle).st_mtime < _JUST_MADE:
            os.close(handle)  # it may not be locked yet
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.suffix != _PART and wanted([path.stem]):
                return False
            path.unlink(missing_ok=True)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(handle)


class Arriving:
    """A file that is written, locked until its row is committed or will never be."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = IncomingFile(path.with_suffix(_PART))
        self._handle = os.dup(self._file.fileno())  # the lock outlives the file's own descriptor
        fcntl.flock(self._handle, fcntl.LOCK_SH)
        self._finished = False

    @property
    def size(self) -> int:
        return self._file.size

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)

    def finish(self) -> None:
        self._file.finish()
        self._file.path.rename(self._path)
        sync(self._path.parent)
        self._finished = True

    def drop(self) -> None:
        self._file.drop()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:
            self._file.drop()
        os.close(self._handle)


class Linked:
    """A second name of a file; the lock is the file's, so it keeps the sweep away from both."""

    def __init__(self, source: Path, path: Path) -> None:
        self._source, self._path = source, path
        self._handle = os.open(source, os.O_RDONLY)
        fcntl.flock(self._handle, fcntl.LOCK_SH)
        self.size = os.fstat(self._handle).st_size

    def write(self, chunk: bytes) -> None:
        raise TypeError("a copy has its data already")

    def finish(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.link(self._source, self._path)
        sync(self._path.parent)

    def drop(self) -> None:
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)


def sync(directory: Path) -> None:
    """What was made, renamed or linked in a directory survives a power cut."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
