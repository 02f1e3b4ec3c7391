"""A simulated host ends with what started it, however that ends."""

import contextlib
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

import pytest

ENTER = str(Path(__file__).parent / "enter")


def running(word: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
    return found


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_nothing_of_it_is_left(how: signal.Signals) -> None:
    word = f"deaf-{uuid.uuid4().hex}"
    stubborn = f"trap '' TERM INT HUP; echo here; while sleep 1; do : {word}; done"
    # A shell can't trap what was ignored when it started, as HUP is under nohup.
    command = ["env", "--default-signal=HUP,INT,TERM", ENTER, "setsid", "--wait", "sh", "-c", stubborn]
    host = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert host.stdout is not None
    assert host.stdout.readline() == b"here\n"
    assert running(word)
    os.kill(host.pid, how)
    status = host.wait(timeout=10)
    assert status == (128 + how if how != signal.SIGKILL else -how)
    deadline = time.monotonic() + 5
    while how == signal.SIGKILL and running(word) and time.monotonic() < deadline:
        time.sleep(0.02)  # whoever is killed at once can't wait for the rest
    assert running(word) == []


def test_a_command_has_its_input_and_its_status() -> None:
    done = subprocess.run([ENTER, "sh", "-c", "cat; exit 7"], input=b"said", capture_output=True, check=False)
    assert (done.stdout, done.returncode) == (b"said", 7)
