"""A builder without a host: its images are blank disks, and what it does with a recipe can be chosen."""

import json
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from stackling.image.builder import BuildError
from stackling.image.builder.confine import Stopped
from stackling.image.builder.recipe import Recipe
from stackling.image.driver import Told


class FakeBuilder:
    """`fail` is the reason why builds fail; while `hold` is set, they take until it isn't, or nobody wants them."""

    def __init__(self) -> None:
        self.fail: str | None = None
        self.hold = threading.Event()
        self.built: list[str] = []
        self.in_machine: list[str] = []  # of those, which were built in a virtual machine

    def build(self, recipe: Recipe, directory: Path, *, in_machine: bool, stop: Callable[[], bool]) -> Told:
        directory.mkdir(parents=True, exist_ok=True)
        self._tell(directory, 10, f"building {recipe.name}")
        while self.hold.is_set():
            if stop():
                raise Stopped
            threading.Event().wait(0.01)
        if stop():
            raise Stopped
        if self.fail is not None:
            self._tell(directory, 100, f"failed: {self.fail}")
            raise BuildError(self.fail)
        self.built.append(recipe.name)
        if in_machine:
            self.in_machine.append(recipe.name)
        (directory / "image.qcow2").write_bytes(_blank(1 << 20, len(self.built)))
        (directory / "packages.json").write_text(json.dumps({"spdxVersion": "SPDX-2.3", "packages": []}))
        self._tell(directory, 100, "done")
        properties = {
            **recipe.properties,
            "stackling_recipe": recipe.name,
            "stackling_recipe_digest": recipe.digest,
        }
        return Told(properties=properties, min_ram=recipe.memory_mib)

    def _tell(self, directory: Path, percent: int, says: str) -> None:
        with (directory / "log").open("a") as log:
            log.write(says + "\n")
        (directory / "progress.json").write_text(json.dumps({"progress": percent, "says": says}))


def _blank(size: int, number: int) -> bytes:
    """An empty qcow2 disk (version 2), different for each `number`."""
    head = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, 16, size, 0, 1, 0x30000, 0x10000, 1, 0, 0)
    return head.ljust(0x40000, b"\0") + struct.pack(">Q", number)
