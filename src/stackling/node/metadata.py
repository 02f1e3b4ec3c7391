"""The metadata service of one host: what a guest is told at http://169.254.169.254/.

One thread serves every network on the host. In each network's namespace there is a listening socket; whoever
connects is known by the network and its address, never by anything it says. The thread never blocks, reads
little, and drops who is slow, so no guest can hold up another.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import structlog
from msgspec import Struct

from stackling.compute.driver import Domain, GuestData
from stackling.compute.drivers.instance_files import write_whole
from stackling.node.metadata_paths import Reply, Request, parse, respond

log = structlog.get_logger(__name__)

MAX_REQUEST = 16 * 1024
MAX_CONNECTIONS = 512
MAX_PER_GUEST = 8
DEADLINE_SECONDS = 15.0
TICK_SECONDS = 1.0


class Guest(Struct, frozen=True):
    """Who asks: a domain, and what it may read."""

    id: str
    data: GuestData


class _Connection:
    """One guest's request on its way."""

    def __init__(self, sock: socket.socket, network_id: str, address: str) -> None:
        self.sock = sock
        self.guest = (network_id, address)
        self.received = b""
        self.reply = memoryview(b"")
        self.until = time.monotonic() + DEADLINE_SECONDS


class MetadataService:
    """Answers guests. `password_file` says where a domain's posted password is kept."""

    def __init__(self, password_file: Callable[[str], Path]) -> None:
        self._password_file = password_file
        self._lock = threading.Lock()
        self._domains: dict[str, Domain] = {}
        self._guests: dict[tuple[str, str], Guest] = {}
        self._listeners: dict[str, socket.socket] = {}
        self._changed: list[Callable[[], None]] = []
        self._connections: set[_Connection] = set()
        self._per_guest: Counter[tuple[str, str]] = Counter()
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="metadata", daemon=True)
        self._thread.start()

    def serve(self, domain: Domain) -> None:
        """The domain's documents are these from now on."""
        with self._lock:
            self._domains[domain.id] = domain
            self._index()

    def forget(self, id: str) -> None:
        """The domain is gone."""
        with self._lock:
            if self._domains.pop(id, None) is not None:
                self._index()

    def domains(self) -> list[Domain]:
        """All domains that are served."""
        with self._lock:
            return list(self._domains.values())

    def listen(self, network_id: str, listener: socket.socket) -> None:
        """Answer the guests of a network on this socket; the one before is closed."""
        listener.setblocking(False)
        self._on_thread(lambda: self._listen(network_id, listener))

    def deafen(self, network_id: str) -> None:
        """Answer that network no more."""
        self._on_thread(lambda: self._listen(network_id, None))

    def stop(self) -> None:
        """Close all sockets and end the thread."""
        self._stopping = True
        self._poke()
        self._thread.join(timeout=5)

    def answer(self, network_id: str, address: str, request: Request) -> Reply:
        """The reply to a guest's request."""
        with self._lock:
            guest = self._guests.get((network_id, address))
        if guest is None:
            return Reply(404, b"No server is known at this address\n")
        file = self._password_file(guest.id)

        def password() -> str:
            try:
                return file.read_text()
            except OSError:
                return ""

        def post(text: str) -> None:
            write_whole(file, text.encode())

        return respond(guest.data, request, password, post)

    def _index(self) -> None:
        self._guests = {
            (nic.network_id, address): Guest(domain.id, domain.guest_data)
            for domain in self._domains.values()
            for nic in domain.nics
            for address in nic.fixed_ips
        }

    # everything below runs on the one thread

    def _on_thread(self, act: Callable[[], None]) -> None:
        with self._lock:
            self._changed.append(act)
        self._poke()

    def _poke(self) -> None:
        try:
            self._wake.send(b"x")
        except BlockingIOError:
            # Enough bytes wait already: it will wake.
            return

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._turn()
            except Exception:
                log.exception("metadata.turn_failed")
        for connection in list(self._connections):
            self._close(connection)
        for network_id in list(self._listeners):
            self._listen(network_id, None)
        self._selector.close()

    def _turn(self) -> None:
        for key, _events in self._selector.select(TICK_SECONDS):
            if key.data is None:
                self._woken.recv(4096)
            elif isinstance(key.data, str):
                self._accept(key.data, key.fileobj)  # type: ignore[arg-type]
            else:
                self._progress(key.data)
        with self._lock:
            acts, self._changed = self._changed, []
        for act in acts:
            act()
        now = time.monotonic()
        for connection in [slow for slow in self._connections if slow.until < now]:
            self._close(connection)

    def _listen(self, network_id: str, listener: socket.socket | None) -> None:
        before = self._listeners.pop(network_id, None)
        if before is not None:
            self._selector.unregister(before)
            before.close()
        if listener is not None:
            self._listeners[network_id] = listener
            self._selector.register(listener, selectors.EVENT_READ, network_id)

    def _accept(self, network_id: str, listener: socket.socket) -> None:
        try:
            sock, peer = listener.accept()
        except OSError:
            return
        connection = _Connection(sock, network_id, peer[0])
        if len(self._connections) >= MAX_CONNECTIONS or self._per_guest[connection.guest] >= MAX_PER_GUEST:
            sock.close()
            return
        sock.setblocking(False)
        self._connections.add(connection)
        self._per_guest[connection.guest] += 1
        self._selector.register(sock, selectors.EVENT_READ, connection)

    def _progress(self, connection: _Connection) -> None:
        try:
            if not connection.reply:
                self._read(connection)
            if connection.reply:
                sent = connection.sock.send(connection.reply)
                connection.reply = connection.reply[sent:]
                if not connection.reply:
                    self._close(connection)
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)

    def _read(self, connection: _Connection) -> None:
        piece = connection.sock.recv(MAX_REQUEST)
        if not piece:
            self._close(connection)
            return
        connection.received += piece
        request = parse(connection.received, MAX_REQUEST)
        if request is None:
            return
        reply = request if isinstance(request, Reply) else self._answer(connection, request)
        connection.reply = memoryview(reply.encode())
        self._selector.modify(connection.sock, selectors.EVENT_WRITE, connection)

    def _answer(self, connection: _Connection, request: Request) -> Reply:
        try:
            return self.answer(*connection.guest, request)
        except Exception:
            log.exception("metadata.answer_failed", path=request.path[:100])
            return Reply(500, b"The metadata service failed; see the host's log\n")

    def _close(self, connection: _Connection) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._per_guest[connection.guest] -= 1
        if self._per_guest[connection.guest] <= 0:
            del self._per_guest[connection.guest]
        self._selector.unregister(connection.sock)
        connection.sock.close()
