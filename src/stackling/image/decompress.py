"""Compressed data made plain while it is read: gzip, xz, and zip archives of one file.

Memory is bounded whatever a file asks for, and output comes in pieces, so that the reader can stop a bomb.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CHUNK = 1 << 20
_XZ_MEMORY = 128 << 20  # bytes; the strongest preset of `xz` needs 65 MiB


class Damaged(Exception):
    """The data can't be decompressed; the sentence says why."""


def kind(path: Path) -> str | None:
    """How a file is compressed: gzip, xz or zip, by its first bytes; None: it isn't."""
    with path.open("rb") as file:
        head = file.read(6)
    magics = {b"\x1f\x8b\x08": "gzip", b"\xfd7zXZ\x00": "xz", b"PK\x03\x04": "zip"}
    return next((name for magic, name in magics.items() if head.startswith(magic)), None)


def pieces(path: Path, how: str) -> Iterator[bytes]:
    """What is in a compressed file, at most CHUNK at once. Raises Damaged."""
    try:
        if how == "zip":
            yield from _zip(path)
        elif how == "gzip":
            yield from _stream(path, lambda: zlib.decompressobj(wbits=31))
        else:
            yield from _stream(path, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY))
    except (
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
        EOFError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise Damaged(f"The {how} data is damaged or can't be read: {error}") from error


def _stream(path: Path, make: Callable[[], Any]) -> Iterator[bytes]:
    """One or several compressed streams after one another."""
    with path.open("rb") as file:
        machine, given, begun = make(), b"", False
        while True:
            if not given and not (given := file.read(CHUNK)):
                if begun:
                    raise EOFError("it is cut off")
                return
            begun = True
            out = machine.decompress(given, CHUNK)
            given = b""
            while True:
                if out:
                    yield out
                more = getattr(machine, "unconsumed_tail", b"")
                if machine.eof or (not more and getattr(machine, "needs_input", not out)):
                    break
                out = machine.decompress(more, CHUNK)
            if machine.eof:
                given = machine.unused_data.lstrip(b"\0")  # padding may stand between and behind
                machine, begun = make(), False


def _zip(path: Path) -> Iterator[bytes]:
    with zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if not m.is_dir()]
        if len(members) != 1:
            raise zipfile.BadZipFile(f"it holds {len(members)} files; it must be one")
        with archive.open(members[0]) as file:
            while chunk := file.read(CHUNK):
                yield chunk
