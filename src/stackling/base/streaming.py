"""Bodies of any size in and out, in constant memory."""

from collections.abc import Iterator
from typing import BinaryIO

from falcon import Request

CHUNK = 1 << 20  # bytes read at once
PIECE = 128 << 10  # bytes sent at once: what the processor's cache holds


def chunks(req: Request) -> Iterator[bytes]:
    """The request's body piece by piece, with or without a length told before."""
    source = req.bounded_stream if req.content_length is not None else req.stream
    while chunk := source.read(CHUNK):
        yield chunk


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
