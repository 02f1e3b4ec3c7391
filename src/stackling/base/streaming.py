"""Bodies of any size in and out, in constant memory."""

import ipaddress
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from falcon import Request

from stackling.base.errors import Incomplete

CHUNK = 1 << 20  # bytes read at once
PIECE = 128 << 10  # bytes sent at once: what the processor's cache holds
_ESTABLISHED = 1  # of the states of TCP (linux/tcp_states.h)
_PAUSES = (0.002, 0.01, 0.05, 0.1, 0.0)  # seconds
_RECEIVED = 128  # where struct tcp_info has the bytes that arrived


def chunks(req: Request) -> Iterator[bytes]:
    """The request's body piece by piece, with or without a length told before.

    Raises Incomplete when one without broke off; whether one with a length is whole, its reader has to see.
    """
    known = req.content_length is not None
    source = req.bounded_stream if known else req.stream
    size = 0
    while chunk := source.read(CHUNK):
        size += len(chunk)
        yield chunk
    if not known and req.env.get("SERVER_SOFTWARE") == "Granian" and not _whole(req.env, size):
        raise Incomplete("The request broke off before its end. Send it again.")


def _whole(environ: Mapping[str, Any], size: int) -> bool:
    """Whether a chunked body of `size` bytes ended because it was at its end.

    Granian hands over a body whose sender went away as if it had ended there, and does not say which connection it came
    by. So all connections from that address that brought at least as many bytes are looked at: there must be one, and
    none may have been closed by its other side. Others' that are about to go are given a moment; this request's stays
    as long as it is worked on. At worst a whole body is refused, and sent again.
    """
    for pause in _PAUSES:
        states = list(_connections(str(environ["REMOTE_ADDR"]), int(environ["SERVER_PORT"]), size))
        if states and all(state == _ESTABLISHED for state in states):
            return True
        time.sleep(pause)
    return False


def _connections(address: str, port: int, least: int) -> Iterator[int]:
    """States of this process's TCP connections from an address to its port that brought at least so many bytes."""
    far = _plain(address)
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as one:
                if one.family not in (socket.AF_INET, socket.AF_INET6) or one.type != socket.SOCK_STREAM:
                    continue
                info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED + 8)
                if one.getsockname()[1] != port or len(info) < _RECEIVED + 8:
                    continue
                received = struct.unpack_from("=Q", info, _RECEIVED)[0]
                if received >= max(least, 1) and _may_be_of(one, far):  # a listening one has received nothing
                    yield info[0]
        except OSError:  # closed meanwhile
            continue


def _may_be_of(one: socket.socket, far: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return _plain(one.getpeername()[0]) == far
    except OSError:  # it was reset, and nobody knows any more whose it was
        return True


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    found = ipaddress.ip_address(address.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found


class Part:
    """The first `length` bytes of an opened file, piece by piece; closed with the response.

    Without `read`, or Falcon would read it in pieces of 8 KiB.
    """

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file, self._left = file, length

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._file.read(min(self._left, PIECE)):
            self._left -= len(chunk)
            yield chunk

    def close(self) -> None:
        self._file.close()
