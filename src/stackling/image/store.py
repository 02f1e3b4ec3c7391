"""The stores of one cloud, as its configuration names them.

[[image.stores]]
name = "archive"
directory = "/mnt/archive"
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stackling.base.cloud import Cloud
from stackling.base.config import Config, ConfigError, ImageStore
from stackling.image.data_driver import Store
from stackling.image.drivers.file import FileStore


class Stores:
    """All stores, the heaviest first. `staging` is where data waits for its import or is worked on."""

    def __init__(self, config: Config) -> None:
        home, image = Path(config.paths.state_dir), config.image
        self.config: dict[str, ImageStore] = {
            s.name: s for s in sorted(image.stores, key=lambda s: -s.weight)
        }
        self._writable: dict[str, Store] = {
            s.name: FileStore(_directory(home, s)) for s in self.config.values() if s.type == "file"
        }
        if len(self.config) != len(image.stores):
            raise ConfigError("[image] stores: two stores have the same name")
        if image.default_store not in self._writable:
            raise ConfigError(
                f"[image] default_store: {image.default_store!r} is no store that data can be sent to"
            )
        self.default = image.default_store
        self.staging = FileStore(home / "images-staging")

    def __getitem__(self, name: str) -> Store:
        return self._writable[name]

    @property
    def names(self) -> list[str]:
        return list(self.config)

    @property
    def writable(self) -> list[str]:
        """Names of the stores that data can be sent to."""
        return list(self._writable)

    @property
    def web(self) -> str | None:
        """The store of images whose data stays at a URL; None: there is none."""
        return next((s.name for s in self.config.values() if s.type == "http"), None)

    def ordered(self, names: Iterable[str]) -> list[str]:
        """Names of stores in the order in which they are read; those that are no longer configured come last."""
        wanted = set(names)
        return [n for n in self.config if n in wanted] + sorted(wanted - set(self.config))

    def path(self, image_id: str) -> Path | None:
        """A file on this machine with the image's bytes; None: there is none."""
        found = (self._writable[n].path(image_id) for n in self._writable)
        return next((p for p in found if p is not None and p.exists()), None)

    def remove(self, image_id: str) -> None:
        """No data of the image is left anywhere."""
        for store in (*self._writable.values(), self.staging):
            store.remove(image_id)


def _directory(home: Path, store: ImageStore) -> Path:
    if store.directory:
        return Path(store.directory)
    return home / ("images" if store.name == "file" else f"images-{store.name}")


def of(cloud: Cloud) -> Stores:
    """The stores of a cloud."""
    return Stores(cloud.config)
