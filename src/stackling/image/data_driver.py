"""The protocols of a store of image data and of a host's image cache, and what crosses them.

A name in a store always means complete data. Any call may be repeated, and none relies on an earlier one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Protocol

from stackling.image.cache import CacheUnavailable, Held, ImageDamaged, ImageRef


class Incoming(Protocol):
    """Data on its way into a store. Nothing of it is an image's before `Store.keep`."""

    size: int  # bytes so far

    def write(self, chunk: bytes) -> None:
        """Raises OSError when the store can't take it."""

    def finish(self) -> None:
        """Everything is safe in the store; returns when it is. May be called again. Raises OSError."""

    def drop(self) -> None:
        """Nothing is kept. May follow `finish`."""


class Store(Protocol):
    """One place that keeps image data. Every call may raise OSError: not to be had now."""

    def incoming(self, image_id: str, upload: str) -> Incoming:
        """A place for the data of one upload."""

    def keep(self, incoming: Incoming, image_id: str) -> None:
        """Complete data becomes the image's. Called while the row that says so is being written."""

    def take(self, path: Path, image_id: str) -> None:
        """What a local file holds becomes the image's; the file stays, and may become the store's by a link."""

    def open(self, image_id: str) -> BinaryIO:
        """The image's bytes, seekable; the caller closes it. Raises FileNotFoundError."""

    def path(self, image_id: str) -> Path | None:
        """The file with the image's bytes, where the store has one on this machine."""

    def remove(self, image_id: str) -> None:
        """No data of the image is left, nor of unfinished uploads."""

    def forget_parts(self, image_id: str) -> None:
        """Nothing is left of unfinished uploads."""

    def arrived(self, image_id: str) -> int:
        """Bytes of unfinished uploads so far."""

    def free_bytes(self) -> int:
        """How much more it can take."""

    def about(self) -> dict[str, Any]:
        """What an administrator may want to know of it."""


class NodeCache(Protocol):
    """The images that one host has cached. Every method may raise CacheUnavailable; `fetch` ImageDamaged too."""

    def fetch(self, image: ImageRef) -> bool:
        """The image is cached: True. False: it is on its way; ask again."""

    def drop(self, image_id: str) -> bool:
        """The image is not cached: True. False: servers there stand on it."""

    def held(self) -> tuple[Held, ...]:
        """What is cached. Remains of fetches that were broken off are cleared away."""


__all__ = ["CacheUnavailable", "Held", "ImageDamaged", "Incoming", "NodeCache", "Store"]
