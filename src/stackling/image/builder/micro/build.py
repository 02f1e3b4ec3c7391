"""One build, from recipe to finished image file."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stackling.image.builder.micro import disk
from stackling.image.builder.micro.cpio import write_initrd
from stackling.image.builder.micro.packages import Packages, unpack
from stackling.image.builder.micro.recipe import READY, Recipe
from stackling.image.builder.micro.tree import Unpacked, make_initrd_tree, make_root
from stackling.image.builder.run import BuildError, require

__all__ = ["BuildError", "BuiltImage", "build", "build_ready_image"]


@dataclass(frozen=True)
class BuiltImage:
    """A finished qcow2 image. Sizes in bytes, digests in hexadecimal, `version` that of its recipe."""

    path: Path
    size: int
    virtual_size: int
    sha512: str
    md5: str
    version: str


def build_ready_image(out: Path, *, cache: Path, progress: Callable[[str], None]) -> BuiltImage:
    """Build the ready image (a tiny cloud-aware Linux) at `out`; see `build`."""
    return build(READY, out, cache=cache, progress=progress)


def build(recipe: Recipe, out: Path, *, cache: Path, progress: Callable[[str], None]) -> BuiltImage:
    """Build an image, or return at once when `out` already is this version of the recipe.

    `cache` keeps downloaded packages between builds; `progress` is told each step in a few words. The file
    appears under its name only when it is complete, so a build may be killed and run again.

    Raises BuildError when a tool, a package or root's rights are missing.
    """
    if (built := _existing(recipe, out)) is not None:
        return built
    require({"apt-get": "apt", "dpkg-deb": "dpkg", **disk.TOOLS})
    if os.geteuid() != 0:
        raise BuildError("Building an image needs root, since its files must belong to the guest's root")
    cache.mkdir(parents=True, exist_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Another process may have built it while this one waited.
        if (built := _existing(recipe, out)) is not None:
            return built
        # What a killed build left behind.
        for leftover in cache.glob("build-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as scratch:
            return _build(recipe, out, cache, Path(scratch), progress)


def _build(
    recipe: Recipe, out: Path, cache: Path, scratch: Path, progress: Callable[[str], None]
) -> BuiltImage:
    progress(f"fetching {len(recipe.packages) + len(recipe.metapackages)} Debian packages")
    archives = Packages(cache).fetch(recipe.packages, recipe.metapackages)
    progress("unpacking")
    unpack(list(archives.values()), scratch / "unpacked")
    unpacked = Unpacked(scratch / "unpacked")
    progress("putting the root file system together")
    about = f"image {recipe.name}\nversion {recipe.version}\n"
    about += "".join(f"package {file.stem.replace('%3a', ':')}\n" for file in archives.values())
    make_root(recipe, unpacked, scratch / "root", about)
    make_initrd_tree(recipe, unpacked, scratch / "initrd.d")
    write_initrd(scratch / "initrd.d", scratch / "initrd")
    progress("writing the disk")
    kernel, _ = unpacked.kernel()
    disk.write_raw(recipe, scratch / "root", kernel, scratch / "initrd", scratch / "disk.raw")
    progress("compressing")
    finished = out.with_name(f".{out.name}.building")
    disk.write_qcow2(scratch / "disk.raw", finished)
    sha512, md5 = _digests(finished)
    built = BuiltImage(
        path=out,
        size=finished.stat().st_size,
        virtual_size=(scratch / "disk.raw").stat().st_size,
        sha512=sha512,
        md5=md5,
        version=recipe.version,
    )
    # First the old description goes: at no moment does a description stand beside an image it does not describe.
    _description(out).unlink(missing_ok=True)
    os.replace(finished, out)
    described = {name: value for name, value in vars(built).items() if name != "path"}
    _description(finished).write_text(json.dumps(described, indent=1) + "\n")
    os.replace(_description(finished), _description(out))
    progress("done")
    return built


def _existing(recipe: Recipe, out: Path) -> BuiltImage | None:
    """The image at `out` when its description says that it is this version, and its size agrees."""
    try:
        described = json.loads(_description(out).read_text())
        built = BuiltImage(path=out, **described)
        return built if built.version == recipe.version and built.size == out.stat().st_size else None
    except (OSError, ValueError, TypeError):
        return None


def _description(image: Path) -> Path:
    return image.with_name(image.name + ".json")


def _digests(path: Path) -> tuple[str, str]:
    sha512, md5 = hashlib.sha512(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(disk.MIB):
            sha512.update(chunk)
            md5.update(chunk)
    return sha512.hexdigest(), md5.hexdigest()
