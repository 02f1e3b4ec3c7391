"""Processes killed with SIGKILL while image data is on its way: a real one, whose cloud the next one takes up."""

import http.server
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.image.test_image import V2, create, files, upload
from tests.image.test_import import allow, bring_in, show, stage, tasks

BIG = bytes(range(256)) * (4 << 12)  # 4 MiB

# A second process on the same database and directories. It says "here" in the middle of its work and waits there.
UPLOAD = """
def source():
    yield data[: 2 << 20]
    print("here", flush=True)
    time.sleep(600)

who = Caller(policy=bed.cloud.policy, user_id="u", project_id=project, roles=frozenset({"member", "reader"}))
into(bed.cloud, who, image_id, source(), len(data))
"""
IMPORT = """
while True:
    bed.turn(1)
    time.sleep(0.1)
"""
BEGIN = """
import sys, time
from pathlib import Path
from stackling.base.context import Caller
from stackling.image.actions import data as actions
from stackling.image import download
from stackling.image.actions import web
from tests.conftest import Bed
web.allowed = lambda cloud: download.Allowed(("127.0.0.1",))
url, home, image_id, project, verb = sys.argv[1:]
bed = Bed(url, Path(home), prepared=True)
data = bytes(range(256)) * (4 << 12)
into = getattr(actions, verb, None)
"""


@pytest.fixture
def process(cloud: Any) -> Iterator[Any]:
    running: list[subprocess.Popen[str]] = []

    def start(script: str, image_id: str, project: str, verb: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", BEGIN + script, str(cloud.db.url.render_as_string(False))]
        began = subprocess.Popen(
            [*command, str(cloud.home), image_id, project, verb],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        running.append(began)
        return began

    yield start
    for one in running:
        one.kill()
        one.wait()


def said(process: Any) -> None:
    assert process.stdout.readline() == "here\n"


@pytest.mark.parametrize("verb", ["receive", "stage"])
def test_an_upload_killed_leaves_nothing(cloud: Any, alice: Any, process: Any, verb: str) -> None:
    id = create(alice)["id"]
    victim = process(UPLOAD, id, alice.project_id, verb)
    said(victim)
    assert show(alice, id)["status"] == {"receive": "saving", "stage": "uploading"}[verb]
    assert upload(alice, id).status == 409
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert len(files(cloud)) == 1  # the half that it wrote
    cloud.worker.reclaim()
    cloud.turn(400, every=100)
    assert (show(alice, id)["status"], files(cloud)) == ("queued", [])
    assert upload(alice, id, BIG).status == 204
    assert alice.get(f"{V2}/{id}/file").content == BIG


class Slow(http.server.BaseHTTPRequestHandler):
    """Sends half of the data, and the rest only when it may."""

    go = threading.Event()
    asked: ClassVar[list[str]] = []
    half = threading.Event()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(BIG)))
        self.end_headers()
        self.wfile.write(BIG[: 2 << 20])
        self.half.set()
        if self.go.wait(60):
            self.wfile.write(BIG[2 << 20 :])

    def log_message(self, *args: Any) -> None:
        """Nothing is logged."""


@pytest.fixture
def slow() -> Iterator[str]:
    Slow.go.clear()
    Slow.half.clear()
    Slow.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/big"
        Slow.go.set()
        server.shutdown()


def test_an_import_killed_is_done_by_the_next(cloud: Any, alice: Any, process: Any, slow: str) -> None:
    allow(cloud, web_download_allow=["127.0.0.1"])
    id = create(alice)["id"]
    assert bring_in(alice, id, "web-download", uri=slow).status == 202
    victim = process(IMPORT, id, alice.project_id, "receive")
    assert Slow.half.wait(60)
    assert show(alice, id)["status"] == "importing"
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    Slow.go.set()
    assert cloud.worker.reclaim() == 1
    cloud.turn(30)
    assert show(alice, id)["status"] == "active", tasks(alice, id)
    assert alice.get(f"{V2}/{id}/file").content == BIG
    assert len(Slow.asked) == 2
    assert files(cloud) == [id]
    assert [t["status"] for t in tasks(alice, id)] == ["success"]


def test_staged_data_survives_the_process(cloud: Any, alice: Any, process: Any, slow: str) -> None:
    id, other = create(alice)["id"], create(alice)["id"]
    stage(alice, other, BIG)
    victim = process(UPLOAD, id, alice.project_id, "receive")
    said(victim)
    victim.kill()
    victim.wait()
    assert bring_in(alice, other, "glance-direct").status == 202
    cloud.settle()
    assert alice.get(f"{V2}/{other}/file").content == BIG
    assert Path(cloud.home / "state" / "images" / other).stat().st_nlink == 1  # staging let go of it
