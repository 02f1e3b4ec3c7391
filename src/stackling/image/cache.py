"""The images that a host keeps: one read-only file per image, shared by every root disk on the host.

Image content is immutable, so a cached file is right forever once its size and SHA-512 were seen. A file is
written beside its name and renamed, so a name in the cache always means a complete image.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from msgspec import Struct

from stackling.base.background import Background

CHUNK = 1 << 20


class ImageRef(Struct, frozen=True, kw_only=True):
    """What a host must know of an image to use it.

    `size` is the file's length in bytes, `virtual_size` the disk's in bytes. `format` is what the inspection at
    upload found; nobody guesses it again.
    """

    id: str
    format: Literal["qcow2", "raw"]
    size: int
    sha512: str
    virtual_size: int


class ImageSource(Protocol):
    """Where a host gets the bytes of an image."""

    def path(self, image_id: str) -> Path | None:
        """The image store's own file when it is on this machine; None when it must be streamed."""

    def open(self, image_id: str) -> BinaryIO:
        """The image's bytes from the first on. The caller closes it. OSError: not to be had now."""


class ImageDamaged(Exception):
    """The bytes that arrived are not the image that was promised."""


class CacheUnavailable(Exception):
    """The host, or the image's source, can't do it now; the same call may succeed later."""


class Held(Struct, frozen=True, kw_only=True):
    """An image in a host's cache. `size` in bytes, `users` are the servers there that stand on it."""

    image_id: str
    size: int
    users: int


class ImageCache:
    """The image files of one host, in one directory.

    Any call may be repeated, by several threads; two fetches of one image become one.
    """

    def __init__(self, directory: Path, source: ImageSource) -> None:
        self._directory = directory
        self._source = source
        self._fetches = Background("image")
        self.lock = threading.Lock()  # held while an image comes to be used, and while one is dropped
        self.used_by: Callable[[], Iterable[str]] = (
            tuple  # images that servers here stand on, one for each server
        )

    def file(self, image_id: str) -> Path:
        """Where the image is, or will be."""
        return self._directory / str(uuid.UUID(image_id))

    def ensure(self, image: ImageRef, wait: float = 2.0) -> bool:
        """The image is on this host: True. False: it is being fetched; ask again.

        A file on the same file system is linked, which takes no time. Else a thread copies and checks it, and the
        call waits for that at most `wait` seconds. OSError: the source is not to be had now. ImageDamaged: size or
        SHA-512 differ.
        """
        file = self.file(image.id)
        if file.exists():
            return True
        origin = self._source.path(image.id)
        if origin is not None and self._link(origin, file):
            return True
        return self._fetches.run(image.id, lambda: self._fetch(image, origin), wait)

    # -- as `image.data_driver.NodeCache` ---------------------------------------------------------------------------

    def fetch(self, image: ImageRef) -> bool:
        """See `image.data_driver.NodeCache`."""
        try:
            return self.ensure(image)
        except OSError as error:
            raise CacheUnavailable(f"Image {image.id} can't be had now: {error}") from error

    def drop(self, image_id: str) -> bool:
        """See `image.data_driver.NodeCache`."""
        with self.lock:
            if image_id in set(self.used_by()) | self._fetches.running():
                return False
            self.file(image_id).unlink(missing_ok=True)
        return True

    def held(self) -> tuple[Held, ...]:
        """See `image.data_driver.NodeCache`."""
        users = Counter(self.used_by())
        found = []
        for file in sorted(self._directory.iterdir()) if self._directory.is_dir() else ():
            image_id = file.name.partition(".")[0]
            with contextlib.suppress(FileNotFoundError):
                if not file.suffix:
                    found.append(Held(image_id=image_id, size=file.stat().st_size, users=users[image_id]))
                elif image_id not in self._fetches.running():
                    file.unlink()
        return tuple(found)

    def _link(self, origin: Path, file: Path) -> bool:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
        try:
            # QEMU runs as a user of its own; the directories above keep others out.
            origin.chmod(0o444)
            os.link(origin, file)
        except FileExistsError:
            return True
        except OSError:
            # Another file system, or one without links: the bytes must be copied.
            return False
        return True

    def _fetch(self, image: ImageRef, origin: Path | None) -> None:
        file = self.file(image.id)
        if file.exists():
            return
        part = file.with_suffix(f".{uuid.uuid4().hex}.part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
            source = origin.open("rb") if origin is not None else self._source.open(image.id)
            with source, part.open("wb") as target:
                seen, digest = _copy(source, target, image.size)
            if seen != image.size or digest != image.sha512:
                raise ImageDamaged(
                    f"Image {image.id} arrived damaged: {seen} of {image.size} bytes, SHA-512 {digest[:16]}…"
                )
            part.chmod(0o444)
            part.rename(file)
        finally:
            part.unlink(missing_ok=True)


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> tuple[int, str]:
    """Copy sparsely; stop one chunk past `size`, so that a lying source cannot fill the disk."""
    digest, seen = hashlib.sha512(), 0
    while seen <= size and (chunk := source.read(CHUNK)):
        digest.update(chunk)
        seen += len(chunk)
        if chunk.count(0) == len(chunk):
            target.seek(len(chunk), os.SEEK_CUR)
        else:
            target.write(chunk)
    target.truncate()
    target.flush()
    os.fsync(target.fileno())
    return seen, digest.hexdigest()


class StoredFiles:
    """An image source that is a directory on this machine, a file per image id."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, image_id: str) -> Path | None:
        return self._directory / str(uuid.UUID(image_id))

    def open(self, image_id: str) -> BinaryIO:
        return (self._directory / str(uuid.UUID(image_id))).open("rb")
