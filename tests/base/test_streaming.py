"""Bodies without a length: one that broke off is not taken for a whole one."""

import io
import socket
import struct
from collections.abc import Iterator

import falcon
import falcon.testing
import pytest

from stackling.base.errors import Incomplete
from stackling.base.streaming import chunks


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's end of a connection, and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        near = socket.create_connection(listening.getsockname())
        far, _ = listening.accept()
        with near, far:
            yield near, far


def _request(port: int, data: bytes, **headers: str) -> falcon.Request:
    environ = falcon.testing.create_environ(method="PUT", headers=headers)
    environ |= {"SERVER_SOFTWARE": "Granian", "SERVER_PORT": str(port), "REMOTE_ADDR": "127.0.0.1"}
    environ["wsgi.input"] = io.BytesIO(data)
    return falcon.Request(environ)


def _send(ends: tuple[socket.socket, socket.socket], data: bytes) -> int:
    near, far = ends
    near.sendall(data)
    assert far.recv(len(data), socket.MSG_WAITALL) == data
    return int(far.getsockname()[1])


def test_a_body_whose_sender_waits_is_whole(ends: tuple[socket.socket, socket.socket]) -> None:
    port = _send(ends, b"hello")
    assert b"".join(chunks(_request(port, b"hello"))) == b"hello"


@pytest.mark.parametrize("reset", [False, True])
def test_a_body_whose_sender_went_away_is_refused(
    ends: tuple[socket.socket, socket.socket], reset: bool
) -> None:
    port = _send(ends, b"hello")
    if reset:
        ends[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ends[0].close()
    with pytest.raises(Incomplete):
        list(chunks(_request(port, b"hello")))


def test_another_connection_that_brought_less_is_no_proof(ends: tuple[socket.socket, socket.socket]) -> None:
    port = _send(ends, b"hello")
    with pytest.raises(Incomplete):
        list(chunks(_request(port, b"hello world")))


def test_a_body_with_a_length_needs_no_connection() -> None:
    assert list(chunks(_request(1, b"hello", **{"Content-Length": "5"}))) == [b"hello"]
