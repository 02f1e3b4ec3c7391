"""Writes a bootable disk from a tree, with no mount and no loop device: GPT, GRUB for BIOS and for UEFI.

GRUB is whole in itself (all modules it needs are in its core) and reads /boot/grub/grub.cfg of the root file system, so
an image of any age boots, and needs no boot loader's packages.
"""

import os
import struct
from pathlib import Path

import msgspec

from stackling.image.builder.recipe import MIB, Disk
from stackling.image.builder.run import BuildError, run

#: Commands a disk needs, and the Debian packages that have them.
TOOLS = {
    "grub-mkimage": "grub-common",
    "mcopy": "mtools",
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "qemu-img": "qemu-utils",
    "sfdisk": "fdisk",
}
_GRUB = Path("/usr/lib/grub")
_MODULES = (
    *("part_gpt", "part_msdos", "ext2", "fat", "normal", "configfile", "linux", "search", "search_fs_uuid"),
    *("search_label", "test", "echo", "minicmd", "gzio", "lzopio", "xzio", "serial", "terminal", "boot"),
    *("reboot", "halt", "ls", "cat"),
)
_BIOS_MIB, _ESP_MIB = 1, 16
_BIOS_TYPE = "21686148-6449-6E6F-744E-656564454649"
_ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_ROOT_TYPE = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"  # Linux root (x86-64)
_SECTOR = 512
_INODES, _JOURNAL_MIB = 1.06, 80
# Up to 128 GiB by growing online in one go (blocks of 4 KiB); the kernel goes on from there by itself.
_RESIZE_BLOCKS = 33554432


def require_grub(disk: Disk) -> None:
    """Raises BuildError naming the package that is missing."""
    for boot, place, package in (
        ("bios", "i386-pc", "grub-pc-bin"),
        ("uefi", "x86_64-efi", "grub-efi-amd64-bin"),
    ):
        if boot in disk.boot and not (_GRUB / place / "kernel.img").exists():
            raise BuildError(f"Booting by {boot} needs GRUB's files; install with: apt-get install {package}")


def start_mib(disk: Disk) -> int:
    """Where the root file system begins, MiB."""
    return 1 + sum(_loaders(disk).values())


def _loaders(disk: Disk) -> dict[str, int]:
    """What stands before the root file system, by way of booting, MiB each."""
    return {name: size for name, size in (("bios", _BIOS_MIB), ("uefi", _ESP_MIB)) if name in disk.boot}


def fixed_root_mib(disk: Disk) -> int | None:
    """The size of the root file system where the disk's is given; else its content decides."""
    return None if disk.size_mib is None else disk.size_mib - sum(_loaders(disk).values())


def write(scratch: str, disk: dict[str, object], uuid: str) -> None:
    """Write `scratch/disk.raw` from `scratch/root` (run confined, where the tree's owners are who they should be).

    `uuid` names the root file system; disk and partitions have names made from it.
    """
    place, want = Path(scratch), msgspec.convert(disk, Disk)
    root, out = place / "root", place / "disk.raw"
    root_mib = fixed_root_mib(want) or content_mib(root) + want.spare_mib
    frame(place, want, uuid, root_mib)
    run([*mke2fs(want, uuid, root, start_mib(want)), out, f"{root_mib}M"])


def frame(place: Path, want: Disk, uuid: str, root_mib: int) -> None:
    """Give `place/disk.raw` everything but its root file system, which may be there: partitions and boot loaders."""
    out, start = place / "disk.raw", start_mib(want)
    sizes = {**_loaders(want), "root": root_mib}
    kinds = {"bios": _BIOS_TYPE, "uefi": _ESP_TYPE, "root": _ROOT_TYPE}
    layout = [f"label: gpt\nlabel-id: {_derived(uuid, 0)}\n"]
    starts: dict[str, int] = {}
    at = 1
    for name, size in sizes.items():
        starts[name] = at
        layout.append(
            f"start={at}MiB, size={size}MiB, type={kinds[name]}, uuid={_derived(uuid, len(layout))}, name={name}\n"
        )
        at += size
    with out.open("r+b" if out.exists() else "wb") as file:
        # Nothing stands outside the root file system but what is written here.
        file.truncate(at * MIB)
        file.truncate((at + 1) * MIB)
        file.write(bytes(start * MIB))
    run(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", out], stdin="".join(layout))
    if "bios" in starts:
        _write_bios(place, out, starts["bios"], uuid)
    if "uefi" in starts:
        _write_uefi(place, out, starts["uefi"], uuid)


def mke2fs(want: Disk, uuid: str, root: Path, start: int) -> list[str | Path]:
    """The command that makes the root file system from a tree, without its last words: where to, and its size."""
    features = ["-O", ",".join(want.features)] if want.features else []
    extended = f"offset={start * MIB},resize={_RESIZE_BLOCKS},hash_seed={uuid},root_owner=0:0"
    return [
        *("mke2fs", "-q", "-F", "-t", want.filesystem, *features, "-L", "cloud-root", "-U", uuid),
        *("-b", "4096", "-m", "1", "-d", root, "-E", extended),
    ]


def compress(disk: str, out: str, kind: str = "raw") -> None:
    """A disk of format `kind` as a compressed qcow2 file (run confined)."""
    run(["qemu-img", "convert", "-q", "-f", kind, "-O", "qcow2", "-c", "-W", "-m", "4", disk, out])


def content_mib(root: Path) -> int:
    """The room that a tree takes as a file system."""
    total = 0
    for directory, _, files in os.walk(root):
        total += 4096 + sum(
            (os.lstat(os.path.join(directory, f)).st_size + 4095) // 4096 * 4096 for f in files
        )
    return int(total * _INODES / MIB) + _JOURNAL_MIB


def content_mib_told(root: Path) -> str:
    """The same as a shell's word, for a tree that only a virtual machine sees."""
    each = '{ n += $1 == "d" ? 4096 : int(($2 + 4095) / 4096) * 4096 }'
    end = f"END {{ print int(n * {_INODES} / {MIB}) + {_JOURNAL_MIB} }}"
    return f"$(find {root} -printf '%y %s\\n' | awk '{each} {end}')"


def _derived(uuid: str, number: int) -> str:
    return f"{int(uuid[:8], 16) ^ (number + 1):08x}{uuid[8:]}"


def _early(place: Path, uuid: str) -> Path:
    file = place / "early.cfg"
    file.write_text(
        f"search --no-floppy --fs-uuid --set=root {uuid}\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n"
    )
    return file


def _write_bios(place: Path, out: Path, start_mib: int, uuid: str) -> None:
    """GRUB's boot sector, told where its core is; the core, told where its own rest is.

    The two places are those that grub-bios-setup writes (GRUB, include/grub/i386/pc/boot.h): the core's sector at 0x5c
    of the boot sector, and the first entry of the list of blocks at the end of the core's first sector.
    """
    core = place / "core.img"
    run(
        [
            "grub-mkimage",
            "-O",
            "i386-pc",
            "-o",
            core,
            "-p",
            "/boot/grub",
            "-c",
            _early(place, uuid),
            "biosdisk",
            *_MODULES,
        ]
    )
    image = bytearray(core.read_bytes())
    sector = start_mib * MIB // _SECTOR
    struct.pack_into("<Q", image, _SECTOR - 12, sector + 1)
    boot = bytearray((_GRUB / "i386-pc" / "boot.img").read_bytes()[:440])
    struct.pack_into("<Q", boot, 0x5C, sector)
    if len(image) > _BIOS_MIB * MIB:
        raise BuildError("GRUB's core is too large for its partition")
    with out.open("r+b") as file:
        file.write(boot)
        file.seek(sector * _SECTOR)
        file.write(image)


def _write_uefi(place: Path, out: Path, start_mib: int, uuid: str) -> None:
    loader = place / "bootx64.efi"
    run(
        [
            "grub-mkimage",
            "-O",
            "x86_64-efi",
            "-o",
            loader,
            "-p",
            "/boot/grub",
            "-c",
            _early(place, uuid),
            "efi_gop",
            "efi_uga",
            "all_video",
            *_MODULES,
        ]
    )
    sector = start_mib * MIB // _SECTOR
    run(
        [
            "mkfs.vfat",
            "--invariant",
            "-F",
            "16",
            "-n",
            "EFI",
            "-h",
            str(sector),
            "--offset",
            str(sector),
            out,
            str(_ESP_MIB * 1024),
        ]
    )
    at = f"{out}@@{start_mib}M"
    skip = {"MTOOLS_SKIP_CHECK": "1"}
    run(["mmd", "-i", at, "::/EFI", "::/EFI/BOOT"], environment=skip)
    run(["mcopy", "-i", at, loader, "::/EFI/BOOT/BOOTX64.EFI"], environment=skip)
