"""The node agent's HTTPS server: its drivers, for the control plane alone.

Both sides show certificates of the cloud's own authority, and the caller's must have the role `control`.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import structlog

from stackling.base import ca
from stackling.base.rpc import MAX_BODY, Failure, Interface, answer

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 64
HANDSHAKE_SECONDS = 10.0
IDLE_SECONDS = 120.0


class NodeServer:
    """Serves drivers by interface. `port` 0 takes a free one; `address` tells which."""

    def __init__(
        self,
        host: str,
        port: int,
        identity: ca.Identity,
        drivers: Mapping[Interface, object],
        role: str = "control",
    ) -> None:
        self._server = _Server(
            (host, port), identity, {face.name: (face, it) for face, it in drivers.items()}, role
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="node-server", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more; calls that run go on to their end. Open connections are closed."""
        self._server.shutdown()
        self._server.server_close()
        self._server.close_connections()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        identity: ca.Identity,
        drivers: dict[str, tuple[Interface, object]],
        role: str,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.context = ca.server_context(identity)
        self.drivers = drivers
        self.role = role
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._open: set[Any] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread per connection, but only so many: more are turned away."""
        if not self._places.acquire(blocking=False):
            log.warning("node.too_many_connections", client=client_address[0])
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """TLS begins here, not in the accepting thread, so a silent client holds up nobody."""
        try:
            request.settimeout(HANDSHAKE_SECONDS)
            secure = self.context.wrap_socket(request, server_side=True)
        except (OSError, ssl.SSLError) as error:
            log.warning("node.handshake_failed", client=client_address[0], error=str(error))
            self.shutdown_request(request)
            self._places.release()
            return
        self._open.add(secure)
        try:
            super().process_request_thread(secure, client_address)
        finally:
            self._open.discard(secure)
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A broken connection is the client's affair."""
        log.info("node.connection_broke", client=client_address[0])

    def close_connections(self) -> None:
        """Wake the threads that wait for another request."""
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                log.debug("node.connection_closed_already")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "stackling-node"
    sys_version = ""
    timeout = IDLE_SECONDS
    # A reply is two writes; waiting for the client's ACK between them costs 40 ms.
    disable_nagle_algorithm = True
    server: _Server
    connection: ssl.SSLSocket

    def do_POST(self) -> None:
        """One driver call."""
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if not 0 <= length <= MAX_BODY:
            self.close_connection = True
            self._reply(413, "TooLarge", f"A call needs a Content-Length of at most {MAX_BODY} bytes")
            return
        body = self.rfile.read(length)
        if self.server.role not in ca.roles_of(self.connection.getpeercert()):
            self._reply(
                403, "Forbidden", f"Only a certificate with the role {self.server.role} may call this node"
            )
            return
        _, _, rest = self.path.partition("/")
        name, _, method = rest.partition("/")
        found = self.server.drivers.get(name)
        if found is None:
            self._reply(404, "NoSuchInterface", f"This node has no {name[:64]!r}")
            return
        try:
            status, content = answer(*found, method, body)
        except Exception as error:
            log.exception("node.call_failed", call=f"{name}.{method}")
            self._reply(500, "Failed", f"{name}.{method} failed on the node: {type(error).__name__}: {error}")
            return
        self._send(status, content)

    def _reply(self, status: int, error: str, message: str) -> None:
        self._send(status, msgspec.json.encode(Failure(error, message)))

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """The calls are logged by those who make them."""
