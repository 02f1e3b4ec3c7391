"""The few things asked of qemu-img. A format is always said, never guessed; every run has a time limit.

A full disk is an OSError, as in any other writing: it may work later.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

Format = Literal["raw", "qcow2"]
QUICK = 30.0  # seconds
SLOW = 6 * 3600.0  # seconds, for copies


class QemuImgFailed(Exception):
    """qemu-img said no; the sentence holds its reason."""


class FileLocked(QemuImgFailed):
    """A running QEMU has the file open."""


class FileInfo(Struct, frozen=True, kw_only=True):
    """A disk image file. Sizes in bytes; `used` is what it takes on disk."""

    virtual_size: int
    used: int
    backing_file: str | None


def create(path: Path, image_format: Format, size: int, backing: tuple[Path, Format] | None = None) -> None:
    """Write a new image of `size` bytes; `backing` makes it an overlay."""
    over = [] if backing is None else ["-b", str(backing[0]), "-F", backing[1]]
    _run(["create", "-q", "-f", image_format, *over, str(path), str(size)], QUICK)


# What the Image API calls otherwise than QEMU, and what makes a file of it that stands alone.
_AS = {"vhd": ["-O", "vpc"], "vmdk": ["-O", "vmdk", "-o", "subformat=streamOptimized"]}


def convert(source: Path, source_format: Format, target: Path, target_format: str) -> None:
    """Copy the content of an image sparsely into a new file without a backing file."""
    # Not through the page cache of the whole host, and no more than one core.
    flags = ["-m", "4", "-W"] if target_format == "raw" else ["-m", "4"]
    _run(
        [
            "convert",
            "-q",
            *flags,
            "-f",
            source_format,
            *_AS.get(target_format, ["-O", target_format]),
            str(source),
            str(target),
        ],
        SLOW,
    )


def convert_stranger(
    source: Path, disk_format: str, target: Path, target_format: Format, seconds: int
) -> None:
    """Convert a user's image, inspected and of that disk_format, with what a lying file can make it take confined:
    1 GiB of address space and `seconds` of CPU time."""
    name = {"vhd": "vpc"}.get(disk_format, disk_format)
    confined = ["prlimit", f"--as={1 << 30}", f"--cpu={seconds}", "--core=0"]
    _run(["convert", "-q", "-f", name, "-O", target_format, str(source), str(target)], SLOW, before=confined)


def resize(path: Path, image_format: Format, size: int) -> None:
    """Grow an image to `size` bytes."""
    _run(["resize", "-q", "-f", image_format, str(path), str(size)], QUICK)


def info(path: Path, image_format: Format) -> FileInfo:
    """Look at an image, also while a guest has it open."""
    told = json.loads(_run(["info", "-U", "--output=json", "-f", image_format, str(path)], QUICK))
    return FileInfo(
        virtual_size=told["virtual-size"],
        used=told.get("actual-size", 0),
        backing_file=told.get("full-backing-filename") or told.get("backing-filename"),
    )


def _run(arguments: list[str], timeout: float, before: Sequence[str] = ()) -> bytes:
    try:
        done = subprocess.run(
            [*before, "qemu-img", *arguments],
            capture_output=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError as error:
        raise QemuImgFailed("qemu-img is not installed on the host: apt-get install qemu-utils") from error
    except subprocess.TimeoutExpired as error:
        raise QemuImgFailed(f"qemu-img {arguments[0]} did not finish in {timeout:.0f} s") from error
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip()[-400:]
        if "lock" in reason and "Failed to get" in reason:
            raise FileLocked(f"qemu-img {arguments[0]}: {reason}")
        if os.strerror(errno.ENOSPC) in reason:
            raise OSError(errno.ENOSPC, f"qemu-img {arguments[0]}: {reason}")
        raise QemuImgFailed(f"qemu-img {arguments[0]}: {reason}")
    return done.stdout
