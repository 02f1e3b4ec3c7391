"""The protocol of a store of objects' data.

A key is a UUID that names the data of one object for good: data is never changed under its key. Any call may be
repeated, and none relies on an earlier one. Every call may raise OSError: not to be had now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import TracebackType
from typing import BinaryIO, Protocol, Self


class Incoming(Protocol):
    """Data on its way into a store, to be used in a `with` statement.

    Until the end of the statement a sweep leaves it alone, so that the row that names it can be written. Left by an
    error before `finish`, nothing is kept.
    """

    @property
    def size(self) -> int:
        """Bytes so far."""

    def write(self, chunk: bytes) -> None:
        """Raises OSError when the store can't take it."""

    def finish(self) -> None:
        """All data is safe under its key, whatever happens to machine and process; returns when it is."""

    def drop(self) -> None:
        """Nothing is kept. May follow `finish`."""

    def __enter__(self) -> Self:
        """The data itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """From now on it is the sweep's if no row names it."""


class Store(Protocol):
    """One place that keeps objects' data."""

    def incoming(self, key: str) -> Incoming:
        """A place for the data of `key`."""

    def copy(self, key: str, new: str) -> Incoming:
        """What `key` has, on its way to be `new`'s too: `finish` is all that is left to do. Raises FileNotFoundError."""

    def open(self, key: str) -> BinaryIO:
        """The data, seekable; the caller closes it. Raises FileNotFoundError."""

    def remove(self, key: str) -> None:
        """No data is under the key."""

    def sweep(self, wanted: Callable[[list[str]], Collection[str]]) -> int:
        """Remove what no row wants and nobody is writing; returns how many. `wanted` says which of some keys are named."""

    def free_bytes(self) -> int:
        """How much more it can take."""
