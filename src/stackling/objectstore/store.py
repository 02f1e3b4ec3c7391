"""The stores of one cloud: one for each storage policy of its configuration."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stackling.base.cloud import Cloud
from stackling.base.config import ConfigError
from stackling.base.errors import Unavailable
from stackling.objectstore.driver import Store
from stackling.objectstore.drivers.file import FileStore


@contextmanager
def reachable() -> Iterator[None]:
    """What a store can't do just now is Unavailable; a full one stays an OSError, of which the REST layer says more."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Unavailable(
            "The object's data can't be reached just now; try again.", detail=repr(error)
        ) from error


class Stores:
    """All stores by the names of their policies; the first policy is the default one."""

    def __init__(self, cloud: Cloud) -> None:
        home, policies = Path(cloud.config.paths.state_dir), cloud.config.objectstore.policies
        self.names = [policy.name for policy in policies]
        if len({name.lower() for name in self.names}) != len(self.names):
            raise ConfigError("[objectstore] policies: two storage policies have the same name")
        self.default = self.names[0]
        self._stores: dict[str, Store] = {}
        for policy in policies:
            own = "objects" if policy.name == self.default else f"objects-{policy.name}"
            self._stores[policy.name] = FileStore(Path(policy.directory) if policy.directory else home / own)

    def __getitem__(self, policy: str) -> Store:
        found = self._stores.get(policy)
        if found is None:
            raise Unavailable(
                f"Storage policy {policy} is no longer configured; its operator has to say where it is."
            )
        return found

    def called(self, name: str) -> str | None:
        """The policy of that name, however its letters are written; None: there is none."""
        return next((known for known in self.names if known.lower() == name.lower()), None)


def of(cloud: Cloud) -> Stores:
    """The stores of a cloud."""
    return Stores(cloud)
