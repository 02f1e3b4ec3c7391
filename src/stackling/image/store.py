"""Where image data is: one file per image in one directory, named by the image's id.

A name in the directory always means complete data: what arrives is written beside it and renamed. Hosts on the
same file system link the file, so removing it here takes nothing away from a running server.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from pathlib import Path
from typing import BinaryIO

from stackling.base.cloud import Cloud


class FileStore:
    """The image files in `directory`; an `image.cache.ImageSource`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, image_id: str) -> Path:
        """Where the image's data is, or would be."""
        return self.directory / str(uuid.UUID(image_id))

    def open(self, image_id: str) -> BinaryIO:
        """The image's bytes. Raises FileNotFoundError."""
        return self.path(image_id).open("rb")

    def incoming(self, image_id: str, upload: str) -> Incoming:
        """A place for the data of one upload."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        return Incoming(self.path(image_id).with_suffix(f".{upload}.part"))

    def staged(self, image_id: str) -> Path:
        """Where data waits for its import."""
        return self.path(image_id).with_suffix(".staged")

    def keep(self, incoming: Incoming, image_id: str) -> None:
        """Complete data becomes the image's. Called while the row that says so is being written."""
        incoming.path.rename(self.path(image_id))

    def remove(self, image_id: str) -> None:
        """No data of the image is left, nor of unfinished uploads."""
        self.forget_parts(image_id)
        self.staged(image_id).unlink(missing_ok=True)
        self.path(image_id).unlink(missing_ok=True)

    def arrived(self, image_id: str) -> int:
        """Bytes of unfinished uploads so far."""
        found = 0
        for part in self.directory.glob(f"{uuid.UUID(image_id)}.*.part"):
            with contextlib.suppress(FileNotFoundError):
                found += part.stat().st_size
        return found

    def forget_parts(self, image_id: str) -> None:
        """Remove what unfinished uploads left."""
        if self.directory.is_dir():
            for part in self.directory.glob(f"{uuid.UUID(image_id)}.*.part"):
                part.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        found = os.statvfs(self.directory)
        return found.f_bavail * found.f_frsize


class Incoming:
    """One upload on its way: counts and hashes what it writes. Memory used is one chunk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._file = path.open("wb")
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha512 = hashlib.sha512()

    def write(self, chunk: bytes) -> None:
        """Raises OSError when the disk is full."""
        self._md5.update(chunk)
        self._sha512.update(chunk)
        self.size += len(chunk)
        if chunk.count(0) == len(chunk):
            self._file.seek(len(chunk), os.SEEK_CUR)  # holes stay holes
        else:
            self._file.write(chunk)

    def finish(self) -> None:
        """Everything is on the disk. May be called again."""
        if self._file.closed:
            return
        self._file.truncate()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def drop(self) -> None:
        """Nothing is kept. May follow `finish`."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    @property
    def checksum(self) -> str:
        """MD5, hex."""
        return self._md5.hexdigest()

    @property
    def sha512(self) -> str:
        return self._sha512.hexdigest()


class Staged(Incoming):
    """Data that is on the disk already: it is only counted and hashed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha512 = hashlib.sha512()

    def write(self, chunk: bytes) -> None:
        self._md5.update(chunk)
        self._sha512.update(chunk)
        self.size += len(chunk)

    def finish(self) -> None:
        """Nothing is left to do: the disk has it."""

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)


def of(cloud: Cloud) -> FileStore:
    """The store of a cloud."""
    return FileStore(Path(cloud.config.paths.state_dir) / "images")
