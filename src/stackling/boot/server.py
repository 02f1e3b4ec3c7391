"""The cloud in the foreground: Granian serves the API; the first of its processes also runs worker and node.

The process that is started stays small: it only watches over Granian's processes. Everything else is imported and
made in those. Any of them may be killed at any moment; what it was doing goes on in the next one.
"""

import ctypes
import fcntl
import gc
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from granian.constants import Interfaces

from stackling.base import log
from stackling.base.config import Config, ConfigError
from stackling.boot import supervisor
from stackling.boot.start import START, Start
from stackling.boot.supervisor import Supervisor


def command(config: Config, *, fake: bool) -> list[str]:
    """The command that serves the cloud in the foreground, once the cloud's directories are there."""
    for made, mode in directories(config):
        made.mkdir(parents=True, exist_ok=True)
        made.chmod(mode)
    start = Path(config.paths.run_dir) / START
    start.touch(mode=0o600)
    start.write_bytes(msgspec.json.encode(Start(config, fake)))
    return [sys.executable, "-m", "stackling.boot.server", str(start)]


def run(config: Config, *, fake: bool = False) -> int:
    """Serve until told to stop (SIGTERM, SIGINT). Returns the exit status."""
    tls = certificate(config) if config.api.tls else None
    log.setup(level=config.log.level, delay=0.05)
    server = Supervisor(
        "stackling",
        address=config.api.listen,
        port=config.api.port,
        interface=Interfaces.WSGI,
        workers=config.api.workers,
        blocking_threads=config.api.threads,
        backlog=1024,
        log_enabled=True,
        log_level="error",
        respawn_failed_workers=True,
        workers_kill_timeout=10,
        ssl_cert=tls[0] if tls else None,
        ssl_key=tls[1] if tls else None,
    )
    mark = Path(config.paths.run_dir) / "cloud.json"
    mark.write_text(json.dumps({"pid": os.getpid(), "url": config.base_url, "fake": fake}))
    try:
        server.serve(target_loader=lambda _: _load(server, config, fake=fake))
    finally:
        mark.unlink(missing_ok=True)
    return 0


def directories(config: Config) -> list[tuple[Path, int]]:
    """The cloud's own directories with their modes. QEMU's user must be able to pass through the state directory."""
    paths = config.paths
    state = Path(paths.state_dir)
    return [
        (state, 0o711),
        (state / "keys", 0o700),
        (Path(paths.run_dir), 0o755),
        (Path(paths.log_dir), 0o750),
        (Path(paths.config_dir), 0o755),
    ]


def certificate(config: Config) -> tuple[Path, Path]:
    """The API's certificate and key, issued by the cloud's own CA."""
    from stackling.base.ca import CertificateAuthority

    authority = CertificateAuthority(Path(config.paths.state_dir) / "keys" / "ca")
    names = {
        "localhost",
        "127.0.0.1",
        config.api.listen,
        config.base_url.split("://")[1].rsplit(":", 1)[0].strip("[]"),
    }
    issued = authority.issue("api", sorted(names - {"0.0.0.0", "::"}), ["server"])
    return Path(issued.cert), Path(issued.key)


def _load(server: Supervisor, config: Config, *, fake: bool) -> Callable[..., Any]:
    _die_with(server.pid)
    try:
        app = load(config, fake=fake)
    except Exception as e:  # noqa: BLE001 (`stackling up` shows the last lines of the log)
        traceback.print_exc()
        first = next(iter(str(e).splitlines()), "")
        kind = "" if isinstance(e, ConfigError) else f"{type(e).__name__}: "
        sys.exit(f"the cloud can't start: {kind}{first}")
    server.loaded()
    return app


def load(config: Config, *, fake: bool) -> Callable[..., Any]:
    """Make the cloud in one of Granian's processes. Returns its WSGI app."""
    from stackling.base.db import Database
    from stackling.boot import assembly, credentials, health, schema, worker
    from stackling.identity.state import revision

    run_dir = Path(config.paths.run_dir)
    supervisor.mark(run_dir)
    cloud = assembly.assemble(
        config, Database(config.database_url, pool_size=config.api.threads + config.worker.threads)
    )
    schema.upgrade(cloud.db)
    first = _first(config)
    if first and (ended := supervisor.end_strays(run_dir)):
        log.get("supervisor").warning(
            "worker.strays", says="ended what a process that died had running", count=ended
        )
    if fake:
        from stackling.boot import fake as node
    elif not first:
        from stackling.boot import far as node  # type: ignore[no-redef]
    else:
        from stackling.boot import node  # type: ignore[no-redef]
    part = node.connect(cloud)
    # One after another, and each of them, so that none answers before there are an administrator and a catalog.
    with _alone(run_dir):
        assembly.prepare(cloud)
        credentials.write(config)
    cloud.db.listen(revision.LATEST)
    if first:
        threading.Thread(target=part.run, name="node", daemon=True).start()
        worker.run(cloud)
    application = assembly.application(cloud, health.routes(cloud, part))
    _spare_garbage_collection()
    return application


@contextmanager
def _alone(run_dir: Path) -> Iterator[None]:
    """While no other of the cloud's processes is here."""
    with (run_dir / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _spare_garbage_collection() -> None:
    """Look for garbage less often, and never in what lives as long as the process: half the time of a long list."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


_held: list[Any] = []


def _first(config: Config) -> bool:
    """Whether this is the one process that runs jobs and node: it holds a lock that ends with it."""
    lock = open(Path(config.paths.run_dir) / "worker.lock", "w")  # noqa: SIM115 (held as long as the process lives)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return False
    _held.append(lock)
    return True


def _die_with(parent: int) -> None:
    """Granian's processes must not outlive the one that watches over them: they would keep the port."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


if __name__ == "__main__":
    asked = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Start)
    sys.exit(run(asked.config, fake=asked.fake))
