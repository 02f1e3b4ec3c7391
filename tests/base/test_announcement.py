"""What a process keeps of the database is not believed any more once a commit that says so has returned anywhere."""

import errno
import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Column, Integer, MetaData, Table

from stackling.base import announcement, db
from stackling.base.db import Database, Tx
from tests.conftest import Postgres

metadata = MetaData()
number = Table("number", metadata, Column("now", Integer))
LATEST = "SELECT now FROM number"
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # what the other has not
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def read(tx: Tx) -> int:
    return int(tx.execute(sa.select(number.c.now)).scalar_one())


def raise_number(tx: Tx) -> None:
    tx.execute(sa.update(number).values(now=number.c.now + 1))
    db.announce(tx, read)


def listening(database: Database, latest: str = LATEST) -> Database:
    database.listen(latest)
    within = time.monotonic() + 20
    while database.announced() is None:
        assert time.monotonic() < within
        time.sleep(0.005)
    return database


def values(*databases: Database) -> list[Any]:
    """What they believe by, once they believe anything: a machine that stood still for a while ends that."""
    return [listening(one).announced() for one in databases]


@contextmanager
def process(url: str) -> Iterator[Database]:
    """The database as another process has it."""
    made = Database(url, durable=False)
    yield listening(made)
    made.close()


@contextmanager
def busy() -> Iterator[None]:
    """Another thread that is always at work: who listens has to wait for its turn."""
    enough = threading.Event()

    def work() -> None:
        while not enough.is_set():
            pass

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


@pytest.fixture
def here(database_url: str) -> Iterator[Database]:
    made = Database(database_url, durable=False)
    metadata.create_all(made.engine)
    with made.begin() as tx:
        tx.execute(sa.insert(number).values(now=1))
    yield listening(made)
    made.close()


def test_an_announcement_has_arrived_everywhere_when_its_commit_returns(
    here: Database, database_url: str
) -> None:
    with busy(), process(database_url) as there, process(database_url) as yonder:
        everyone = (here, there, yonder)
        known = values(*everyone)
        for place in range(60):
            with everyone[place % 3].begin() as tx:
                raise_number(tx)
            now = [one.announced() for one in everyone]
            assert not [one for one, before in zip(now, known, strict=True) if one == before]
            known = values(*everyone)
        with here.begin() as tx:  # nothing that anybody keeps
            tx.execute(sa.insert(number).values(now=0))
        assert values(*everyone) == known


def test_one_transaction_announces_once_and_one_that_fails_holds_nobody_up(
    here: Database, database_url: str
) -> None:
    with process(database_url) as there:
        with pytest.raises(ZeroDivisionError), here.begin() as tx:
            raise_number(tx)
            raise ZeroDivisionError
        before = values(there)
        with here.begin() as tx:
            raise_number(tx)
            raise_number(tx)
        assert values(there) != before
        with there.read() as tx, pytest.raises(KeyError):
            db.announce(tx, read)


DIES = """
import os, sys
from stackling.base import announcement
from tests.base.test_announcement import Database, raise_number
def die(*_):
    os._exit(9)
if sys.argv[2] == "committed":
    renew, announcement.Mark._renew = announcement.Mark._renew, lambda mark: renew(mark) if opening else die()
opening = True
database = Database(sys.argv[1], durable=False)
database.announced()
opening = False
with database.begin() as tx:
    raise_number(tx)
    if sys.argv[2] == "open":
        die()
"""


@on_sqlite
@pytest.mark.parametrize("when", ["open", "committed"])
def test_a_process_that_dies_with_its_announcement_is_not_believed_over(here: Database, when: str) -> None:
    """Nobody believes anything until a process is started, or announces something."""
    known = here.announced()
    url = here.url.render_as_string()
    died = subprocess.run(
        [sys.executable, "-c", DIES, url, when], cwd=Path(__file__).parents[2], timeout=60, check=False
    )
    assert died.returncode == 9
    assert here.announced() is None
    with here.read() as tx:
        assert read(tx) == (2 if when == "committed" else 1)
    with process(url) as there:
        assert here.announced() == there.announced() not in (None, known)


@on_sqlite
def test_nothing_is_committed_that_can_not_be_announced(
    here: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    there = Database(database_url, durable=False)
    with monkeypatch.context() as disk:
        disk.setattr(announcement.os, "pwrite", full)
        opened = len(os.listdir("/proc/self/fd"))
        assert [there.announced() for _ in range(3)] == [None] * 3
        assert len(os.listdir("/proc/self/fd")) == opened
        with pytest.raises(OSError, match="No space"), here.begin() as tx:
            raise_number(tx)
    with here.read() as tx:
        assert read(tx) == 1
    known = here.announced()
    with here.begin() as tx:
        raise_number(tx)
    assert known != there.announced() == here.announced() is not None
    there.close()


@on_postgresql
def test_who_is_cut_off_believes_nothing(
    here: Database, database_url: str, request: pytest.FixtureRequest
) -> None:
    postgres: Postgres = request.getfixturevalue("postgres")
    known = here.announced()
    with postgres.engine.connect() as tx:
        tx.exec_driver_sql(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{here.url.database}'"
        )
    within = time.monotonic() + 20
    while here.announced() == known:  # it is told at once
        assert time.monotonic() < within
    listening(here)  # and comes back
    assert here.announced() != known


@on_postgresql
def test_who_does_not_hear_holds_a_commit_up_no_longer_than_it_believes(
    here: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcement, "LEASE", 0.5)
    deaf, drain = threading.Event(), announcement.Listener._drain
    with process(database_url) as there:

        def late(listener: announcement.Listener, session: Any) -> None:
            if listener is there._listener:
                deaf.wait(30)
            drain(listener, session)

        before = there.announced()
        monkeypatch.setattr(announcement.Listener, "_drain", late)
        with here.begin() as tx:
            raise_number(tx)
        assert there.announced() is None  # not `before`
        deaf.set()
        listening(there)
        assert there.announced() != before


@on_postgresql
def test_nobody_listens_through_a_pooler(here: Database) -> None:
    """Of PgBouncer, a session of the server's that answers this process may be another one each time."""

    class Pooled:
        """A connection as a pooler shows it: the process id that it tells is its own."""

        info = types.SimpleNamespace(backend_pid=1)

        def __init__(self, session: Any) -> None:
            self.execute, self.close = session.execute, session.close

    listener = announcement.Listener(lambda: Pooled(here._own()), LATEST, lambda _: None)
    listener._thread.join(20)
    assert not listener._thread.is_alive()
    assert listener.value() is None
    listener.close()
