"""The cloud under test: one with fake hosts that a benchmark starts for itself, or whatever the `OS_*` variables name."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.measure import Answer, Client, Failed, family, request

STACKLING = (sys.executable, "-m", "stackling.cli.main")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Cloud:
    """A cloud one is logged in to. `pids`: the processes that serve it, as far as they are known; `database`: its SQLite file."""

    def __init__(
        self, variables: dict[str, str], *, pids: list[int] | None = None, database: Path | None = None
    ) -> None:
        self.variables, self.pids, self.database = variables, pids or [], database
        self.auth_url = variables["OS_AUTH_URL"].rstrip("/")
        if not self.auth_url.endswith("/v3"):
            self.auth_url += "/v3"
        answer = Client(self.auth_url).expect(self.login_request(), 201)
        self.token = answer.headers["x-subject-token"]
        shown = answer.json["token"]
        self.project_id, self.user_id = shown["project"]["id"], shown["user"]["id"]
        self._urls = {
            s["type"]: e["url"]
            for s in shown["catalog"]
            for e in s["endpoints"]
            if e["interface"] == "public"
        }
        self._urls["identity"] = self.auth_url
        self._clients: dict[str, Client] = {}

    def login_request(self) -> bytes:
        v = self.variables
        user = {
            "name": v["OS_USERNAME"],
            "domain": {"id": v.get("OS_USER_DOMAIN_ID", "default")},
            "password": v["OS_PASSWORD"],
        }
        scope = {
            "project": {
                "name": v["OS_PROJECT_NAME"],
                "domain": {"id": v.get("OS_PROJECT_DOMAIN_ID", "default")},
            }
        }
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        return request(self.auth_url, "/auth/tokens", method="POST", body=body)

    def url(self, service: str) -> str:
        """The endpoint of a service type, with its version. Raises Failed when the cloud has none."""
        for kind in {"volume": ("block-storage", "volumev3")}.get(service, (service,)):
            if kind in self._urls:
                url = self._urls[kind].rstrip("/")
                version = {"network": "/v2.0", "image": "/v2"}.get(service, "")
                return url if not version or url.endswith(version) else url + version
        raise Failed(f"the cloud has no {service} service")

    def wire(self, service: str, path: str, method: str = "GET", body: Any = None, **headers: str) -> bytes:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return request(self.url(service), path, self.token, method=method, body=body, headers=named)

    def call(
        self, service: str, path: str, method: str = "GET", body: Any = None, *, expect: int = 200
    ) -> Answer:
        if service not in self._clients:
            self._clients[service] = Client(self.url(service))
        return self._clients[service].expect(self.wire(service, path, method, body), expect)

    def status(self, service: str, path: str) -> int:
        """The status code that a GET is answered with."""
        if service not in self._clients:
            self._clients[service] = Client(self.url(service))
        return self._clients[service].send(self.wire(service, path)).status

    def until(
        self, look: Callable[[], bool], what: str, *, seconds: float = 60, every: float = 0.003
    ) -> None:
        """Return when `look` says so. Raises Failed when it takes longer than `seconds`."""
        ends = time.perf_counter() + seconds
        while not look():
            if time.perf_counter() > ends:
                raise Failed(f"{what} took more than {seconds:.0f} s")
            time.sleep(every)

    def server(self, server_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("compute", f"/servers/{server_id}").json["server"]
        if found["status"] == "ERROR":
            raise Failed(f"server {server_id} is in ERROR: {found.get('fault')}")
        return found

    def flavor(self) -> str:
        """The smallest flavor that an image boots with."""
        found = self.call("compute", "/flavors/detail").json["flavors"]
        return str(min(found, key=lambda f: (f["ram"], f["disk"]))["id"])

    def image(self) -> str:
        """An image to boot from; waits for the first that a new cloud registers."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = self.call("image", "/images?status=active").json["images"]
            return bool(found)

        self.until(there, "the first image", every=0.05)
        return str(found[0]["id"])


def named_by_environment() -> Cloud:
    """The cloud of the `OS_*` variables. Plain HTTP only."""
    return Cloud({name: value for name, value in os.environ.items() if name.startswith("OS_")})


@contextlib.contextmanager
def own(*, fake: bool = True, environ: dict[str, str] | None = None) -> Iterator[Cloud]:
    """A cloud of the benchmark's own, on a free port and in a directory that goes with it."""
    home = Path(tempfile.mkdtemp(prefix="stackling-bench-"))
    variables = {
        **os.environ,
        "XDG_STATE_HOME": str(home),
        "STACKLING_API_PORT": str(free_port()),
        **(environ or {}),
    }
    kind = ("--fake",) if fake else ()
    try:
        command(("up", *kind), variables)
        yield running(variables, kind, home)
    finally:
        command(("down", *kind, "--purge"), variables, may_fail=True)
        shutil.rmtree(home, ignore_errors=True)


def running(variables: dict[str, str], kind: tuple[str, ...], home: Path) -> Cloud:
    """The cloud that was started with these variables, once all services answer."""
    root = home / "stackling-fake" if kind else None
    mark = (root / "run" if root else Path("/run/stackling")) / "cloud.json"
    pids = family(int(json.loads(mark.read_text())["pid"]))
    found = json.loads(command(("env", *kind, "--format", "json"), variables))
    return Cloud(
        found, pids=pids, database=(root / "state" if root else Path("/var/lib/stackling")) / "state.db"
    )


def command(arguments: tuple[str, ...], variables: dict[str, str], *, may_fail: bool = False) -> str:
    """Run the `stackling` command and return what it printed. Raises Failed."""
    done = subprocess.run(
        [*STACKLING, *arguments], env=variables, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode and not may_fail:
        raise Failed(f"stackling {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")
    return done.stdout
