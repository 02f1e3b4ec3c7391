"""Tests of the real data plane run inside a simulated host, so they never meet a cloud that runs on this machine.

Run `pytest -m host` as any other tests: this process collects them, a second pytest inside a simulated host (see
`enter`) runs them, and its reports are shown here. Each file has a simulated host of its own, so files may run beside
one another (`-n 2 --dist loadfile`). To debug in place: tests/host/enter pytest tests/host -x -s
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stackling.image.builder import BuildError
from stackling.node.services import Services
from tests import ready_image

HERE = Path(__file__).parent
INSIDE = "SIMULATED_HOST" in os.environ
REPORTS = "SIMULATED_HOST_REPORTS"
# Where guests boot the ready image. It is built out here, since the simulated host does not reach the Debian archive.
GUESTS = ("test_cloud", "test_crash", "test_disk_full", "test_hypervisor", "test_processes", "test_trouble")
# Plain `su` leaves the directories of daemons out.
os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
NEEDED = ("unshare", "ovs-vswitchd", "ovn-northd", "ovn-controller", "libvirtd", "qemu-system-x86_64")


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """The daemons of the simulated host: running, healthy and shared by all tests in it."""
    made = Services(Path("/run/stackling"), Path("/var/lib/stackling"), host=os.environ["SIMULATED_HOST"])
    for state in made.ensure():
        assert state.healthy, f"{state.name}: {state.why}"
    yield made
    made.stop()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    why = f"not installed: {', '.join(lacking)}" if lacking else "" if os.geteuid() == 0 else "needs root"
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.host)
            if why:
                item.add_marker(pytest.mark.skip(reason=why))


class Inside:
    """The pytest that runs inside the simulated host, seen from outside: a stream of its reports."""

    def __init__(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        self.config = config
        self.path = items[0].path
        if self.path.stem in GUESTS:
            with contextlib.suppress(BuildError):  # the tests that need it say so, inside
                ready_image.build()
        read, write = os.pipe()
        command = [str(HERE / "enter"), sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["--rootdir", str(config.rootpath), *(item.nodeid for item in items)]
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end(); a pipe would fill up unread
        with open(write, "wb") as end:
            self.process = subprocess.Popen(
                command,
                cwd=config.rootpath,
                env={**os.environ, REPORTS: str(end.fileno())},
                pass_fds=[end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.said,
                stderr=subprocess.STDOUT,
            )
        self.stream = open(read)  # noqa: SIM115 - closed by end()

    def reports(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        """The reports of one test, in the order of the run; an error when the run ended before it."""
        for line in self.stream:
            report = self.config.hook.pytest_report_from_serializable(
                config=self.config, data=json.loads(line)
            )
            if report.nodeid == item.nodeid:
                yield report
                if report.when == "teardown":
                    return
        self.said.seek(0)
        said = self.said.read().decode(errors="replace")
        yield pytest.TestReport(
            item.nodeid, item.location, {}, "failed", f"the simulated host ended early:\n{said}", "setup"
        )

    def end(self) -> None:
        self.process.kill()  # everything inside dies with it
        self.process.wait()
        self.stream.close()
        self.said.close()


_inside = pytest.StashKey[Inside]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if INSIDE or HERE not in item.path.parents or item.get_closest_marker("skip"):
        return None
    if _inside in item.config.stash and item.config.stash[_inside].path != item.path:
        pytest_unconfigure(item.config)
    if _inside not in item.config.stash:
        mine = [one for one in item.session.items if one.path == item.path]
        item.config.stash[_inside] = Inside(item.config, mine)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in item.config.stash[_inside].reports(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if INSIDE and REPORTS in os.environ:
        line = json.dumps(report._to_json() | {"$report_type": "TestReport"}, default=_plain)
        os.write(int(os.environ[REPORTS]), line.encode() + b"\n")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _inside in config.stash:
        config.stash[_inside].end()
        del config.stash[_inside]


def _plain(value: Any) -> str:
    return str(value)
