"""Where code of an image runs: as root of a user namespace that is nobody outside, without network, in a file system
where the host's own places are hidden, until its end or that of whoever asked.

`run` starts this module as a program. It makes the namespaces as the host's root, then hands over: no process inside
has a right outside, every mount is in the namespace, and all of it ends with the process that called `run`, however
that ends. So a killed build leaves nothing but its directory.
"""

import contextlib
import ctypes
import grp
import importlib
import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from fcntl import ioctl
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM, socket
from typing import IO, Any

# Users of the namespace: a range far above those of people and of systemd's containers.
FIRST_ID, IDS = 1_910_000_000, 65536
# Places of the host that nobody inside needs: people's files, and (not where names are to be resolved) sockets.
PRIVATE = ("/tmp", "/var/tmp", "/home", "/root")
SOCKETS = ("/run", "/srv", "/mnt", "/media")
_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x20000,
    0x4000000,
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_BIND, _MOVE, _REC, _PRIVATE, _NOSUID, _NODEV = 0x1000, 0x2000, 0x4000, 0x40000, 2, 4
_PR_SET_PDEATHSIG = 1
_LOOK_EVERY = 0.5  # seconds


class Confined(Exception):
    """What ran inside did not end well; the sentence says how."""


class Stopped(Exception):
    """Nobody wants the result any more."""


def run(
    argv: Sequence[str | Path] | None,
    *,
    log: IO[bytes],
    keep: Sequence[Path],
    hide: Sequence[Path] = (),
    network: bool = False,
    call: tuple[str, Mapping[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    groups: Sequence[str] = (),
    seconds: float,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run a program (or, with `call`, a function "module:name" with keyword arguments) confined, and wait for its end.

    What it prints goes to `log`. Of the hidden places (`PRIVATE`, `SOCKETS`, `hide`) the directories `keep` are still seen. With
    `network` it shares the host's network and sees what any user sees, but for `PRIVATE`: for programs of the host, not of an
    image. `groups` are groups of the host whose rights it keeps. Raises Confined when it fails or takes longer than `seconds`, Stopped when `stop()` says so.
    """
    order: dict[str, Any] = {
        "parent": os.getpid(),
        "argv": [str(word) for word in argv or ()],
        "call": call,
        "keep": [str(path) for path in keep],
        "hide": [*PRIVATE] if network else [*PRIVATE, *SOCKETS, *map(str, hide)],
        "network": network,
        "cwd": str(cwd or "/"),
        "groups": [grp.getgrnam(name).gr_gid for name in groups],
        "environment": {
            **{k: v for k, v in os.environ.items() if network and _for_downloads(k)},
            "HOME": "/root",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            **(environment or {}),
        },
    }
    source = str(Path(__file__).parents[3])
    path = os.pathsep.join(p for p in (source, os.environ.get("PYTHONPATH", "")) if p)
    process = subprocess.Popen(
        [sys.executable, "-m", "stackling.image.builder.confine", json.dumps(order)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": path},
    )
    until = time.monotonic() + seconds
    what = order["argv"][0] if order["argv"] else (call or ("nothing",))[0]
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(_LOOK_EVERY)
                break
            if stop():
                raise Stopped
            if time.monotonic() > until:
                raise Confined(f"{what} did not end in {seconds:.0f} seconds")
    finally:
        process.kill()
        process.wait()
    if status:
        raise Confined(f"{what} ended with status {status}")


def _for_downloads(name: str) -> bool:
    """Whether an environment variable says how the network is reached; nothing else of the environment goes inside."""
    return name.lower().endswith("_proxy") or name.startswith("SSL_CERT_")


# -- inside the program ------------------------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)


def _say(text: str) -> None:
    os.write(1, f"{text}\n".encode(errors="replace"))


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, data)]
    _check(_libc.mount(encoded[0], encoded[1], encoded[2], flags, encoded[3]), f"mount {target}")


def _die_with_parent() -> None:
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def _hide(hidden: Sequence[str], keep: Sequence[str]) -> None:
    """Lay empty file systems over the hidden places, and put what is kept back into them."""
    _mount("none", "/", None, _REC | _PRIVATE)
    _mount("tmpfs", "/dev/shm", "tmpfs", _NOSUID | _NODEV, "mode=1777,size=25%")
    if not hidden:
        return
    for number, path in enumerate(keep):
        os.mkdir(f"/dev/shm/{number}")
        _mount(path, f"/dev/shm/{number}", None, _BIND | _REC)
    for path in hidden:
        # A link (/run on old systems) is hidden where it leads; what doesn't exist needs no hiding.
        if os.path.isdir(path):
            mode = "1777" if path.endswith("tmp") else "755"
            _mount("tmpfs", os.path.realpath(path), "tmpfs", _NOSUID | _NODEV, f"mode={mode},size=10%")
    for number, path in enumerate(keep):
        os.makedirs(path, exist_ok=True)
        _mount(f"/dev/shm/{number}", path, None, _MOVE)
        os.rmdir(f"/dev/shm/{number}")


def _limit() -> None:
    """A build that goes wild is the first to go, and the last to be served."""
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 4096),
        (resource.RLIMIT_NOFILE, 8192),
        (resource.RLIMIT_FSIZE, 1 << 40),
    ):
        resource.setrlimit(kind, (most, most))
    os.nice(10)
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("900")


def _loopback_up() -> None:
    with socket(AF_INET, SOCK_DGRAM) as s:
        ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: IFF_UP | IFF_RUNNING


def _wait(pid: int) -> int:
    """Wait for one child, burying all others; its exit status as a shell would say it."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _first(order: Mapping[str, Any], work: Callable[[], int], alive: int) -> int:
    """What process 1 of the namespace does."""
    _die_with_parent()
    if select.select([alive], [], [], 0)[0]:
        return 1  # the parent died before the line above
    _mount("proc", "/proc", "proc", _NOSUID | _NODEV)
    if not order["network"]:
        _mount("sysfs", "/sys", "sysfs", _NOSUID | _NODEV)
        _loopback_up()
    _check(_libc.sethostname(b"build", 5), "sethostname")
    child = os.fork()
    if child == 0:
        os.close(alive)
        os._exit(work())
    return _wait(child)


def _inside(order: Mapping[str, Any], work: Callable[[], int], ready: int, go: int) -> int:
    """Enter the namespaces; returns the exit status of the work."""
    flags = _NEWUSER | _NEWNS | _NEWPID | _NEWIPC | _NEWUTS | (0 if order["network"] else _NEWNET)
    if _libc.unshare(flags):
        _say(f"this host gives no user namespaces: {os.strerror(ctypes.get_errno())}")
        return 1
    os.write(ready, b"1")
    if not os.read(go, 1):
        return 1
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _die_with_parent()  # changing the user took it away
    alive, held = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(held)
        os._exit(_first(order, work, alive))
    return _wait(first)


def _work(order: Mapping[str, Any]) -> Callable[[], int]:
    """The work itself. A function is imported here, where files can still be read."""
    os.environ.clear()
    os.environ.update(order["environment"])
    if order["call"] is None:

        def execute() -> int:
            try:
                os.chdir(order["cwd"])
                os.execvp(order["argv"][0], order["argv"])
            except OSError as e:
                _say(f"{order['argv'][0]}: {e.strerror}")
            return 127

        return execute
    (name, _, attribute), arguments = order["call"][0].partition(":"), order["call"][1]
    function = getattr(importlib.import_module(name), attribute)

    def call() -> int:
        os.chdir(order["cwd"])
        try:
            function(**arguments)
        except Exception as e:  # noqa: BLE001 (the log is where whoever asked reads it)
            _say(f"{type(e).__name__}: {e}")
            return 1
        sys.stdout.flush()
        return 0

    return call


def main() -> int:
    order = json.loads(sys.argv[1])
    _die_with_parent()
    if os.getppid() != order["parent"]:
        return 1
    os.umask(0o022)
    work = _work(order)
    _limit()
    _check(_libc.unshare(_NEWNS), "unshare")
    _hide(order["hide"], order["keep"])
    os.setgroups(order["groups"])  # of the host's groups only those that were asked for
    ready, told = os.pipe()
    go, start = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(start)
        os._exit(_inside(order, work, told, go))
    os.close(told)
    if os.read(ready, 1):
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{kind}").write_text(f"0 {FIRST_ID} {IDS}")
        os.write(start, b"1")
    return _wait(child)


if __name__ == "__main__":
    sys.exit(main())
