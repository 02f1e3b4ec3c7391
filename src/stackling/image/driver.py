"""What builds images: a host's tools, or a fake for tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from stackling.image.builder.recipe import Recipe


class Told(Struct, frozen=True):
    """What is known of a built image besides its file. `min_ram` in MiB."""

    properties: dict[str, str]
    min_ram: int


class Builder(Protocol):
    """Builds an image on this host. May be repeated; what an earlier run left is cleared away."""

    def build(self, recipe: Recipe, directory: Path, *, in_machine: bool, stop: Callable[[], bool]) -> Told:
        """Have the tested image as `directory/image.qcow2`, with `log`, `progress.json` and `packages.json` beside it.

        `in_machine`: nothing of it runs but in virtual machines, within the limits of those who aren't trusted.

        Raises BuildError (why there is no image), Stopped (`stop()` says that nobody wants it any more).
        """
