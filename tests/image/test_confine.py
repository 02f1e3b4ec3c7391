"""Programs of an image run as nobody of the host, see nothing of it, and end with whoever asked for them."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stackling.image.builder import confine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory that whoever is confined owns."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    os.chown(scratch, confine.FIRST_ID, confine.FIRST_ID)
    return scratch


def said(place: Path, script: str, *, network: bool = False) -> str:
    log = place.parent / "log"
    with log.open("wb") as out:
        confine.run(["sh", "-c", script], log=out, keep=[place], network=network, seconds=30)
    return log.read_text()


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def inhabitants() -> list[str]:
    """Processes of the confined root and of whoever started them for this test."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            uid = next(line for line in status.read_text().splitlines() if line.startswith("Uid:")).split()[1]
            command = status.with_name("cmdline").read_bytes().decode(errors="replace")
        except (OSError, StopIteration):
            continue
        if int(uid) >= confine.FIRST_ID and "4242" in command:
            found.append(command)
    return found


def test_root_inside_is_nobody_outside(place: Path) -> None:
    assert said(place, "id -u").strip() == "0"
    said(place, f"touch {place}/mine")
    assert (place / "mine").stat().st_uid == confine.FIRST_ID
    with pytest.raises(confine.Confined, match="status"):
        said(place, "cat /etc/shadow")
    with pytest.raises(confine.Confined, match="status"):
        said(place, "touch /etc/made")


def test_neither_network_nor_files_of_the_host_are_seen(place: Path) -> None:
    assert [line.split(":")[1].strip() for line in said(place, "ip -o link").splitlines()] == ["lo"]
    assert said(place, "ls /run /root /home /var/tmp | grep -v :").split() == []
    assert "4242" not in said(place, "ls /tmp")
    hidden = place.parent / "hidden"
    hidden.mkdir()
    with (place.parent / "log").open("wb") as out, pytest.raises(confine.Confined):
        confine.run(["ls", str(hidden)], log=out, keep=[place], seconds=30)
    assert (len(said(place, "ls /proc | grep -c '^[0-9]'").strip())) == 1


def test_secrets_in_the_environment_stay_outside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKLING_DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    assert "secret" not in said(place, "env")
    assert "proxy" not in said(place, "env")
    assert "http_proxy=http://proxy.example:3128" in said(place, "env", network=True)
    assert "secret" not in said(place, "env", network=True)


def test_mounts_are_its_own_and_end_with_it(place: Path) -> None:
    before = Path("/proc/mounts").read_text()
    said(place, f"mkdir {place}/m; mount -t tmpfs x {place}/m; touch {place}/m/here; ls {place}/m")
    assert Path("/proc/mounts").read_text() == before
    assert list((place / "m").iterdir()) == []


def test_what_it_leaves_running_ends_with_it(place: Path) -> None:
    said(place, "sleep 4242 >/dev/null 2>&1 & true")
    until(lambda: inhabitants() == [])


def test_it_ends_when_its_time_is_over_or_nobody_wants_it(place: Path) -> None:
    with (place.parent / "log").open("wb") as out:
        with pytest.raises(confine.Confined, match="did not end in 1 seconds"):
            confine.run(["sleep", "4242"], log=out, keep=[place], seconds=1)
        with pytest.raises(confine.Stopped):
            confine.run(["sleep", "4242"], log=out, keep=[place], seconds=60, stop=lambda: True)
    until(lambda: inhabitants() == [])


def test_killing_whoever_asked_ends_everything(place: Path) -> None:
    script = f"""
    from pathlib import Path
    from stackling.image.builder import confine
    with open({str(place.parent / "log")!r}, "wb") as log:
        confine.run(["sh", "-c", "sleep 4242 & echo up; wait"], log=log, keep=[Path({str(place)!r})], seconds=100)
    """
    asker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    until(lambda: len(inhabitants()) >= 2)
    asker.send_signal(signal.SIGKILL)
    asker.wait()
    until(lambda: inhabitants() == [])


def test_what_does_not_exist_is_named(place: Path) -> None:
    with pytest.raises(confine.Confined, match="no-such-program ended with status 127"):
        said_nothing = place.parent / "log"
        with said_nothing.open("wb") as out:
            confine.run(["no-such-program"], log=out, keep=[place], seconds=10)
    assert "no-such-program" in (place.parent / "log").read_text()
