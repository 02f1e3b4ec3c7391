"""Builds images on this host, confined (`image.builder`)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stackling.image.builder import line
from stackling.image.builder.recipe import Recipe
from stackling.image.builder.work import Work
from stackling.image.driver import Told


class LocalBuilder:
    """`cache` keeps packages, `hide` are directories that no build may see, `accel` is how tests boot (kvm or tcg)."""

    def __init__(
        self,
        *,
        cache: Path,
        hide: Sequence[Path],
        mirrors: Mapping[str, str],
        keyring: Path | None,
        accel: str,
    ) -> None:
        self._cache, self._hide, self._mirrors = cache, hide, mirrors
        self._keyring, self._accel = keyring, accel

    def build(self, recipe: Recipe, directory: Path, *, stop: Callable[[], bool]) -> Told:
        work = Work(
            directory,
            cache=self._cache,
            hide=self._hide,
            mirrors=self._mirrors,
            keyring=self._keyring,
            stop=stop,
        )
        built = line.build(recipe, work, accel=self._accel)
        return Told(properties=built.properties, min_ram=recipe.memory_mib)
