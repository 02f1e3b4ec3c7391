"""Writes a bootable disk from trees, with no mount and no loop device.

MBR, first partition FAT16 with syslinux, kernel and initial RAM disk, second partition ext4 with the root tree.
"""

import math
from pathlib import Path

from stackling.image.builder.micro.recipe import Recipe
from stackling.image.builder.run import BuildError, run

MIB = 1 << 20
ROOT_LABEL = "stackling-root"
#: Commands a disk needs, and the Debian packages that have them.
TOOLS = {
    "mcopy": "mtools",
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "qemu-img": "qemu-utils",
    "sfdisk": "fdisk",
    "syslinux": "syslinux",
}
_MBR = Path("/usr/lib/SYSLINUX/mbr.bin")
# Equal inputs give equal disks: no clock and no random identifiers in file systems.
_FIXED = {"SOURCE_DATE_EPOCH": "1700000000", "E2FSPROGS_FAKE_TIME": "1700000000", "MTOOLS_SKIP_CHECK": "1"}
_UUID = "5bd6a3e1-7a0c-4b57-9a3b-0c1d57ac8710"
# Up to 128 GiB by growing online in one go (blocks of 4 KiB); the kernel goes on from there by itself.
_RESIZE_BLOCKS = 33554432


def write_raw(recipe: Recipe, root: Path, kernel: Path, initrd: Path, out: Path) -> None:
    """Write the raw disk. The root partition is as big as its content and the recipe's spare room."""
    if not _MBR.exists():
        raise BuildError(
            "Building an image needs syslinux's boot record; install with: apt-get install syslinux"
        )
    content = sum(
        math.ceil(path.lstat().st_size / 4096) * 4096 for path in root.rglob("*") if not path.is_symlink()
    )
    # 6 % and 8 MiB for inodes and the journal.
    root_mib = math.ceil(content * 1.06 / MIB) + 8 + recipe.spare_mib
    boot_start, root_start = 1, 1 + recipe.boot_mib
    out.unlink(missing_ok=True)
    with out.open("wb") as disk:
        disk.truncate((root_start + root_mib) * MIB)
        disk.write(_MBR.read_bytes()[:440])
    run(
        ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", out],
        stdin=(
            "label: dos\nlabel-id: 0x5bd6a3e1\n"
            f"start={boot_start}MiB, size={recipe.boot_mib}MiB, type=6, bootable\n"
            f"start={root_start}MiB, type=83\n"
        ),
    )
    _write_boot(recipe, kernel, initrd, out, boot_start)
    _write_root(root, out, root_start, root_mib)


def write_qcow2(raw: Path, out: Path) -> None:
    """Compress a raw disk into a qcow2 file."""
    run(["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", "-c", "-W", "-m", "4", raw, out])


def _write_boot(recipe: Recipe, kernel: Path, initrd: Path, disk: Path, start_mib: int) -> None:
    settings = disk.with_suffix(".cfg")
    settings.write_text(
        "DEFAULT linux\nPROMPT 0\nTIMEOUT 0\nLABEL linux\n"
        f"  KERNEL /vmlinuz\n  INITRD /initrd\n  APPEND {recipe.kernel_arguments}\n"
    )
    sector = start_mib * MIB // 512
    run(
        [
            *("mkfs.vfat", "--invariant", "-F", "16", "-s", "8", "-n", "BOOT", "-h", str(sector)),
            *("--offset", str(sector), disk, str(recipe.boot_mib * 1024)),
        ]
    )
    run(["syslinux", "--install", "--offset", str(start_mib * MIB), disk])
    at = f"{disk}@@{start_mib}M"
    for source, name in ((settings, "syslinux.cfg"), (kernel, "vmlinuz"), (initrd, "initrd")):
        run(["mcopy", "-i", at, source, f"::/{name}"], environment=_FIXED)
    settings.unlink()


def _write_root(root: Path, disk: Path, start_mib: int, size_mib: int) -> None:
    run(
        [
            *("mke2fs", "-q", "-F", "-t", "ext4", "-L", ROOT_LABEL, "-U", _UUID, "-b", "4096", "-m", "1"),
            *("-i", "16384", "-J", "size=4", "-d", root),
            *("-E", f"offset={start_mib * MIB},resize={_RESIZE_BLOCKS},hash_seed={_UUID},root_owner=0:0"),
            *(disk, f"{size_mib}M"),
        ],
        environment=_FIXED,
    )
