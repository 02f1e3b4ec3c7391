"""From a recipe to a tested image file: the steps of one build, in their order."""

import hashlib
import uuid
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from stackling.image.builder import appliance, debian, disk, installer, machine, trial
from stackling.image.builder.cloudify import inspected
from stackling.image.builder.debian import Package
from stackling.image.builder.micro.build import build_ready_image
from stackling.image.builder.recipe import MIB, InvalidRecipe, Recipe, plain
from stackling.image.builder.run import BuildError, require
from stackling.image.builder.work import Work, own

_SECONDS = 3600.0


class Built(Struct, frozen=True):
    """An image that passed its test. Sizes in bytes, MiB for memory; the file is qcow2."""

    path: Path
    size: int
    virtual_size: int
    sha512: str
    recipe: Recipe
    packages: list[Package]

    @property
    def properties(self) -> dict[str, str]:
        """What the image says of itself in the image service."""
        told = {
            **self.recipe.properties,
            "stackling_recipe": self.recipe.name,
            "stackling_recipe_digest": self.recipe.digest,
        }
        if self.packages:
            told["stackling_packages_digest"] = packages_digest(self.packages)
        return told


def packages_digest(packages: list[Package]) -> str:
    """SHA-256 over all packages: equal for equal content."""
    told = "".join(f"{p.name} {p.version} {p.architecture} {p.sha256}\n" for p in packages)
    return hashlib.sha256(told.encode()).hexdigest()


def build(recipe: Recipe, work: Work, *, accel: str = "tcg") -> Built:
    """Build and test an image; the file is `work.directory/image.qcow2`, beside it `packages.json` (SPDX).

    With `work.limits` the recipe is a tenant's: it is held to them, and made in a virtual machine (`appliance`).

    Raises BuildError (why there is no image), Stopped (nobody wants it any more). Either leaves no image.
    """
    image = work.directory / "image.qcow2"
    image.unlink(missing_ok=True)
    work.begin()
    try:
        if work.limits is not None:
            work.limits.check(recipe)
        work.say(1, f"building {recipe.name} (recipe {recipe.digest[:12]})")
        made, packages = _make(recipe, work, accel)
        _judge(made)
        trial.try_out(recipe, work, made, accel=accel)
        _judge(made)
        work.say(95, "keeping the image")
        (work.directory / "packages.json").write_bytes(msgspec.json.encode(sbom(recipe, packages)))
        made.replace(image)
        built = _described(image, recipe, packages)
        work.say(100, f"done: {built.size >> 20} MiB, SHA-512 {built.sha512[:16]}…")
        return built
    except (BuildError, InvalidRecipe) as e:
        work.say_last(f"failed: {e}")
        raise BuildError(str(e)) from e
    finally:
        work.end()


def _make(recipe: Recipe, work: Work, accel: str) -> tuple[Path, list[Package]]:
    made = work.scratch / "disk.qcow2"
    if recipe.kind == "micro":
        require({**trial.TOOLS})
        work.say(10, "building the tiny image")
        tiny = build_ready_image(
            work.cache / "micro" / "ready.qcow2",
            cache=work.cache / "micro" / "cache",
            progress=lambda s: work.say(20, s),
        )
        made.write_bytes(tiny.path.read_bytes())
        own(made)
        return made, []
    if recipe.kind == "installer":
        require({**installer.TOOLS, **trial.TOOLS})
        installer.install(recipe, work, accel=accel)
        packages: list[Package] = []
    else:
        require({**debian.TOOLS, **disk.TOOLS, **machine.TOOLS})
        disk.require_grub(recipe.disk)
        packages = debian.fetch(recipe, work)
        # The same recipe and packages give the same names inside the image.
        name = str(uuid.uuid5(uuid.NAMESPACE_OID, recipe.digest + packages_digest(packages)))
        if work.limits is not None:
            appliance.construct(recipe, work, name, work.limits, accel=accel)
        else:
            _install(recipe, work, name)
    work.say(62, "compressing")
    arguments = {"disk": str(work.scratch / "disk.raw"), "out": str(made)}
    work.confined(
        [], "Compressing", call=("stackling.image.builder.disk:compress", arguments), seconds=_SECONDS
    )
    return made, packages


def _install(recipe: Recipe, work: Work, name: str) -> None:
    """Write the disk of a recipe that is trusted with the host, as far as it is confined."""
    debian.install(recipe, work, name)
    work.say(55, "writing the disk")
    written = {"scratch": str(work.scratch), "disk": msgspec.to_builtins(recipe.disk), "uuid": name}
    work.confined(
        [], "Writing the disk", call=("stackling.image.builder.disk:write", written), seconds=_SECONDS
    )


def _judge(made: Path) -> None:
    """What comes out of a virtual machine is a stranger's file, until it was looked at. Raises BuildError."""
    if made.is_symlink() or not made.is_file():
        raise BuildError("The image is no file")
    inspected(made)


def _described(image: Path, recipe: Recipe, packages: list[Package]) -> Built:
    digest = hashlib.sha512()
    with image.open("rb") as file:
        # The virtual size stands at byte 24 of a qcow2 file (QEMU, docs/interop/qcow2.txt).
        head = file.read(32)
        file.seek(0)
        while chunk := file.read(MIB):
            digest.update(chunk)
    return Built(
        path=image,
        size=image.stat().st_size,
        virtual_size=int.from_bytes(head[24:32], "big"),
        sha512=digest.hexdigest(),
        recipe=recipe,
        packages=packages,
    )


def sbom(recipe: Recipe, packages: list[Package]) -> dict[str, Any]:
    """The packages of an image as an SPDX 2.3 document."""
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": recipe.name,
        "documentNamespace": f"urn:stackling:recipe:{recipe.digest}:{packages_digest(packages)}",
        "creationInfo": {"creators": ["Tool: stackling"], "created": "1970-01-01T00:00:00Z"},
        "comment": msgspec.json.encode(plain(recipe)).decode(),
        "packages": [
            {
                "SPDXID": f"SPDXRef-Package-{number}",
                "name": package.name,
                "versionInfo": package.version,
                "downloadLocation": "NOASSERTION",
                "filesAnalyzed": False,
                "checksums": [{"algorithm": "SHA256", "checksumValue": package.sha256}],
                "externalRefs": [
                    {
                        "referenceCategory": "PACKAGE-MANAGER",
                        "referenceType": "purl",
                        "referenceLocator": f"pkg:deb/{recipe.distribution}/{package.name}@{package.version}"
                        f"?arch={package.architecture}&distro={recipe.release}",
                    }
                ],
            }
            for number, package in enumerate(packages)
        ],
    }
