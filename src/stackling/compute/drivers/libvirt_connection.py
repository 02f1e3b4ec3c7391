"""One connection to libvirtd that comes back by itself, and the words for its errors.

libvirt's event loop is one per process, so it is started once and shared by all connections.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import libvirt
import structlog

from stackling.compute.driver import DomainFailed, DomainMissing, HostUnavailable

log = structlog.get_logger(__name__)

KEEPALIVE_SECONDS, KEEPALIVE_MISSES = 5, 4
RECONNECT_SECONDS = 1.0
_GONE = {
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_INVALID_CONN,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_AUTH_FAILED,
}
_LATER = {
    libvirt.VIR_ERR_OPERATION_TIMEOUT,
    libvirt.VIR_ERR_RESOURCE_BUSY,
    libvirt.VIR_ERR_OPERATION_ABORTED,
    libvirt.VIR_ERR_NO_MEMORY,
}

_loop_lock = threading.Lock()
_loop_runs = False

LifecycleCallback = Callable[[str, int, int], None]


def _start_loop() -> None:
    global _loop_runs
    with _loop_lock:
        if _loop_runs:
            return
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        libvirt.virEventRegisterDefaultImpl()

        def run() -> None:
            while True:
                libvirt.virEventRunDefaultImpl()

        threading.Thread(target=run, name="libvirt-events", daemon=True).start()
        _loop_runs = True


class LibvirtConnection:
    """libvirtd on this host, or HostUnavailable while it is away.

    `on_lifecycle(domain name, event, detail)` is called from the event thread and must not call libvirt;
    `on_reconnect()` from a thread of its own, after events may have been lost.
    """

    def __init__(self, uri: str, on_lifecycle: LifecycleCallback, on_reconnect: Callable[[], None]) -> None:
        self._uri = uri
        self._on_lifecycle = on_lifecycle
        self._on_reconnect = on_reconnect
        self._lock = threading.Lock()
        self._conn: libvirt.virConnect | None = None
        self._lost = threading.Event()
        self._closed = threading.Event()
        _start_loop()
        threading.Thread(target=self._keep, name="libvirt-reconnect", daemon=True).start()

    def get(self) -> libvirt.virConnect:
        """The open connection. HostUnavailable: libvirtd does not answer."""
        with self._lock:
            if self._conn is not None:
                return self._conn
            try:
                conn = libvirt.open(self._uri)
                conn.setKeepAlive(KEEPALIVE_SECONDS, KEEPALIVE_MISSES)
                conn.registerCloseCallback(self._on_close, None)
                conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_event, None)
            except libvirt.libvirtError as error:
                self._lost.set()
                raise HostUnavailable(
                    f"libvirtd does not answer on this host ({error}); see its log, or start it again"
                ) from error
            self._conn = conn
            return conn

    def close(self) -> None:
        """Let go of libvirtd. Guests go on."""
        self._closed.set()
        self._lost.set()
        self._drop()

    def translate(self, error: libvirt.libvirtError, step: str) -> Exception:
        """Our word for libvirt's: may it succeed later, is there no such domain, or will it never work?"""
        code, place = error.get_error_code(), error.get_error_domain()
        conn = self._conn
        if code in _GONE or place == libvirt.VIR_FROM_RPC or (conn is not None and not _alive(conn)):
            self._drop()
            self._lost.set()
            return HostUnavailable(f"{step}: libvirtd went away ({error}); it is tried again")
        if code == libvirt.VIR_ERR_NO_DOMAIN:
            return DomainMissing(f"{step}: {error}")
        if code in _LATER:
            return HostUnavailable(f"{step}: {error}")
        return DomainFailed(f"{step}: {error}")

    def _drop(self) -> None:
        with self._lock:
            conn, self._conn = self._conn, None
        if conn is not None:
            try:
                conn.close()
            except libvirt.libvirtError as error:
                log.debug("libvirt.close", error=str(error))

    def _on_close(self, _conn: libvirt.virConnect, _reason: int, _opaque: object) -> None:
        with self._lock:
            self._conn = None
        self._lost.set()

    def _on_event(
        self, _conn: libvirt.virConnect, domain: libvirt.virDomain, event: int, detail: int, _opaque: object
    ) -> None:
        self._on_lifecycle(domain.name(), event, detail)

    def _keep(self) -> None:
        """Events come only over an open connection, so it is opened again without being asked."""
        while not self._closed.is_set():
            self._lost.wait()
            self._lost.clear()
            while not self._closed.wait(RECONNECT_SECONDS):
                try:
                    self.get()
                    self._on_reconnect()
                    break
                except HostUnavailable:
                    self._lost.clear()
                except Exception as error:  # noqa: BLE001 - this thread must not end
                    log.warning("libvirt.reconnect", error=str(error))


def _alive(conn: libvirt.virConnect) -> bool:
    try:
        return bool(conn.isAlive())
    except libvirt.libvirtError:
        return False
