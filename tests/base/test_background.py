"""Work that outlasts a call."""

import threading

import pytest

from stackling.base.background import Background


def test_work_is_done_once_and_asked_after() -> None:
    background, go, runs = Background("test"), threading.Event(), []

    def work() -> None:
        runs.append(1)
        go.wait(5)

    assert not background.run("a", work, wait=0.01)
    assert not background.run("a", work, wait=0.01)
    assert background.running() == {"a"}
    assert background.run("b", lambda: None), "another key does not wait"
    go.set()
    assert background.run("a", work)
    assert len(runs) <= 2, "a call that comes after the end may do it anew"
    assert background.running() == set()


def test_an_error_reaches_the_next_who_asks() -> None:
    background, go = Background("test"), threading.Event()

    def fail() -> None:
        go.wait(5)
        raise OSError("disk full")

    assert not background.run("a", fail, wait=0.01)
    go.set()
    with pytest.raises(OSError, match="disk full"):
        background.run("a", lambda: None)
    assert background.run("a", lambda: None)
