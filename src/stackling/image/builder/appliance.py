"""Where tenants' images are made: a virtual machine with the tools of an installation, and nothing of the host.

Packages were fetched and checked before; they go in on a disk that can't be written, beside the script that installs
them, runs the recipe's commands and makes the root file system on another disk. Partitions and boot loaders, which hold
nothing of the tenant's, are added when the machine is gone. The tools are a file system made of Debian's packages once.
"""

import fcntl
import hashlib
import os
import shlex
from pathlib import Path
from typing import Any

import msgspec

from stackling.image.builder import debian, machine
from stackling.image.builder.disk import (
    content_mib,
    content_mib_told,
    fixed_root_mib,
    frame,
    mke2fs,
    start_mib,
)
from stackling.image.builder.limits import Limits
from stackling.image.builder.machine import Drive
from stackling.image.builder.recipe import MIB, Disk, Recipe, Repository
from stackling.image.builder.run import BuildError, run
from stackling.image.builder.work import Work, link

TOOLS = Recipe(
    name="appliance",
    release="bookworm",
    repositories=[
        Repository(uri="http://deb.debian.org/debian"),
        Repository(uri="http://deb.debian.org/debian-security", suite="{release}-security"),
    ],
    packages=["apt", "mmdebstrap", "e2fsprogs", "findutils", "mawk"],
    without=["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*"],
    commands=["mkdir -p /build /parcel"],
    cloud="none",
)
# Raise it when the steps change what the tools are though their recipe stays the same.
_STEPS = 1
_UUID = "0f0b9f4e-58f2-4d27-8e0b-6f7b6f0d2f55"
_SECONDS = 3600.0
_PARCEL, _ROOT = Path("/parcel"), Path("/build/root")  # as the script sees them
_SCRIPT = """
try() { "$@" || end "failed: $*"; }
try mount -t ext4 -o ro /dev/vdb /target
try mount -t ext4 -o ro /dev/vdc /target/parcel
try mke2fs -q -t ext4 -O ^has_journal -m 0 /dev/vdd
try mount -t ext4 -o noatime /dev/vdd /target/build
for place in dev proc sys; do try mount -o rbind /$place /target/$place; done
try mount -t tmpfs tmp /target/tmp
chroot /target /bin/sh /parcel/construct || end "the image could not be made"
end "ok: $(cat /target/build/size)"
"""


def construct(recipe: Recipe, work: Work, uuid: str, limits: Limits, *, accel: str) -> None:
    """Write `scratch/disk.raw` from the fetched packages. `uuid` is that of the root file system.

    Raises BuildError, Stopped.
    """
    scratch = work.scratch
    link(_tools(work), scratch / "tools.raw")
    machine.prepare(work)
    parcel = scratch / "parcel"
    parcel.mkdir()
    (scratch / "repository").rename(parcel / "repository")
    debian.lay_out(recipe, parcel, uuid, _PARCEL)
    most_mib = fixed_root_mib(recipe.disk) or limits.disk_mib
    (parcel / "construct").write_text(_construct(recipe, uuid, most_mib))
    work.say(20, f"making the image in a virtual machine ({accel}, {limits.memory_mib} MiB)")
    arguments: dict[str, Any] = {
        "scratch": str(scratch),
        "disk": msgspec.to_builtins(recipe.disk),
        "uuid": uuid,
        "most_mib": most_mib,
        "room_mib": limits.disk_mib,
        "accel": accel,
        "memory": limits.memory_mib,
    }
    work.confined(
        [],
        "Installing packages in a virtual machine",
        call=("stackling.image.builder.appliance:inside", arguments),
        seconds=limits.minutes * 60.0,
        groups=("kvm",) if accel == "kvm" else (),
    )


def _construct(recipe: Recipe, uuid: str, most_mib: int) -> str:
    """What the machine does once its disks are there."""
    want = recipe.disk
    size = fixed_root_mib(want) or f"$(({content_mib_told(_ROOT)} + {want.spare_mib}))"
    return f"""set -e
export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive TMPDIR=/build
mkdir {_ROOT}
{_shell(debian.mmdebstrap(recipe, _PARCEL, _ROOT))}
size={size}
[ "$size" -le {most_mib} ] || {{ echo "the root file system would be of $size MiB; {most_mib} are allowed"; exit 1; }}
echo "writing the root file system: $size MiB"
{_shell(mke2fs(want, uuid, _ROOT, start_mib(want)))} /dev/vde "${{size}}M"
echo "$size" >/build/size
"""


def _shell(words: list[str | Path]) -> str:
    return shlex.join(map(str, words))


def _tools(work: Work) -> Path:
    """The file system with the tools, made when there is none of this recipe from these mirrors yet."""
    sources = sorted(work.mirrors.get(place.uri, place.uri) for place in TOOLS.repositories)
    told = f"{_STEPS} {TOOLS.digest} {' '.join(sources)}"
    place = work.cache / "appliance"
    kept = place / f"tools-{hashlib.sha256(told.encode()).hexdigest()[:12]}.raw"
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            for old in place.glob("tools-*.raw"):
                old.unlink()
            _make_tools(work, place, kept)
    return kept


def _make_tools(work: Work, place: Path, kept: Path) -> None:
    making = Work(
        place,
        cache=work.cache,
        hide=work.hide,
        mirrors=work.mirrors,
        keyring=work.keyring,
        stop=work.stop,
        heard=lambda _, says: work.say(8, f"the virtual machine's tools, this once: {says}"),
    )
    making.begin()
    try:
        debian.fetch(TOOLS, making)
        debian.install(TOOLS, making, _UUID)
        made = making.scratch / "tools.raw"
        arguments = {"tree": str(making.scratch / "root"), "out": str(made)}
        making.confined(
            [],
            "Writing the tools",
            call=("stackling.image.builder.appliance:pack", arguments),
            seconds=_SECONDS,
        )
        os.chown(made, 0, 0)
        made.replace(kept)
    finally:
        making.end()


# -- inside ------------------------------------------------------------------------------------------------------------


def pack(tree: str, out: str) -> None:
    """A tree as a file system that is only read. Raises BuildError."""
    size = content_mib(Path(tree))
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", tree, out, f"{size}M"])


def inside(
    scratch: str,
    disk: dict[str, object],
    uuid: str,
    most_mib: int,
    room_mib: int,
    accel: str,
    memory: int,
) -> None:
    """Run the machine, then add to its root file system what a disk needs (run confined). Raises BuildError."""
    home, want = Path(scratch), msgspec.convert(disk, Disk)
    pack(str(home / "parcel"), str(home / "parcel.raw"))
    _sparse(home / "room.raw", room_mib)
    _sparse(home / "disk.raw", start_mib(want) + most_mib)
    drives = [
        Drive(str(home / "tools.raw"), readonly=True),
        Drive(str(home / "parcel.raw"), readonly=True),
        Drive(str(home / "room.raw")),
        Drive(str(home / "disk.raw")),
    ]
    told = machine.carry_out(home, _SCRIPT, drives, accel=accel, memory=memory)
    # The tenant's commands were root there: what the machine says is theirs.
    if not (told.isascii() and told.isdecimal() and 0 < int(told) <= most_mib):
        raise BuildError(f"the virtual machine gives its file system a size that can't be: {told[:40]!r} MiB")
    (home / "room.raw").unlink()
    frame(home, want, uuid, int(told))


def _sparse(file: Path, mib: int) -> None:
    with file.open("wb") as made:
        made.truncate(mib * MIB)
