"""Structured logs: one JSON object a line, secrets never.

Anything under a name that sounds like a secret is masked, however deep it sits.
"""

import contextlib
import functools
import json
import re
import sys
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

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def setup(*, level: str = "info", stream: Any = None, pretty: bool = False) -> None:
    """Send the process's logs to `stream` (standard error by default)."""
    levels = {"debug": 10, "info": 20, "warning": 30, "error": 40}
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _mask,
            *([structlog.dev.ConsoleRenderer()] if pretty else [structlog.processors.format_exc_info, _line]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(levels[level]),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _Stream(stream or sys.stderr))),
        cache_logger_on_first_use=False,
    )


def get(name: str) -> Any:
    return structlog.get_logger().bind(logger=name)
