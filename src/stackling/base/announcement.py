"""What a process keeps of the database is believed until a commit announces that it may be wrong.

To look for announcements costs no query. One has arrived in every process before the commit that makes it returns, so
that whoever is told of the change finds it everywhere. A process that can't know of one asks the database instead.

SQLite, whose processes are all on one machine: eight bytes of memory that they share (`Mark`).

PostgreSQL: NOTIFY, and a commit that waits until all that listen have heard (`Listener`). Each of them holds an advisory
lock with the number of the announcement that it heard last, by which others see how far it is, and which PostgreSQL takes
away when the session ends. One that is cut off neither hears nor lets go. So nobody believes anything for longer than
`LEASE` after a question that the server answered, and no commit waits longer than that. A session that the server ends
is noticed when its thread runs next: for that moment, at most `LEASE`, the others' commits don't wait for it. A pooler that lends one server
session to many (PgBouncer) would have others hear and hold what is meant for this process: then nobody listens.
"""

import fcntl
import mmap
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stackling.base import log

LEASE = 3.0  # seconds
CHANNEL = "stackling"
PREFIX = "announced "
_LOCKS = 0x5741  # the first of a lock's two numbers
_HOLD = f"SELECT pg_advisory_lock_shared({_LOCKS}, %s)"
_MOVE = f"{_HOLD}, pg_advisory_unlock_shared({_LOCKS}, %s)"
_BEHIND = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    f" AND objsubid = 2 AND classid = {_LOCKS} AND objid::bigint < %s"  # 2: a lock with two numbers
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_NONE = bytes(8)


class Mark:
    """Eight bytes in a file beside the database, which its processes map: others after each announcement.

    They are zero from before the commit until after it, and who dies in between leaves the zero, which nobody believes,
    to the next announcement or to the next process that opens the file. They are written through the file, where a full
    disk is an OSError; through memory it would be a SIGBUS.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with self._alone():
                self._renew()  # the database may be another one than before, too
            self._bytes = mmap.mmap(self._file, len(_NONE), prot=mmap.PROT_READ)
        except OSError:
            os.close(self._file)
            raise

    def value(self) -> bytes | None:
        """Others after each announcement; None while one is being made."""
        found = self._bytes[:8]
        return None if found == _NONE else found

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Around a commit that is an announcement, for one thread at a time. Raises OSError when the disk is full."""
        with self._alone():
            os.pwrite(self._file, _NONE, 0)
            try:
                yield
            finally:  # also where it failed: whoever asks is told what is
                with suppress(OSError):  # the zero stays, and costs a question each time
                    self._renew()

    def _renew(self) -> None:
        os.pwrite(self._file, b"\1" + os.urandom(7), 0)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)  # ends with the process
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        self._bytes.close()
        os.close(self._file)


class Listener:
    """A session of PostgreSQL's and the thread that takes in what other processes' commits say.

    `connect` makes a connection of psycopg's in autocommit mode; `latest` is the SQL that reads the number of the latest
    announcement; `hear` is called with every other note.
    """

    def __init__(self, connect: Callable[[], Any], latest: str, hear: Callable[[str], None]) -> None:
        self._connect, self._latest, self._hear = connect, latest, hear
        self._count = 0  # of announcements heard, in all sessions
        self._number = 0  # of the latest one
        self._until = 0.0  # by the monotonic clock: how long silence means that there was none
        self._stop = threading.Event()
        self._woken = os.eventfd(0)
        self._thread = threading.Thread(target=self._run, name="database-listener", daemon=True)
        self._thread.start()

    def value(self) -> int | None:
        """Another number after each announcement; None when there may be one that was not heard."""
        return self._count if time.monotonic() < self._until else None

    def close(self) -> None:
        self._stop.set()
        os.eventfd_write(self._woken, 1)
        self._thread.join()
        os.close(self._woken)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                session = self._connect()
                try:
                    if not _is_its_own(session):
                        log.get("database").warning(
                            "database.pooled",
                            says="between this process and PostgreSQL is a pooler, so announcements can't be heard and"
                            " the database is asked instead; a direct connection is faster",
                        )
                        return
                    self._follow(session)
                finally:
                    self._until = 0.0
                    session.close()
            except Exception as e:  # noqa: BLE001 (without this thread the process would ask for good)
                log.get("database").warning("database.listen_failed", error=str(e))
                self._stop.wait(1)

    def _follow(self, session: Any) -> None:
        session.add_notify_handler(lambda note: self._take(note.payload))
        session.execute(f"LISTEN {CHANNEL}")
        found = session.execute(self._latest).fetchone()  # whatever comes later is heard
        self._number = held = found[0] if found else 0
        session.execute(_HOLD, (held,))  # from here on, commits wait for this session
        self._count += 1
        while not self._stop.is_set():
            asked, number = time.monotonic(), self._number
            if number == held:
                session.execute("SELECT 1")
            else:
                session.execute(_MOVE, (number, held))
                held = number
            self._drain(session)  # what was committed before `asked` is among it
            if self._number == held:
                self._until = asked + LEASE
                select.select([session.fileno(), self._woken], [], [], LEASE / 3)
                self._drain(session)

    def _drain(self, session: Any) -> None:
        session.pgconn.consume_input()  # raises when the session has ended
        while note := session.pgconn.notifies():
            self._take(note.extra.decode())

    def _take(self, said: str) -> None:
        if said.startswith(PREFIX):
            self._count += 1
            self._number = max(self._number, int(said.removeprefix(PREFIX)))
        else:
            self._hear(said)


def _is_its_own(session: Any) -> bool:
    """Whether the server process that answers is the one that was connected to."""
    found = session.execute("SELECT pg_backend_pid()").fetchone()
    return bool(found[0] == session.info.backend_pid)


def arrived(session: Any, number: int) -> bool:
    """Whether all that listen, and can be reached, have heard of the announcement `number`."""
    return bool(session.execute(_BEHIND, (number,)).fetchone()[0] == 0)
