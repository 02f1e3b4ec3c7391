"""Puts a guest's trees together from unpacked packages: the root file system and the initial RAM disk."""

import os
import shutil
from pathlib import Path

from stackling.image.builder.micro.elf import needed
from stackling.image.builder.micro.recipe import Recipe
from stackling.image.builder.run import BuildError, run

_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/libexec/sudo", "usr/lib")
# The guest has one directory of programs and one of libraries; the old names are links to them.
_MERGED = {"bin": "usr/bin", "sbin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "usr/sbin": "bin"}


class Unpacked:
    """Packages as unpacked, found by the paths that files will have in the guest."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, guest_path: str) -> Path:
        """A file of the packages. Raises BuildError when none of the packages has it."""
        wanted = Path(guest_path.lstrip("/"))
        places = [wanted]
        if wanted.parent == Path("usr/bin"):
            places += [Path(directory) / wanted.name for directory in ("usr/sbin", "bin", "sbin")]
        elif wanted.parts[:2] == ("usr", "lib"):
            places.append(Path(*wanted.parts[1:]))
        for place in places:
            if (self.path / place).exists():
                return self.path / place
        raise BuildError(f"None of the recipe's packages has {guest_path}")

    def library(self, name: str, needed_by: str) -> str:
        """The guest's path of a library. Raises BuildError when it is in none of the packages."""
        for directory in _LIBRARIES:
            try:
                self.find(f"/{directory}/{name}")
            except BuildError:
                continue
            return f"/{directory}/{name}"
        raise BuildError(f"{needed_by} needs {name}; add the package that has it to the recipe")

    def kernel(self) -> tuple[Path, Path]:
        """The kernel's image and the directory of its modules."""
        images = sorted((self.path / "boot").glob("vmlinuz-*"))
        if not images:
            raise BuildError("None of the recipe's packages has a kernel")
        return images[-1], self.path / "lib/modules" / images[-1].name.removeprefix("vmlinuz-")


def make_root(recipe: Recipe, unpacked: Unpacked, root: Path, about: str) -> None:
    """Make the root file system's tree. `about` is what /etc/stackling-image says."""
    shutil.rmtree(root, ignore_errors=True)
    for name in ("usr/bin", "usr/lib", "usr/lib64", "etc"):
        (root / name).mkdir(parents=True)
    for name, target in _MERGED.items():
        (root / name).symlink_to(target)
    _copy_programs(recipe, unpacked, root)
    _copy_modules(recipe, unpacked, root)
    for name, to in recipe.links.items():
        link = root / name.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(to)
    busybox = unpacked.find("/usr/bin/busybox")
    for applet in run([busybox, "--list"]).split():
        link = root / "usr/bin" / applet
        if applet not in recipe.without_applets and not os.path.lexists(link):
            link.symlink_to("busybox")
    for name, (mode, owner) in recipe.directories.items():
        directory = root / name.lstrip("/")
        directory.mkdir(parents=True, exist_ok=True)
        os.chown(directory, owner, owner)
        directory.chmod(mode)
    _lay_files(recipe.files / "root", root)
    (root / "etc/stackling-image").write_text(about)
    (root / "sbin/init").unlink(missing_ok=True)
    (root / "sbin/init").symlink_to("busybox")
    for name, mode in recipe.modes.items():
        (root / name.lstrip("/")).chmod(mode)


def make_initrd_tree(recipe: Recipe, unpacked: Unpacked, tree: Path) -> None:
    """Make the tree of the initial RAM disk: busybox, an init script, and modules named in load order."""
    shutil.rmtree(tree, ignore_errors=True)
    for directory in ("bin", "dev", "modules", "proc", "root", "sys"):
        (tree / directory).mkdir(parents=True)
    shutil.copy(unpacked.find("/usr/bin/busybox"), tree / "bin/busybox")
    (tree / "bin/sh").symlink_to("busybox")
    for number, module in enumerate(_module_files(recipe.boot_modules, unpacked)):
        shutil.copy(module, tree / "modules" / f"{number:02}-{module.name}")
    _lay_files(recipe.files / "initrd", tree)


def _copy_programs(recipe: Recipe, unpacked: Unpacked, root: Path) -> None:
    waiting = list(recipe.programs)
    done: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        source = unpacked.find(name)
        target = root / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        target.chmod(0o755)
        libraries, loader = needed(source)
        waiting += [
            unpacked.library(library, name) for library in libraries if not library.startswith("ld-linux")
        ]
        if loader is not None:
            shutil.copy(unpacked.path / loader.lstrip("/"), root / "usr/lib64" / Path(loader).name)


def _copy_modules(recipe: Recipe, unpacked: Unpacked, root: Path) -> None:
    _, source = unpacked.kernel()
    target = root / "usr/lib/modules" / source.name
    for module in _module_files(recipe.modules, unpacked):
        place = target / module.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(module, place)
    for index in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy(source / index, target / index)
    # The guest's own depmod: the host may have none, and the guest's modprobe reads what it writes.
    run([unpacked.find("/usr/bin/busybox"), "depmod", "-b", root / "usr", source.name])


def _module_files(names: tuple[str, ...], unpacked: Unpacked) -> list[Path]:
    """The files of modules and of what they depend on, each after what it depends on; built-in ones have none."""
    _, directory = unpacked.kernel()
    built_in = {
        Path(line).stem.replace("-", "_") for line in (directory / "modules.builtin").read_text().split()
    }
    files = {path.stem.replace("-", "_"): path for path in directory.rglob("*.ko")}
    ordered: list[Path] = []

    def add(name: str) -> None:
        key = name.replace("-", "_")
        if key in built_in or files.get(key) in ordered:
            return
        if key not in files:
            raise BuildError(f"The kernel {directory.name} has no module {name}")
        for dependency in _dependencies(files[key]):
            add(dependency)
        ordered.append(files[key])

    for name in names:
        add(name)
    return ordered


def _dependencies(module: Path) -> list[str]:
    """What a module says it depends on, in its .modinfo section ("depends=a,b")."""
    data = module.read_bytes()
    at = data.find(b"\0depends=")
    if at < 0:
        return []
    at += len(b"\0depends=")
    return [name for name in data[at : data.index(b"\0", at)].decode().split(",") if name]


def _lay_files(source: Path, root: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_dir():
            continue
        target = root / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        body = path.read_bytes()
        target.write_bytes(body)
        target.chmod(0o755 if body.startswith(b"#!") else 0o644)
