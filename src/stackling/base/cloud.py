"""One cloud: what is passed to every action's handler and every step instead of globals.

Two clouds fit in one process, which is how the tests run.
"""

from typing import Any, TypeVar, cast

from stackling.base.audit import Audit
from stackling.base.clock import Clock
from stackling.base.config import Config
from stackling.base.db import Database
from stackling.base.errors import Unavailable
from stackling.base.policy import Policy

T = TypeVar("T")


class Cloud:
    """Configuration, clock, database, policy, audit, and the drivers that were plugged in at boot."""

    def __init__(
        self, config: Config, database: Database, policy: Policy, clock: Clock | None = None
    ) -> None:
        self.config = config
        self.db = database
        self.policy = policy
        self.clock = clock or Clock()
        self.audit = Audit(database, self.clock, config.audit.days)
        self._drivers: dict[tuple[type, str], Any] = {}

    def plug(self, protocol: type[T], driver: T, *, host: str = "") -> None:
        """Make `driver` the one that `driver(protocol, host)` answers with."""
        self._drivers[protocol, host] = driver

    def unplug(self, protocol: type, *, host: str = "") -> None:
        self._drivers.pop((protocol, host), None)

    def driver(self, protocol: type[T], host: str = "") -> T:
        """The driver of `protocol` (for `host`, where each host has its own).

        Raises Unavailable when none is plugged in: the host has not joined, or not yet come back.
        """
        found = self._drivers.get((protocol, host))
        if found is None:
            raise Unavailable(
                f"Host {host} is not connected" if host else f"No {protocol.__name__} is connected"
            )
        return cast(T, found)

    def hosts(self, protocol: type) -> list[str]:
        """The hosts that have a driver of `protocol`."""
        return sorted(host for kind, host in self._drivers if kind is protocol)
