"""A connection to one OVN database: opened when first needed, shared by all threads, back by itself after a loss."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ovs.db import idl
from ovsdbapp import event as ovsdb_event
from ovsdbapp import exceptions
from ovsdbapp.backend import ovs_idl
from ovsdbapp.backend.ovs_idl import command, connection, event, idlutils, vlog

from stackling.network.driver import FabricError, FabricUnavailable

LOG = logging.getLogger(__name__)

RECONNECT_MS = (100, 2000)  # least and most time between two attempts

# The ovs library has a log of its own that goes nowhere; its warnings belong into ours.
vlog.use_python_logger(max_level=vlog.WARN)
# Says as errors what we raise ourselves, at every attempt.
logging.getLogger(idlutils.__name__).setLevel(logging.CRITICAL)


class Edit(command.BaseCommand):
    """One transaction: `work` gets the tables and the transaction, and is called again when others came first."""

    def __init__(self, backend: Any, work: Callable[[Mapping[str, Any], Any], Any]) -> None:
        super().__init__(backend)
        self._work = work

    def run_idl(self, txn: Any) -> None:
        """Do the work on the connection's thread."""
        if not self.api.connected():
            raise FabricUnavailable(f"{self.api.name} is not connected")
        self.result = self._work(self.api.tables, txn)

    def post_commit(self, txn: Any) -> None:
        """Nothing more to do: the work's result stands."""


class _Idl(connection.OvsdbIdl):
    """An IDL that hands row events to a handler's thread."""

    def __init__(self, remote: str, helper: Any, handler: Any) -> None:
        super().__init__(remote, helper)
        self._handler = handler
        self._session.reconnect.set_backoff(*RECONNECT_MS)

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """Called by the IDL for each row that came, changed or went."""
        if self._handler is not None:
            self._handler.notify(event, row, updates)


class _Backend(ovs_idl.Backend):  # type: ignore[misc, unused-ignore]
    """ovsdbapp keeps the connection on the class; two clouds in one process need one on each object."""

    def __init__(self, name: str, link: connection.Connection) -> None:
        self.name = name
        self._link = link
        super().__init__(link, start=False, auto_index=False)

    @property
    def ovsdb_connection(self) -> connection.Connection:
        """The connection of this object."""
        return self._link

    @ovsdb_connection.setter
    def ovsdb_connection(self, link: connection.Connection) -> None:
        self._link = link

    def connected(self) -> bool:
        """Whether the server is there and its contents are known."""
        return bool(self.idl._session.is_connected()) and self.idl.state == idl.Idl.IDL_S_MONITORING


class Database:
    """One OVN database.

    `remote` is an OVSDB connection string by address ("unix:/run/ovn/ovnnb_db.sock", "tcp:10.0.0.1:6641", several
    with commas), never by name: the ovs library resolves none. Only the named columns are kept in memory.
    """

    def __init__(
        self,
        name: str,
        remote: str,
        columns: Mapping[str, tuple[str, ...]],
        timeout: float,
        events: bool = False,
    ) -> None:
        self.name = name
        self._remote = remote
        self._columns = columns
        self._timeout = timeout
        self._changed = threading.Condition()
        self._retry = threading.Event()
        self._opener: threading.Thread | None = None
        self._failures = 0
        self._why = ""
        self._backend: _Backend | None = None
        self._handler: event.RowEventHandler | None = event.RowEventHandler() if events else None
        self._closed = False

    def edit(self, work: Callable[[Mapping[str, Any], Any], Any]) -> Any:
        """Run `work` in one transaction; nothing edited means nothing sent. Its result is handed back."""
        backend = self._open()
        return self._commit(backend, Edit(backend, work))

    @contextmanager
    def reading(self) -> Iterator[Mapping[str, Any]]:
        """The tables, which stand still while this is held."""
        backend = self._open()
        if not backend.connected():
            raise FabricUnavailable(f"{self.name} at {self._remote} does not answer")
        lock = backend.ovsdb_connection.lock
        if not lock.acquire(timeout=self._timeout):
            raise FabricUnavailable(f"{self.name} at {self._remote} is stuck")
        try:
            yield backend.tables
        finally:
            lock.release()

    def watch(self, wanted: ovsdb_event.RowEvent) -> None:
        """Hand matching row events to `wanted`, from the events' own thread, as soon as the database is there."""
        assert self._handler is not None
        self._handler.watch_event(wanted)
        with self._changed:
            self._start_opening()

    def close(self) -> None:
        """Stop the threads. Calls after this raise FabricUnavailable."""
        with self._changed:
            self._closed = True
            backend, self._backend = self._backend, None
            self._retry.set()
            self._changed.notify_all()
        if self._handler is not None:
            self._handler.shutdown()
        if backend is not None:
            backend.ovsdb_connection.stop(timeout=self._timeout)

    def _open(self) -> _Backend:
        backend = self._backend
        if backend is not None:
            return backend
        with self._changed:
            self._start_opening()
            failures = self._failures
            self._retry.set()
            self._changed.wait_for(
                lambda: self._backend is not None or self._closed or self._failures != failures,
                timeout=self._timeout,
            )
            if self._closed:
                raise FabricUnavailable(f"the connection to {self.name} has been closed")
            if self._backend is None:
                raise FabricUnavailable(f"{self.name} at {self._remote} does not answer{self._why}")
            return self._backend

    def _start_opening(self) -> None:
        """The first connection is made by a thread of its own: the library waits there without any limit."""
        if self._opener is None and not self._closed:
            self._opener = threading.Thread(target=self._keep_opening, name=f"open {self.name}", daemon=True)
            self._opener.start()

    def _keep_opening(self) -> None:
        pause = RECONNECT_MS[0] / 1000
        while not self._closed:
            self._retry.clear()
            try:
                backend = self._connect()
            except Exception as failed:  # noqa: BLE001 - ovsdbapp raises bare Exceptions here
                with self._changed:
                    self._failures += 1
                    self._why = f": {failed}"
                    self._changed.notify_all()
                self._retry.wait(pause)
                pause = min(2 * pause, RECONNECT_MS[1] / 1000)
                continue
            with self._changed:
                if not self._closed:
                    self._backend = backend
                    self._changed.notify_all()
                    return
            backend.ovsdb_connection.stop(timeout=self._timeout)

    def _connect(self) -> _Backend:
        helper = idlutils.get_schema_helper(self._remote, self.name)
        for table, columns in self._columns.items():
            helper.register_columns(table, list(columns))
        link = connection.Connection(_Idl(self._remote, helper, self._handler), timeout=self._timeout)
        link.start()
        return _Backend(self.name, link)

    def _commit(self, backend: _Backend, edit: command.BaseCommand) -> Any:
        if not backend.connected():
            self._wait(backend)
        txn = backend.create_transaction(check_error=True, log_errors=False)
        txn.add(edit)
        try:
            txn.commit()
        except FabricError:
            raise
        except exceptions.TimeoutException as late:
            raise FabricUnavailable(f"{self.name} at {self._remote} does not answer") from late
        except RuntimeError as refused:
            if "timed out" in str(refused):
                raise FabricUnavailable(f"{self.name} at {self._remote} does not answer") from refused
            raise FabricError(f"{self.name} refused: {refused}") from refused
        return edit.result

    def _wait(self, backend: _Backend) -> None:
        """A moment of grace: a server that restarts is often back at once."""
        until = time.monotonic() + min(0.5, self._timeout)
        while not backend.connected():
            if time.monotonic() > until:
                raise FabricUnavailable(f"{self.name} at {self._remote} does not answer")
            time.sleep(0.02)
