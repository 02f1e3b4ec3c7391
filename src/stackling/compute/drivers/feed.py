"""A bounded stream of power changes with a cursor: what `Hypervisor.changes` and `watch` are made of."""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Callable

from stackling.compute.driver import Change, Changes, Power, Watcher

KEPT = 1000


class Feed:
    """The last changes of one hypervisor. A restart makes a new feed, whose cursors fit no other."""

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex[:12]
        self._count = 0
        self._kept: deque[Change] = deque(maxlen=KEPT)
        self._watchers: list[Watcher] = []
        self._news = threading.Condition()

    def tell(self, id: str, power: Power | None) -> None:
        """Something changed."""
        with self._news:
            self._count += 1
            self._kept.append(Change(id=id, power=power))
            self._news.notify_all()
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher(id, power)

    def changes(self, after: str = "", wait: float = 0.0) -> Changes:
        """See `Hypervisor.changes`."""
        feed, _, number = after.partition(":")
        with self._news:
            if feed != self._id or not number.isdecimal():
                return Changes(cursor=f"{self._id}:{self._count}", complete=after == "")
            seen = int(number)
            self._news.wait_for(lambda: self._count > seen, timeout=wait)
            missed = self._count - seen
            recent = tuple(self._kept)[-missed:] if missed > 0 else ()
            return Changes(
                cursor=f"{self._id}:{self._count}", changes=recent, complete=missed <= len(self._kept)
            )

    def watch(self, callback: Watcher) -> Callable[[], None]:
        """See `Hypervisor.watch`."""
        with self._news:
            self._watchers.append(callback)

        def stop() -> None:
            with self._news:
                if callback in self._watchers:
                    self._watchers.remove(callback)

        return stop
