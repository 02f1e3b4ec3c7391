"""The hypervisor of another host, through its node agent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from stackling.base.rpc import Interface, Remote, Transport
from stackling.compute.driver import (
    DeviceBusy,
    DomainFailed,
    DomainMissing,
    HostUnavailable,
    Hypervisor,
    NotReady,
    Watcher,
)

if TYPE_CHECKING:
    from stackling.compute.driver import Changes

log = structlog.get_logger(__name__)

INTERFACE = Interface(
    "hypervisor",
    Hypervisor,
    errors=(HostUnavailable, NotReady, DeviceBusy, DomainMissing, DomainFailed),
    unavailable=HostUnavailable,
    local=frozenset({"watch"}),
)
POLL_SECONDS = 25.0
RETRY_SECONDS = 2.0


class _RemoteHypervisor(Remote):
    """All methods but one are made from the protocol."""

    if TYPE_CHECKING:
        # Set by `Remote`; here for `watch`.
        changes: Callable[..., Changes]

    def __init__(self, transport: Transport) -> None:
        super().__init__(INTERFACE, transport)

    def watch(self, callback: Watcher) -> Callable[[], None]:
        """See `Hypervisor.watch`: a thread that waits for the node's changes."""
        stop = threading.Event()

        def follow() -> None:
            cursor = ""
            while not stop.is_set():
                try:
                    news = self.changes(cursor, POLL_SECONDS if cursor else 0.0)
                except HostUnavailable:
                    stop.wait(RETRY_SECONDS)
                    continue
                cursor = news.cursor
                for change in news.changes:
                    if not stop.is_set():
                        callback(change.id, change.power)
                if not news.complete:
                    log.info("hypervisor.changes_lost", cursor=cursor)

        threading.Thread(target=follow, name="remote-watch", daemon=True).start()
        return stop.set


def remote_hypervisor(transport: Transport) -> Hypervisor:
    """The hypervisor at the other end of `transport`."""
    far: Hypervisor = _RemoteHypervisor(transport)  # type: ignore[assignment]
    return far
