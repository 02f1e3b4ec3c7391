"""A store that is a directory: one file per image, named by the image's id.

What arrives is written beside its name and renamed. Hosts on the same file system link the file, so removing it here
takes nothing away from a running server; stores on one file system link each other's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from pathlib import Path
from typing import Any, BinaryIO

from stackling.base.incoming_file import IncomingFile
from stackling.image.data_driver import Incoming

CHUNK = 1 << 20


class FileStore:
    """See `image.data_driver.Store`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, image_id: str) -> Path:
        return self.directory / str(uuid.UUID(image_id))

    def open(self, image_id: str) -> BinaryIO:
        return self.path(image_id).open("rb")

    def incoming(self, image_id: str, upload: str) -> IncomingFile:
        return IncomingFile(self._part(image_id, upload))

    def keep(self, incoming: Incoming, image_id: str) -> None:
        assert isinstance(incoming, IncomingFile)
        incoming.path.rename(self.path(image_id))

    def take(self, path: Path, image_id: str) -> None:
        part = self._part(image_id, uuid.uuid4().hex)
        try:
            try:
                os.link(path, part)
            except OSError:  # another file system, or one without links
                _copy(path, part)
            part.rename(self.path(image_id))
        finally:
            part.unlink(missing_ok=True)  # renaming a file to another link of itself does nothing

    def remove(self, image_id: str) -> None:
        self.forget_parts(image_id)
        self.path(image_id).unlink(missing_ok=True)

    def arrived(self, image_id: str) -> int:
        found = 0
        for part in self.directory.glob(f"{uuid.UUID(image_id)}.*.part"):
            with contextlib.suppress(FileNotFoundError):
                found += part.stat().st_size
        return found

    def forget_parts(self, image_id: str) -> None:
        if self.directory.is_dir():
            for part in self.directory.glob(f"{uuid.UUID(image_id)}.*.part"):
                part.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        self.make()
        found = os.statvfs(self.directory)
        return found.f_bavail * found.f_frsize

    def about(self) -> dict[str, Any]:
        return {"data_dir": str(self.directory), "chunk_size": CHUNK, "thin_provisioning": True}

    def make(self) -> None:
        """The directory is there."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o711)

    def _part(self, image_id: str, upload: str) -> Path:
        self.make()
        return self.path(image_id).with_suffix(f".{upload}.part")


def _copy(source: Path, target: Path) -> None:
    """Copy sparsely, to the disk."""
    made = IncomingFile(target)
    with source.open("rb") as file:
        while chunk := file.read(CHUNK):
            made.write(chunk)
    made.finish()
    shutil.copymode(source, target)
