"""Copies of disks that are on their way from a host into the image service.

What made a copy (a hypervisor, a volume backend) puts it under the id of the image that it is to become; the image
service reads it piece by piece, and whoever ordered it removes it.

    <directory>/<image id>        a complete copy
    <directory>/<image id>.part   one that is being made
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from stackling.base.rpc import Interface, Remote, Transport

PIECE = 4 << 20  # bytes, which fit into one call of a node also as base64


class ExportUnavailable(Exception):
    """The copy can't be read now: its host is away, or it isn't there (any more). Ask for it again."""


class Exports(Protocol):
    """The finished copies of one host. Any call may be repeated."""

    def size(self, id: str) -> int:
        """Bytes of the copy. ExportUnavailable: it is not there."""

    def read(self, id: str, offset: int, length: int) -> bytes:
        """A piece of the copy; shorter than `length` bytes only at its end. ExportUnavailable: it is not there."""

    def remove(self, id: str) -> None:
        """The copy is gone, also one that is not finished. Already gone: nothing happens."""


INTERFACE = Interface("exports", Exports, errors=(ExportUnavailable,), unavailable=ExportUnavailable)


def pieces(exports: Exports, id: str) -> Iterator[bytes]:
    """The bytes of a copy. ExportUnavailable: it went away."""
    offset = 0
    while piece := exports.read(id, offset, PIECE):
        yield piece
        offset += len(piece)


class ExportedFiles:
    """The copies as files of this host. See `Exports`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, id: str) -> Path:
        """Where the copy is, or will be."""
        return self._directory / str(uuid.UUID(id))

    def part(self, id: str) -> Path:
        """Where one is to be made; QEMU's user may pass through the directory."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o711)
        return self.path(id).with_suffix(".part")

    def size(self, id: str) -> int:
        try:
            return self.path(id).stat().st_size
        except OSError as error:
            raise ExportUnavailable(f"The copy for image {id} is not to be had: {error}") from error

    def read(self, id: str, offset: int, length: int) -> bytes:
        try:
            with self.path(id).open("rb") as file:
                file.seek(offset)
                return file.read(min(length, PIECE))
        except OSError as error:
            raise ExportUnavailable(f"The copy for image {id} is not to be had: {error}") from error

    def remove(self, id: str) -> None:
        self.path(id).unlink(missing_ok=True)
        self.path(id).with_suffix(".part").unlink(missing_ok=True)


class FakeExports:
    """The copies of a fake host: disks of 1 MiB that are empty. `copies` is what is there, by image id."""

    def __init__(self) -> None:
        self.copies: dict[str, bytes] = {}

    def make(self, id: str, image_format: str) -> None:
        """A copy is finished."""
        self.copies[id] = _EMPTY_QCOW2 if image_format == "qcow2" else bytes(1 << 20)

    def size(self, id: str) -> int:
        return len(self._found(id))

    def read(self, id: str, offset: int, length: int) -> bytes:
        return self._found(id)[offset : offset + length]

    def remove(self, id: str) -> None:
        self.copies.pop(id, None)

    def _found(self, id: str) -> bytes:
        if id not in self.copies:
            raise ExportUnavailable(f"There is no copy for image {id}")
        return self.copies[id]


def _empty_qcow2(size: int) -> bytes:
    """A qcow2 file of version 2 without data: header, refcount table, refcount block and L1 table, a cluster each."""
    cluster = 1 << 16
    fields = (b"QFI\xfb", 2, 0, 0, 16, size, 0, 1, 3 * cluster, cluster, 1, 0, 0)
    header = struct.pack(">4sIQIIQIIQQIIQ", *fields)
    table = (2 * cluster).to_bytes(8, "big")
    block = (1).to_bytes(2, "big") * 4
    return b"".join(part.ljust(cluster, b"\0") for part in (header, table, block, b""))


_EMPTY_QCOW2 = _empty_qcow2(1 << 20)


def remote_exports(transport: Transport) -> Exports:
    """The copies at the other end of `transport`."""
    far: Exports = Remote(INTERFACE, transport)  # type: ignore[assignment]
    return far
