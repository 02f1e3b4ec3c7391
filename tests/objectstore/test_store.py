"""Stores: nothing acknowledged is lost, nothing else is kept."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stackling.base.config import Config, ConfigError, ObjectStore, StoragePolicy
from stackling.base.incoming_file import IncomingFile
from stackling.objectstore import store
from stackling.objectstore.actions import expiry, object, reading
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.actions.object import Place
from stackling.objectstore.driver import Store
from stackling.objectstore.drivers import file as driver
from stackling.objectstore.drivers.file import FileStore
from tests.conftest import Bed

from .conftest import Account, files

STORES: list[Callable[[Path], Store]] = [FileStore]


@pytest.fixture(params=STORES)
def a_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    made: Store = request.param(tmp_path / "objects")
    return made


def _key() -> str:
    return str(uuid.uuid4())


def _kept(a_store: Store, *chunks: bytes) -> str:
    key = _key()
    with a_store.incoming(key) as incoming:
        for chunk in chunks:
            incoming.write(chunk)
        incoming.finish()
    return key


def _read(a_store: Store, key: str) -> bytes:
    with a_store.open(key) as file:
        return file.read()


def test_data_is_kept_under_its_key(a_store: Store) -> None:
    big = os.urandom(3 << 20)
    key = _kept(a_store, b"one", big, b"")
    assert _read(a_store, key) == b"one" + big
    assert a_store.free_bytes() > 0
    a_store.remove(key)
    a_store.remove(key)
    with pytest.raises(FileNotFoundError):
        a_store.open(key)


def test_what_is_not_finished_is_not_there(a_store: Store) -> None:
    key = _key()
    with pytest.raises(ZeroDivisionError), a_store.incoming(key) as incoming:
        incoming.write(b"x")
        raise ZeroDivisionError
    with a_store.incoming(key) as incoming:
        incoming.write(b"x")
        incoming.finish()
        incoming.drop()
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            a_store.open(key)
        with a_store.incoming(key) as incoming:
            incoming.write(b"x")


def test_a_copy_outlives_its_source(a_store: Store) -> None:
    key, new = _kept(a_store, b"data"), _key()
    with a_store.copy(key, new) as copy:
        copy.finish()
        copy.finish()
    a_store.remove(key)
    assert _read(a_store, new) == b"data"
    with pytest.raises(FileNotFoundError):
        a_store.copy(key, _key())


def test_the_sweep_takes_what_nobody_wants_and_nobody_writes(a_store: Store) -> None:
    wanted, orphan, arriving, copied = _kept(a_store, b"1"), _kept(a_store, b"2"), _key(), _key()
    known = {wanted}
    with a_store.incoming(arriving) as incoming, a_store.copy(orphan, copied) as copy:
        incoming.write(b"x" * 10)
        copy.finish()
        assert a_store.sweep(lambda keys: known & set(keys)) == 0, "a copy of it is being made"
        incoming.finish()
        assert a_store.sweep(lambda keys: known & set(keys)) == 0, "its row may be about to be written"
        known |= {arriving, copied}
    assert a_store.sweep(lambda keys: known & set(keys)) == 1
    assert [_read(a_store, key) for key in (wanted, arriving, copied)] == [b"1", b"x" * 10, b"2"]
    with pytest.raises(FileNotFoundError):
        a_store.open(orphan)


def test_a_row_that_appears_while_the_sweep_looks_saves_its_data(a_store: Store) -> None:
    key = _kept(a_store, b"1")
    asked: list[list[str]] = []

    def wanted(keys: list[str]) -> set[str]:
        asked.append(keys)
        return set() if len(asked) == 1 else {key}

    assert a_store.sweep(wanted) == 0
    assert _read(a_store, key) == b"1"


def test_parts_of_a_process_that_died_are_swept(tmp_path: Path) -> None:
    """Killed while it wrote: the lock went with it, and the part stayed."""
    directory, key = tmp_path / "objects", _key()
    child = os.fork()
    if child == 0:
        incoming = FileStore(directory).incoming(key)
        incoming.write(b"x" * 100)
        incoming.write(b"y" * 100)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    (part,) = [p for p in directory.rglob("*") if p.is_file()]
    swept = FileStore(directory)
    assert swept.sweep(lambda _: set()) == 0, "it is too young to be sure"
    os.utime(part, (0, 0))
    assert swept.sweep(lambda _: set()) == 1
    assert not part.exists()


@pytest.mark.parametrize("where", ["finished", "committed"])
def test_row_and_data_agree_wherever_a_request_dies(
    cloud: Bed, account: Account, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A process that ends runs nothing more: neither its clean-up nor the removal of what was overwritten."""
    account("PUT", "c/o", b"old")

    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> Any:
        raise Killed

    if where == "finished":
        monkeypatch.setattr(object, "replace", die)
    else:
        monkeypatch.setattr(object, "forget", die)
    monkeypatch.setattr(driver.Arriving, "drop", die)
    with pytest.raises(Killed):
        account("PUT", "c/o", b"newer")
    monkeypatch.undo()
    assert len(files(cloud)) == 2
    text = "old" if where == "finished" else "newer"
    assert account("GET", "c/o").text == text
    assert expiry.sweep(cloud.cloud) == 1
    assert (account("GET", "c/o").text, account.stats("c")) == (text, (1, len(text)))
    assert len(files(cloud)) == 1


def test_a_full_disk_refuses_and_changes_nothing(
    cloud: Bed, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account("PUT", "c/o", b"old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(IncomingFile, "finish", full)
        got = account("PUT", "c/o", b"newer")
        assert (got.status, "disk of the cloud is full" in got.text) == (503, True)
    with monkeypatch.context() as patched:
        patched.setattr(FileStore, "free_bytes", lambda _: 3)
        got = account("PUT", "c/o", b"newer")
        assert (got.status, "5 bytes" in got.text) == (507, True)
    assert (account("GET", "c/o").text, len(files(cloud))) == ("old", 1)


def test_a_store_that_is_away_is_not_a_bug(
    cloud: Bed, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account("PUT", "c/o", b"old")

    def broken(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        for call in ("incoming", "copy", "open"):
            patched.setattr(FileStore, call, broken)
        assert account("PUT", "c/o", b"newer").status == 503
        assert account("GET", "c/o").status == 503
        assert account("COPY", "c/o", Destination="c/p").status == 503
    with monkeypatch.context() as patched:
        patched.setattr(FileStore, "copy", broken)  # a disk whose files have no second name
        assert account("COPY", "c/o", Destination="c/p").status == 201
    assert (account("GET", "c/p").text, account.stats("c")) == ("old", (2, 6))


def test_data_that_is_overwritten_while_it_is_read_is_read_to_its_end(cloud: Bed, account: Account) -> None:
    account("PUT", "c/o", b"old" * 100_000)
    who = Visitor(caller=None, signed=(account.name, None))
    opened = reading.open_object(cloud.cloud, who, Place(account.name, "c", "o"), None)
    pieces: Iterator[bytes] = opened.body.read(0, opened.size)
    first = next(pieces)
    account("PUT", "c/o", b"new")
    assert first + b"".join(pieces) == b"old" * 100_000
    opened.body.close()
    assert account("GET", "c/o").text == "new"


def test_storage_policies_are_places(cloud: Bed, account: Account, tmp_path: Path) -> None:
    silver = StoragePolicy(name="silver", directory=str(tmp_path / "silver"))
    options = ObjectStore(policies=[StoragePolicy(), silver])
    cloud.cloud.config = Config(paths=cloud.config.paths, objectstore=options)
    assert account("PUT", "s", X_Storage_Policy="Silver").status == 201
    assert account("PUT", "s", X_Storage_Policy="Policy-0").status == 409
    account("PUT", "s/o", b"hello")
    account("PUT", "c/o", b"x")
    assert [p.stat().st_size for p in (tmp_path / "silver").rglob("*") if p.is_file()] == [5]
    told = account("HEAD").headers
    assert told["x-account-storage-policy-silver-bytes-used"] == "5"
    account("COPY", "s/o", Destination="c/copy")
    assert (account("GET", "c/copy").text, len(files(cloud))) == ("hello", 2)
    admin = account.by(cloud.admin)
    admin("POST", "", X_Account_Quota_Bytes_Policy_Silver="6")
    assert [account("PUT", "s/p", b"xx").status, account("PUT", "c/p", b"xx").status] == [413, 201]
    cloud.cloud.config = Config(paths=cloud.config.paths)
    gone = account("GET", "s/o")
    assert (gone.status, "silver" in gone.text) == (503, True)
    twice = Config(paths=cloud.config.paths, objectstore=ObjectStore(policies=[silver, silver]))
    cloud.cloud.config = twice
    with pytest.raises(ConfigError):
        store.of(cloud.cloud)
