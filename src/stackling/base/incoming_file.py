"""A file that is being written with data that arrives, in constant memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from stackling.base.lane import Lane

_ZEROS = bytes(1 << 20)
_SYNC_EVERY = 32 << 20  # bytes: the disk works while more arrives, instead of all at the end


class IncomingFile:
    """A file that is written by a thread of its own from its second chunk on: one alone is not worth a thread.

    Memory used is a few chunks.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._file = path.open("wb", buffering=0)
        self._unsynced = 0
        self._first: bytes | None = None
        self._lane: Lane | None = None

    def fileno(self) -> int:
        """The descriptor of the open file."""
        return self._file.fileno()

    def write(self, chunk: bytes) -> None:
        """Take a chunk. Raises OSError, maybe for an earlier one."""
        if not chunk:
            return
        self.size += len(chunk)
        if self._lane is None:
            if self._first is None:
                self._first = chunk
                return
            self._lane = Lane("file-write", self._take)
            self._lane.put(self._first)
        self._lane.put(chunk)

    def _take(self, chunk: bytes) -> None:
        if chunk == _ZEROS or (chunk[0] == 0 and chunk.count(0) == len(chunk)):
            self._file.seek(len(chunk), os.SEEK_CUR)  # holes stay holes
            return
        rest = memoryview(chunk)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._unsynced += len(chunk)
        if self._unsynced >= _SYNC_EVERY:
            self._unsynced = 0
            os.fdatasync(self._file.fileno())

    def finish(self) -> None:
        """Everything is on the disk. May be called again. Raises OSError."""
        if self._file.closed:
            return
        if self._lane is not None:
            self._lane.close()
        elif self._first:
            self._take(self._first)
        self._file.truncate(self.size)
        os.fsync(self._file.fileno())
        self._file.close()

    def drop(self) -> None:
        """Nothing is kept."""
        if self._lane is not None:
            with contextlib.suppress(OSError):
                self._lane.close()
        self._file.close()
        self.path.unlink(missing_ok=True)
