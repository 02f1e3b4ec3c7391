"""Keystone itself, for comparison: release 30 from PyPI, made and served as its installation guide says.

One worker under Granian with as many threads as Stackling's API has, SQLite, Fernet tokens, bcrypt with 12 rounds.
`CACHED` are all of Keystone's caches (dogpile, in memory); `INSTALLED` is the backend that a new installation has, which
keeps nothing.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.cloud import Cloud, free_port
from bench.measure import Client, Failed, family, request
from stackling.base.config import Api

CACHED, INSTALLED = "dogpile.cache.memory", "dogpile.cache.null"
_PACKAGES = ("keystone==30.*", "granian")
_PASSWORD = "bench-pass-word"
_CONFIG = """
[DEFAULT]
log_file = {home}/keystone.log
[database]
connection = sqlite:///{home}/keystone.db
[token]
provider = fernet
[fernet_tokens]
key_repository = {home}/fernet
[credential]
key_repository = {home}/credential
[cache]
enabled = true
backend = {cache}
[identity]
password_hash_algorithm = bcrypt
password_hash_rounds = 12
"""

# Not Granian's own command: Keystone takes the words of the command line to be its own.
_SERVER = """
from granian.constants import Interfaces
from granian.server import Server
Server("keystone.wsgi.api:application", interface=Interfaces.WSGI, **{settings}).serve()
"""


@contextlib.contextmanager
def serving(environment: Path | None = None, cache: str = CACHED) -> Iterator[Cloud]:
    """A Keystone with an administrator, as long as the block runs.

    `environment` is a virtual environment to be used, and made where there is none yet; by default a new one that goes
    afterwards. Raises Failed.
    """
    home = Path(tempfile.mkdtemp(prefix="keystone-bench-"))
    server: subprocess.Popen[bytes] | None = None
    try:
        programs = _environment(environment or home / "venv")
        url = f"http://127.0.0.1:{free_port()}"
        variables = _prepare(home, programs, url, cache)
        settings = {"port": int(url.rpartition(":")[2]), "workers": 1, "blocking_threads": Api().threads}
        with open(home / "granian.log", "wb") as output:
            server = subprocess.Popen(
                [programs / "python", "-c", _SERVER.format(settings=settings)],
                env={**os.environ, **variables}, stdout=output, stderr=subprocess.STDOUT, cwd=home,
            )  # fmt: skip
        _wait(url, server, home / "granian.log")
        yield Cloud(
            {**variables, "OS_AUTH_URL": f"{url}/v3"}, pids=family(server.pid), database=home / "keystone.db"
        )
    finally:
        if server is not None:
            _end(server)
        shutil.rmtree(home, ignore_errors=True)


def _end(server: "subprocess.Popen[bytes]") -> None:
    """End it, even while it is still at work on a long list."""
    pids = family(server.pid)
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        for pid in reversed(pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.wait()


def _environment(where: Path) -> Path:
    """The directory of its programs."""
    if not (where / "bin" / "granian").exists():
        print("making a virtual environment with Keystone …", file=sys.stderr)
        _run([sys.executable, "-m", "venv", where])
        _run([where / "bin" / "pip", "install", "-q", "--disable-pip-version-check", *_PACKAGES])
    return where / "bin"


def _prepare(home: Path, programs: Path, url: str, cache: str) -> dict[str, str]:
    """Configuration, tables, keys and administrator. Returns the environment of the server and of its users."""
    config = home / "keystone.conf"
    config.write_text(_CONFIG.format(home=home, cache=cache))
    me = ("--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid()))
    for command in (
        ("db_sync",),
        ("fernet_setup", *me),
        ("credential_setup", *me),
        ("bootstrap", "--bootstrap-password", _PASSWORD, "--bootstrap-region-id", "RegionOne",
         *(f"--bootstrap-{kind}-url={url}/v3" for kind in ("admin", "public", "internal"))),
    ):  # fmt: skip
        _run([programs / "keystone-manage", "--config-file", config, *command])
    return {
        "OS_KEYSTONE_CONFIG_FILES": str(config),
        "OS_USERNAME": "admin",
        "OS_PASSWORD": _PASSWORD,
        "OS_PROJECT_NAME": "admin",
    }


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command[:4]))}: {(done.stderr or done.stdout).strip()[-2000:]}")


def _wait(url: str, server: "subprocess.Popen[bytes]", output: Path) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            Client(url).expect(request(url, "/v3"), 200)
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(0.1)
            break
    raise Failed(f"Keystone does not answer: {output.read_text()[-2000:]}")
