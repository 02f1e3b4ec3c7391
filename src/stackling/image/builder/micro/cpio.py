"""A compressed cpio archive ("newc"), as the Linux kernel takes it for an initial RAM file system.

Format: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import gzip
import os
import stat
from pathlib import Path


def write_initrd(tree: Path, out: Path) -> None:
    """Pack a directory tree, owned by root and without times, so that equal trees give equal bytes."""
    packed = bytearray()
    for number, path in enumerate(sorted(tree.rglob("*")), start=1):
        info = path.lstat()
        if stat.S_ISLNK(info.st_mode):
            body = os.readlink(path).encode()
        elif stat.S_ISREG(info.st_mode):
            body = path.read_bytes()
        else:
            body = b""
        packed += _entry(str(path.relative_to(tree)), number, info.st_mode, body)
    packed += _entry("TRAILER!!!", 0, 0, b"")
    out.write_bytes(gzip.compress(bytes(packed), compresslevel=9, mtime=0))


def _entry(name: str, number: int, mode: int, body: bytes) -> bytes:
    label = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, 0, len(body), 0, 0, 0, 0, len(label), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + label
    return head + b"\0" * (-len(head) % 4) + body + b"\0" * (-len(body) % 4)
