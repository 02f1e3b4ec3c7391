"""Builds images on this host, confined, or in a virtual machine (`image.builder`)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stackling.image.builder import debian, line
from stackling.image.builder.limits import Limits
from stackling.image.builder.recipe import Recipe
from stackling.image.builder.work import Work
from stackling.image.driver import Told


class LocalBuilder:
    """`cache` keeps packages (GiB: `kept`), `hide` are directories that no build may see, `accel` is how virtual machines run (kvm or tcg),
    and `limits` are those of builds in one."""

    def __init__(
        self,
        *,
        cache: Path,
        hide: Sequence[Path],
        mirrors: Mapping[str, str],
        keyring: Path | None,
        accel: str,
        limits: Limits,
        kept: int,
    ) -> None:
        self._cache, self._hide, self._mirrors = cache, hide, mirrors
        self._keyring, self._accel, self._limits, self._kept = keyring, accel, limits, kept

    def build(self, recipe: Recipe, directory: Path, *, in_machine: bool, stop: Callable[[], bool]) -> Told:
        work = Work(
            directory,
            cache=self._cache,
            hide=self._hide,
            mirrors=self._mirrors,
            keyring=self._keyring,
            limits=self._limits if in_machine else None,
            stop=stop,
        )
        try:
            built = line.build(recipe, work, accel=self._accel)
        finally:
            debian.prune(self._cache, self._kept << 30)
        return Told(properties=built.properties, min_ram=recipe.memory_mib)
