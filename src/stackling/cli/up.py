"""`stackling up`: start the cloud, or say that it runs."""

import errno
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stackling.base.config import Config
from stackling.cli.setting import Setting, Trouble, running


def up(
    *,
    foreground: Annotated[
        bool, Parameter(negative=(), help="Stay in the foreground and log to standard error.")
    ] = False,
    setting: Setting | None = None,
) -> int:
    """Start the cloud: API, worker and node in one, with Open vSwitch, OVN and libvirt where they don't run yet.

    Does nothing when it runs already.
    """
    from stackling.boot import server

    setting = setting or Setting()
    config = setting.config
    pid = running(config)
    if pid:
        config = setting.in_force
        _await(config, pid, None)
        print(f"Stackling is up already (process {pid}): {config.base_url}")
        return _await_parts(setting)
    _check(config, fake=setting.fake)
    # glibc gives each thread a heap of its own and keeps what it freed; two heaps hold half as much and are fast enough.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    if foreground:
        os.execv(sys.executable, server.command(config, fake=setting.fake))
    log = Path(config.paths.log_dir) / "stackling.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        start = log.stat().st_size
        process = subprocess.Popen(
            server.command(config, fake=setting.fake),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd="/",
        )
    _await(config, process.pid, process, log, start)
    print(f"Stackling is up: {config.base_url}")
    print(f"  credentials: {config.paths.config_dir}/clouds.yaml and {config.paths.config_dir}/openrc")
    print(
        f"  try:         export OS_CLIENT_CONFIG_FILE={config.paths.config_dir}/clouds.yaml OS_CLOUD=stackling; openstack catalog list"
    )
    print(f"  log:         {log}")
    print(f"  stop it:     {setting.command('down')}")
    return _await_parts(setting)


def _await_parts(setting: Setting, within: float = 40.0) -> int:
    """Return the exit status: 0 when all parts are healthy, 1 with what is wrong when they don't become so."""
    from stackling.cli.client import ask

    deadline = time.monotonic() + within
    while True:
        try:
            ill = [
                f"{part['name']}: {part['why']}"
                for part in ask(setting, "GET", "/stackling/v1/status")["parts"]
                if not part["healthy"]
            ]
        except Trouble as e:
            ill = [str(e)]
        if not ill:
            return 0
        if time.monotonic() > deadline:
            print("but not all of it is healthy:", *ill, sep="\n  ", file=sys.stderr)
            return 1
        time.sleep(0.1)


def _check(config: Config, *, fake: bool) -> None:
    """Say plainly what would stop the cloud from starting."""
    if config.api.workers > 1 and (fake or config.database_url.startswith("sqlite")):
        raise Trouble(
            "several API processes need PostgreSQL and real hosts; set `url` in [database], or `workers` in [api] to 1"
        )
    if not fake and os.geteuid() != 0:
        raise Trouble(
            "starting a cloud needs root, for networks and virtual machines; run it with sudo, or try `stackling up --fake`"
        )
    if holder := _listener(config.api.port, config.api.listen):
        raise Trouble(
            f"port {config.api.port} is in use by {holder}; end it, or set another with STACKLING_API_PORT or `port` in [api]"
        )
    for name in ("state_dir", "run_dir", "log_dir", "config_dir"):
        path = Path(getattr(config.paths, name))
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / ".writable"
            try:
                with probe.open("wb", buffering=0) as file:
                    os.posix_fallocate(file.fileno(), 0, 1 << 20)  # an empty file fits on a full disk
            finally:
                probe.unlink(missing_ok=True)
        except OSError as e:
            if e.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Trouble(
                    f"the disk of {path} is full; free space there, or choose another place with `{name}` in [paths]"
                ) from None
            raise Trouble(
                f"{path} can't be written ({e.strerror}); free or change it with `{name}` in [paths]"
            ) from None


def _listener(port: int, address: str) -> str | None:
    """Who listens on the port, as far as can be told; None when it is free."""
    import socket

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((address, port))
        except PermissionError:
            return "the system (ports below 1024 need root)"
        except OSError as e:
            if e.errno == 99:  # EADDRNOTAVAIL
                raise Trouble(f"this machine has no address {address}; mend `listen` in [api]") from None
            return _owner(port) or "another program"
    return None


def _owner(port: int) -> str | None:
    """The program that listens on a TCP port, read from /proc."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in (line.split() for line in lines):
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(fd) in inodes:
                pid = fd.parts[2]
                return f"{Path(f'/proc/{pid}/comm').read_text().strip()} (process {pid})"
        except OSError:
            continue
    return None


def _await(
    config: Config, pid: int, process: subprocess.Popen[bytes] | None, log: Path | None = None, start: int = 0
) -> None:
    """Return when the API answers; raise Trouble with the end of the log when it won't."""
    import ssl

    context = ssl._create_unverified_context() if config.api.tls else None  # only asks whether it answers
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(config.base_url + "/", timeout=5, context=context):
                return
        except OSError:
            pass
        if process is not None and process.poll() is not None:
            break
        time.sleep(0.05)
    if log is None:
        raise Trouble(
            f"the cloud runs (process {pid}) but does not answer at {config.base_url}; see the log in {config.paths.log_dir}"
        )
    with log.open("rb") as f:
        f.seek(start)
        tail = "\n".join(f.read()[-4000:].decode(errors="replace").splitlines()[-15:])
    raise Trouble(f"the cloud did not start; the end of {log}:\n{tail}")
