"""Structured logs: one JSON object a line, secrets never.

Anything under a name that sounds like a secret is masked, however deep it sits.
"""

import contextlib
import functools
import io
import json
import re
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any, TextIO, cast

import msgspec
import structlog

_SECRET = re.compile(
    r"password|passwd|adminpass|secret|token|private_key|user_data|x-subject-token|x-auth-token", re.I
)
_FINE = frozenset({"token_scope"})
_PLAIN = frozenset({str, int, float, bool, type(None)})


def masked(value: Any) -> Any:
    """`value` with what stands under a secret's name replaced by `***`."""
    if isinstance(value, dict):
        return {
            k: "***"
            if isinstance(k, str) and _sounds_secret(k) and v is not None
            else v
            if type(v) in _PLAIN
            else masked(v)
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [masked(v) for v in value]
    return value


@functools.lru_cache(maxsize=1024)
def _sounds_secret(name: str) -> bool:
    return name not in _FINE and bool(_SECRET.search(name))


def _mask(_: Any, __: str, event: Any) -> Any:
    return masked(event)


def _line(_: Any, __: str, event: Any) -> str:
    try:
        return msgspec.json.encode(event, enc_hook=str).decode()
    except (TypeError, ValueError):  # names that aren't text, or text that isn't Unicode
        return json.dumps(event, default=str, skipkeys=True)


class _Stream:
    """Where lines go. One that can't be written, on a full disk, is lost: work matters more than its log."""

    def __init__(self, stream: Any, delay: float) -> None:
        self._stream, self._delay = stream, delay
        self._waits = threading.Event()  # set while lines stand in the stream's buffer
        self._flusher: threading.Thread | None = None  # of this process, not of the one it was forked from

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def soon(self, text: str) -> None:
        """Write a line that can wait for those of the next moment, and for no longer than the delay or the next flush."""
        self.write(text)
        if not self._delay:
            self.flush()
        elif not self._waits.is_set():
            self._waits.set()
            if self._flusher is None:
                self._flusher = threading.Thread(target=self._flush_each, name="log", daemon=True)
                self._flusher.start()

    def _flush_each(self) -> None:
        while self._waits.wait():
            time.sleep(self._delay)
            self._waits.clear()
            self.flush()


_info: _Stream | None = None  # where lines of level info go; None when they go nowhere


def setup(*, level: str = "info", stream: Any = None, delay: float = 0.0) -> None:
    """Send the process's logs to `stream` (standard error by default).

    Lines of requests may wait `delay` seconds to be written together. A write lets another thread run in the middle of
    each request: that costs a third of the throughput.
    """
    global _info
    levels = {"debug": 10, "info": 20, "warning": 30, "error": 40}
    out = _Stream(stream or sys.stderr, delay)
    if delay and isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(line_buffering=False, write_through=False)
    _info = out if levels[level] <= levels["info"] else None
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _mask,
            structlog.processors.format_exc_info,
            _line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(levels[level]),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, out)),
        cache_logger_on_first_use=False,
    )


def get(name: str) -> Any:
    return structlog.get_logger().bind(logger=name)


def plain(event: dict[str, Any]) -> None:
    """A line of level info of what is no secret, past structlog: for what is written at each request (2 µs, not 10).

    It may wait for the delay that `setup` was given; any other line takes those that wait with it.
    """
    if _info is not None:
        now = datetime.now(UTC).replace(tzinfo=None).isoformat()
        event |= {"level": "info", "timestamp": now + "Z"}
        _info.soon(_line(None, "", event) + "\n")
