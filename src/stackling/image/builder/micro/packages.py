"""Debian packages for a recipe: fetched by apt (which checks signatures and hashes) and unpacked.

The host's own apt sources and package lists are used; when they are missing or stale, a private copy of the
lists is kept in the build's cache, so that nothing on the host changes.
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stackling.image.builder.run import BuildError, run


class Packages:
    """The packages of one build. `cache` keeps downloaded .deb files and, if needed, apt's lists."""

    def __init__(self, cache: Path) -> None:
        self._archives = cache / "archives"
        self._lists = cache / "apt"
        self._archives.mkdir(parents=True, exist_ok=True)
        self._options: list[str] = []

    def fetch(self, names: Sequence[str], metapackages: Sequence[str]) -> dict[str, Path]:
        """Download packages, and what each metapackage depends on; package file by package name.

        Raises BuildError when apt cannot get them (no network, no such package).
        """
        try:
            return self._fetch(names, metapackages)
        except BuildError:
            # The host's lists are absent or name versions that the mirror no longer has: look afresh.
            self._update()
            return self._fetch(names, metapackages)

    def _fetch(self, names: Sequence[str], metapackages: Sequence[str]) -> dict[str, Path]:
        wanted = list(names)
        for metapackage in metapackages:
            wanted += self._dependencies(metapackage)
        run(
            ["apt-get", *self._options, "-q", "-o", "APT::Sandbox::User=root", "download", *wanted],
            cwd=self._archives,
        )
        versions = self._versions(wanted)
        return {name: self._downloaded(name, versions.get(name, "unknown")) for name in wanted}

    def _dependencies(self, metapackage: str) -> list[str]:
        printed = run(["apt-cache", *self._options, "depends", "--important", metapackage])
        found = [line.split()[-1] for line in printed.splitlines() if line.strip().startswith("Depends:")]
        if not found:
            raise BuildError(f"apt knows no package {metapackage}; check the host's apt sources")
        return found

    def _update(self) -> None:
        (self._lists / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (self._lists / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        self._options = [
            f"-oDir::State::Lists={self._lists / 'lists'}",
            f"-oDir::Cache={self._lists / 'cache'}",
        ]
        run(["apt-get", *self._options, "-q", "-o", "APT::Sandbox::User=root", "update"])

    def _versions(self, names: Sequence[str]) -> dict[str, str]:
        """The version of each package that apt would take."""
        printed = run(["apt-cache", *self._options, "show", "--no-all-versions", *names])
        fields = [
            line.split(": ", 1)
            for line in printed.splitlines()
            if line.startswith(("Package: ", "Version: "))
        ]
        packages = [value for key, value in fields if key == "Package"]
        return dict(zip(packages, [value for key, value in fields if key == "Version"], strict=True))

    def _downloaded(self, name: str, version: str) -> Path:
        """The file just downloaded (or confirmed) for a package; files of other versions are removed."""
        fresh = list(self._archives.glob(f"{name}_{version.replace(':', '%3a')}_*.deb"))
        if not fresh:
            raise BuildError(f"apt did not deliver {name} {version}")
        for old in self._archives.glob(f"{name}_*.deb"):
            if old != fresh[0]:
                old.unlink(missing_ok=True)
        return fresh[0]


def unpack(archives: Sequence[Path], into: Path) -> None:
    """Unpack package files (no maintainer scripts run) into one tree."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    with ThreadPoolExecutor(2) as pool:
        # Listing the results raises the first error.
        list(pool.map(lambda archive: run(["dpkg-deb", "-x", archive, into]), archives))
