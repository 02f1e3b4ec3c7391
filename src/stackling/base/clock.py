"""Time as the cloud sees it: passed in, so that a test can turn it.

Instants are naive `datetime`s in UTC with microseconds, as they stand in the database.
"""

import time
from datetime import UTC, datetime, timedelta


class Clock:
    """The real time."""

    def now(self) -> datetime:
        return datetime.now(UTC).replace(tzinfo=None)

    def monotonic(self) -> float:
        return time.monotonic()


class TurnedClock(Clock):
    """A clock that stands still until it is turned (for tests)."""

    def __init__(self, now: datetime | None = None) -> None:
        self._now = now or datetime.now(UTC).replace(tzinfo=None)

    def now(self) -> datetime:
        return self._now

    def turn(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


def zulu(when: datetime | None) -> str | None:
    """`2026-01-02T03:04:05Z`: compute, image and network."""
    return None if when is None else when.isoformat(timespec="seconds") + "Z"


def zulu_micros(when: datetime | None) -> str | None:
    """`2026-01-02T03:04:05.000000Z`: identity tokens."""
    return None if when is None else when.isoformat(timespec="microseconds") + "Z"


def bare_micros(when: datetime | None) -> str | None:
    """`2026-01-02T03:04:05.123456`: block storage and most times of compute that are not `created`/`updated`."""
    return None if when is None else when.isoformat(timespec="microseconds")


def parse(text: str) -> datetime:
    """Any ISO 8601 instant, with or without zone, as a naive UTC `datetime`.

    Raises ValueError when the text is not one.
    """
    when = datetime.fromisoformat(text.strip())
    return when.astimezone(UTC).replace(tzinfo=None) if when.tzinfo else when
