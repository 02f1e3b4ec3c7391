"""Work on a stream of data that overlaps with the stream: a thread for each kind of work.

Hashes and system calls let other threads run meanwhile, so MD5, SHA-512 and the disk take as long as the slowest.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable

_DEPTH = 4  # chunks that may wait for a lane; what is in memory at once is that many


class Lane:
    """A thread that takes chunks in order."""

    def __init__(self, name: str, take: Callable[[bytes], object]) -> None:
        self._take = take
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_DEPTH)
        self._why: BaseException | None = None
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, chunk: bytes) -> None:
        """Hand over a chunk, waiting while too many wait. Raises what taking an earlier one raised."""
        if self._why is not None:
            raise self._why
        self._chunks.put(chunk)

    def close(self) -> None:
        """Wait until all is taken; may be called again. Raises what taking raised."""
        if self._thread is not None:
            self._chunks.put(None)
            self._thread.join()
            self._thread = None
        if self._why is not None:
            raise self._why

    def _run(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            if self._why is None:
                try:
                    self._take(chunk)
                except BaseException as error:  # noqa: BLE001 (raised where chunks are handed over)
                    self._why = error


class Digest:
    """MD5, SHA-512 and `more` (hashlib's names) of a stream, each on a thread of its own."""

    def __init__(self, *more: str) -> None:
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha512", *more)}
        self._lanes = [Lane(f"hash-{name}", made.update) for name, made in self._hashes.items()]

    def write(self, chunk: bytes) -> None:
        for lane in self._lanes:
            lane.put(chunk)

    def finish(self) -> None:
        """Everything is counted; the threads end. May be called again."""
        for lane in self._lanes:
            lane.close()

    def of(self, name: str) -> bytes:
        """The finished hash of that name."""
        return self._hashes[name].digest()
