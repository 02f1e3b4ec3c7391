"""Several API processes over TLS on PostgreSQL: one cloud, whichever of them answers, and whichever of them dies."""

import contextlib
import fcntl
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from stackling.node.daemon import memory
from tests.conftest import Postgres
from tests.host.cloud_client import COMMAND, HostCloud, nbctl, run, until

CONFIG = Path("/etc/stackling/stackling.toml")
PORT = 9500
# Nobody lists images here but admins.
POLICY = '{"get_images": "role:admin"}\n'


class Front:
    """The API as a client meets it that chooses which of its processes answers: it keeps the connection."""

    def __init__(self, cloud: HostCloud) -> None:
        self.cloud = cloud
        values = json.loads(cloud.command("env", "--format", "json"))
        self.context = ssl.create_default_context(cafile=values["OS_CACERT"])
        self.name, self.password = values["OS_USERNAME"], values["OS_PASSWORD"]
        self.connections: dict[int, http.client.HTTPSConnection] = {}

    def processes(self) -> list[int]:
        """The processes that serve, the one first that runs jobs and node."""
        above = self.cloud.pid("supervisor")
        found = [int(pid) for pid in run("pgrep", "-P", str(above), "-f", "stackling.boot.server").split()]
        file = os.stat("/run/stackling/worker.lock").st_ino
        holder = int(
            re.findall(rf"FLOCK +ADVISORY +WRITE (\d+) \S+:{file} ", Path("/proc/locks").read_text())[0]
        )
        return sorted(found, key=lambda pid: pid != holder)

    def open(self) -> tuple[int, http.client.HTTPSConnection]:
        """A new connection, and the process that took it."""
        made = http.client.HTTPSConnection("127.0.0.1", PORT, context=self.context, timeout=30)
        made.request("GET", "/")
        made.getresponse().read()
        return taker(made.sock.getsockname()[1]), made

    def through(self, pid: int) -> http.client.HTTPSConnection:
        """A connection that this process has."""
        if pid not in self.connections:
            deadline = time.monotonic() + 20
            while True:
                took, made = self.open()
                if took == pid:
                    break
                made.close()
                assert time.monotonic() < deadline, f"process {pid} takes no connections"
            self.connections[pid] = made
        return self.connections[pid]

    def ask(
        self, pid: int, method: str, path: str, token: str = "", body: Any = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers that one process answers with."""
        connection = self.through(pid)
        sent = {"Content-Type": "application/json", **({"X-Auth-Token": token} if token else {}), **headers}
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, sent)
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException):
            del self.connections[pid]
            raise
        told = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, json.loads(said) if said[:1] == b"{" else None, told

    def login(self, pid: int, name: str = "", password: str = "", project: str = "admin") -> str:
        user = {"name": name or self.name, "password": password or self.password, "domain": {"id": "default"}}
        scope = {"project": {"name": project, "domain": {"id": "default"}}}
        identity = {"methods": ["password"], "password": {"user": user}}
        status, said, headers = self.ask(
            pid, "POST", "/identity/v3/auth/tokens", body={"auth": {"identity": identity, "scope": scope}}
        )
        assert status == 201, said
        return headers["x-subject-token"]


def taker(port: int) -> int:
    """The process that has the other end of a connection from this port of ours."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == PORT and int(fields[2].split(":")[1], 16) == port:
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if any(os.readlink(fd) == f"socket:[{fields[9]}]" for fd in (process / "fd").iterdir()):
                        return int(process.name)
    return 0


@contextlib.contextmanager
def until_prepared() -> Iterator[tuple[Callable[[], int], Callable[[], bool]]]:
    """Have no process make the administrator and the catalog yet. Gives what tells how many wait, and whether one answers."""
    here = Path("/run/stackling")
    here.mkdir(exist_ok=True)

    def answers() -> bool:
        asked = http.client.HTTPSConnection(
            "127.0.0.1", PORT, context=ssl._create_unverified_context(), timeout=2
        )
        try:
            asked.request("GET", "/")
            return asked.getresponse().status > 0
        except OSError:
            return False

    with (here / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file = os.fstat(lock.fileno()).st_ino
        waiter = re.compile(rf"-> FLOCK .*:{file} ")
        yield lambda: len(waiter.findall(Path("/proc/locks").read_text())), answers


@pytest.fixture(scope="module")
def front(postgres: Postgres) -> Iterator[Front]:
    """Two processes, HTTPS, and a policy of the operator's."""
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_text(f'[api]\nworkers = 2\ntls = true\n[database]\nurl = "{postgres.fresh()}"\n')
    (CONFIG.parent / "policy.yaml").write_text(POLICY)
    cloud = HostCloud()
    said: list[str] = []
    try:
        with until_prepared() as (waiting, answers):
            starting = threading.Thread(target=lambda: said.append(cloud.up()))
            starting.start()
            until(lambda: waiting() == 2, 30, "both processes at the lock")
            assert not answers()
        starting.join()
        assert f"https://127.0.0.1:{PORT}" in said[0]
        yield Front(cloud)
    finally:
        cloud.command("down", "--purge", ok=False)
        cloud.forget()
        for file in (CONFIG, CONFIG.parent / "policy.yaml"):
            file.unlink(missing_ok=True)


def test_both_processes_serve_and_the_certificate_is_the_clouds_own(front: Front) -> None:
    assert len(front.processes()) == 2
    for pid in front.processes():
        status, said, _ = front.ask(pid, "GET", "/")
        assert status == 200
        assert said["services"]["identity"] == f"https://127.0.0.1:{PORT}/identity"
    with pytest.raises(ssl.SSLError):
        http.client.HTTPSConnection("127.0.0.1", PORT, timeout=10).request("GET", "/")


def test_a_token_revoked_through_one_is_refused_by_the_other_at_once(front: Front) -> None:
    one, other = front.processes()
    for here, there in ((one, other), (other, one)):
        token, keeper = front.login(here), front.login(there)
        for pid in (here, there):
            assert front.ask(pid, "GET", "/compute/v2.1/servers", token)[0] == 200
        assert (
            front.ask(here, "DELETE", "/identity/v3/auth/tokens", keeper, **{"X-Subject-Token": token})[0]
            == 204
        )
        assert front.ask(there, "GET", "/compute/v2.1/servers", token)[0] == 401
        assert front.ask(there, "GET", "/compute/v2.1/servers", keeper)[0] == 200


def test_the_status_counts_the_memory_of_both(front: Front) -> None:
    counted = next(
        part["memory"]
        for part in json.loads(front.cloud.command("status", "--json"))["parts"]
        if part["name"] == "stackling"
    )
    each = [memory(pid) for pid in front.processes()]
    assert counted > 0.9 * sum(each) > 1.5 * max(each)


def test_roles_quotas_and_policies_hold_in_both(front: Front) -> None:
    one, other = front.processes()
    admin = front.login(one)
    project = front.ask(one, "POST", "/identity/v3/projects", admin, {"project": {"name": "many"}})[1][
        "project"
    ]["id"]
    user = {"user": {"name": "mia", "password": "mia-pass-word"}}
    mia = front.ask(other, "POST", "/identity/v3/users", admin, user)[1]["user"]["id"]
    roles = front.ask(one, "GET", "/identity/v3/roles", admin)[1]["roles"]
    member = next(role["id"] for role in roles if role["name"] == "member")
    grant = f"/identity/v3/projects/{project}/users/{mia}/roles/{member}"
    assert front.ask(other, "PUT", grant, admin)[0] == 204
    token = front.login(one, "mia", "mia-pass-word", "many")
    limit = {"quota": {"network": 2}}
    assert front.ask(one, "PUT", f"/network/v2.0/quotas/{project}", admin, limit)[0] == 200
    for pid, status in ((other, 201), (one, 201), (other, 409), (one, 409)):
        assert front.ask(pid, "POST", "/network/v2.0/networks", token, {"network": {}})[0] == status
        assert front.ask(pid, "GET", "/image/v2/images", token)[0] == 403
        assert front.ask(pid, "GET", "/image/v2/images", admin)[0] == 200
    assert front.ask(one, "DELETE", grant, admin)[0] == 204
    assert front.ask(other, "GET", "/network/v2.0/networks", token)[0] == 401
    assert front.ask(other, "DELETE", f"/identity/v3/users/{mia}", admin)[0] == 204


def test_a_server_is_booted_and_its_console_read_through_the_far_process(front: Front) -> None:
    near, far = front.processes()
    token = front.login(far)
    ready = "/image/v2/images?name=stackling-ready&status=active"
    image = until(lambda: front.ask(far, "GET", ready, token)[1]["images"], 60, "the ready image")[0]["id"]
    flavors = front.ask(far, "GET", "/compute/v2.1/flavors", token)[1]["flavors"]
    network = front.ask(far, "POST", "/network/v2.0/networks", token, {"network": {}})[1]["network"]["id"]
    subnet = {"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.6.0.0/24"}}
    assert front.ask(far, "POST", "/network/v2.0/subnets", token, subnet)[0] == 201
    want = {
        "name": "far",
        "imageRef": image,
        "flavorRef": next(f["id"] for f in flavors if f["name"] == "m1.nano"),
        "networks": [{"uuid": network}],
    }
    status, said, _ = front.ask(far, "POST", "/compute/v2.1/servers", token, {"server": want})
    assert status == 202, said
    path = f"/compute/v2.1/servers/{said['server']['id']}"
    until(lambda: front.ask(near, "GET", path, token)[1]["server"]["status"] == "ACTIVE", 60, "the server")

    def console(pid: int) -> str:
        return str(front.ask(pid, "POST", f"{path}/action", token, {"os-getConsoleOutput": {}})[1]["output"])

    for pid in (far, near):
        until(lambda pid=pid: "stackling:" in console(pid), 60, f"the console through process {pid}", 1)
    assert front.ask(far, "DELETE", path, token)[0] == 204
    until(lambda: front.ask(far, "GET", path, token)[0] == 404, 60, "the server gone")


@pytest.mark.parametrize("which", ["far", "near"])
def test_a_killed_process_comes_back_and_nothing_acknowledged_is_lost(front: Front, which: str) -> None:
    near, far = front.processes()
    victim = {"near": near, "far": far}[which]
    token = front.login(near)
    admins = front.ask(near, "GET", "/identity/v3/projects?name=admin", token)[1]["projects"][0]["id"]
    front.ask(near, "PUT", f"/network/v2.0/quotas/{admins}", token, {"quota": {"network": -1}})
    acknowledged: list[str] = []
    wrong: list[Any] = []
    stop = threading.Event()

    def write() -> None:
        """A client with a new connection for each request, as the openstack command makes them."""
        while not stop.wait(0.1):
            with contextlib.suppress(OSError, http.client.HTTPException):
                _, connection = front.open()
                connection.request(
                    "POST",
                    "/network/v2.0/networks",
                    json.dumps({"network": {"name": which}}),
                    {"X-Auth-Token": token},
                )
                answer = connection.getresponse()
                said = json.loads(answer.read())
                connection.close()
                if answer.status == 201:
                    acknowledged.append(said["network"]["id"])
                else:
                    wrong.append((answer.status, said))

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    until(lambda: len(acknowledged) > 5, 30, "requests that are answered")
    os.kill(victim, signal.SIGKILL)
    before = len(acknowledged)
    until(lambda: len(acknowledged) > before + 5, 30, "requests that are answered in spite of it")
    until(lambda: len(front.processes()) == 2 and victim not in front.processes(), 30, "another process")
    front.connections.clear()
    stop.set()
    for writer in writers:
        writer.join()
    assert wrong == []
    for pid in front.processes():
        listed = front.ask(pid, "GET", f"/network/v2.0/networks?name={which}&fields=id", token)[1]["networks"]
        assert set(acknowledged) <= {network["id"] for network in listed}
    until(lambda: set(acknowledged) <= switches(), 60, "their jobs are done", 0.5)
    until(
        lambda: '"healthy": false' not in front.cloud.command("status", "--json"),
        40,
        "all parts healthy",
        0.5,
    )


def test_purge_takes_its_tables_out_of_the_database(front: Front, postgres: Postgres) -> None:
    url = tomllib.loads(CONFIG.read_text())["database"]["url"]
    with sa.create_engine(url).begin() as tx:
        tx.execute(sa.text("CREATE TABLE somebody_elses (id integer)"))
    assert "Nothing of it is left" in front.cloud.command("down", "--purge")
    assert sa.inspect(sa.create_engine(url)).get_table_names() == ["somebody_elses"]
    postgres.drop(url)
    said = subprocess.run([COMMAND, "down", "--purge"], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "drop that database by hand" in said.stderr


def switches() -> set[str]:
    return {line.split()[1].strip("()") for line in nbctl("ls-list").splitlines()}
