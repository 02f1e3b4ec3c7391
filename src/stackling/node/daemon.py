"""One third-party daemon of this host: is it there, does it answer, start it, stop it.

A daemon that we started carries our mark in its environment, which the kernel keeps for as long as the
process lives, so what is ours is seen on the process itself and never remembered wrongly.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

MARK = "STACKLING_RUN_DIR"


class DaemonError(Exception):
    """A daemon can't be started or doesn't answer; the text says why and what to do."""


class Daemon(msgspec.Struct, frozen=True, kw_only=True):
    """How one daemon is started and asked after. Commands daemonise themselves and return when ready."""

    name: str
    binary: str
    package: str  # Debian package that holds the binary
    command: tuple[str, ...]
    pidfile: Path
    log: Path
    sockets: tuple[Path, ...]
    ask: Callable[[int], str]  # pid → version; raises OSError or ValueError when it doesn't answer
    unit: str  # systemd unit that runs it on a Debian host
    prepare: Callable[[], object] = lambda: None
    within: float = 20.0  # seconds from start to answering

    def pid(self) -> int | None:
        """The process id of the running daemon, None when it doesn't run."""
        pid = _read_pid(self.pidfile)
        if pid is not None and executable(pid) == self.binary:
            return pid
        for path in self.sockets:  # the pidfile is lost; asking sockets costs the daemon a line of its log
            pid = _peer(path)
            if pid is not None and executable(pid) == self.binary:
                return pid
        return None

    def answers(self, pid: int) -> str:
        """Its version. Raises DaemonError when it doesn't answer."""
        try:
            return self.ask(pid)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise DaemonError(f"{self.name} (pid {pid}) runs but does not answer: {error}") from error

    def start(self, run_dir: Path) -> int:
        """Start it and wait until it answers. Returns its pid; raises DaemonError."""
        if any(executable(_peer(path) or 0) == "systemd" for path in self.sockets):
            return self._settled(b"")  # socket activation: to knock, as just done, is to start it
        if shutil.which(self.binary) is None:
            raise DaemonError(f"{self.binary} is not installed; run: apt-get install {self.package}")
        for path in (self.pidfile, self.log, *self.sockets):
            path.parent.mkdir(parents=True, exist_ok=True)
        for path in self.sockets:
            self._clear(path)
        self._end_strays(run_dir)
        self.prepare()
        # Only what a daemon needs: our own environment may hold secrets.
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", MARK: str(run_dir)}
        with tempfile.TemporaryFile() as said:
            try:
                code = subprocess.run(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    env=environment,
                    cwd="/",
                    start_new_session=True,
                    timeout=self.within,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                raise DaemonError(
                    f"{self.name} was not ready within {self.within:.0f} s{self._tail(b'')}"
                ) from None
            said.seek(0)
            output = said.read()
        if code != 0:
            raise DaemonError(f"{self.name} ended with status {code} while starting{self._tail(output)}")
        return self._settled(output)

    def stop(self, within: float = 10.0) -> None:
        """End it: SIGTERM, and SIGKILL after `within` seconds. Not running: nothing happens."""
        pid = self.pid()
        if pid is not None:
            end(pid, within)
        self.pidfile.unlink(missing_ok=True)
        for path in self.sockets:
            if path.is_socket():
                path.unlink(missing_ok=True)

    def _settled(self, output: bytes) -> int:
        deadline = time.monotonic() + self.within
        while True:
            pid = self.pid()
            if pid is not None:
                try:
                    self.answers(pid)
                except DaemonError:
                    if time.monotonic() > deadline:
                        raise
                else:
                    return pid
            elif time.monotonic() > deadline:
                raise DaemonError(f"{self.name} died just after its start{self._tail(output)}")
            time.sleep(0.02)

    def _end_strays(self, run_dir: Path) -> None:
        """End what an earlier start of ours left when it was killed before the daemon had its pidfile."""
        for process in Path("/proc").glob("[0-9]*"):
            pid = int(process.name)
            if executable(pid) == self.binary and started_by(pid) == str(run_dir):
                with contextlib.suppress(OSError):
                    # A container on this host has the same paths, but is another host.
                    here = os.readlink("/proc/self/ns/net") == os.readlink(process / "ns/net")
                    if here and str(self.pidfile).encode() in (process / "cmdline").read_bytes():
                        end(pid, within=2.0)

    def _clear(self, path: Path) -> None:
        """A socket nobody listens on is removed; anything else in its place is the operator's to judge."""
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise DaemonError(f"{self.name} cannot listen on {path}: it exists and is no socket; remove it")
        holder = _peer(path)
        if holder is None:
            path.unlink(missing_ok=True)
        else:
            raise DaemonError(
                f"{self.name} cannot listen on {path}: process {holder} ({executable(holder) or 'unknown'}) "
                "holds it; stop that process first"
            )

    def _tail(self, output: bytes) -> str:
        lines = output.decode(errors="replace").strip().splitlines()[-5:]
        with contextlib.suppress(OSError):
            lines += self.log.read_text(errors="replace").splitlines()[-8:]
        return f"; its log {self.log} ends with:\n" + "\n".join(lines) if lines else f"; see {self.log}"


def executable(pid: int) -> str | None:
    """Name of the program that `pid` runs, None when there is no such living process."""
    try:
        name = os.readlink(f"/proc/{pid}/exe")
    except OSError:  # gone, or a zombie
        return None
    return Path(name.removesuffix(" (deleted)")).name


def started_by(pid: int) -> str | None:
    """The run directory of the cloud that started `pid`, None when no Stackling did."""
    try:
        block = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    for entry in block.split(b"\0"):
        if entry.startswith(MARK.encode() + b"="):
            return os.fsdecode(entry.partition(b"=")[2])
    return None


def memory(pid: int) -> int:
    """Proportional set size of one process in KiB, 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def end(pid: int, within: float = 10.0) -> None:
    """End a process and wait until it is gone: SIGTERM, SIGKILL after `within` seconds."""
    try:
        handle = os.pidfd_open(pid)  # a pid may be reused while we wait, a pidfd is not
    except ProcessLookupError:
        return
    try:
        for number, patience in ((signal.SIGTERM, within), (signal.SIGKILL, 5.0)):
            try:
                signal.pidfd_send_signal(handle, number)
            except ProcessLookupError:
                return
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                if executable(pid) is None:
                    return
                time.sleep(0.01)
        raise DaemonError(f"Process {pid} does not end, not even on SIGKILL")
    finally:
        os.close(handle)


def ask_ovs(path: Path, method: str = "version", params: tuple[str, ...] = ()) -> str:
    """The answer of an OVS or OVN daemon to a JSON-RPC request on its control socket (ovs-appctl(8)).

    Raises OSError when nobody answers within 5 s, ValueError when the answer is an error.
    """
    request = json.dumps({"id": 0, "method": method, "params": list(params)}).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
        wire.settimeout(5)
        wire.connect(str(path))
        wire.sendall(request)
        received = b""
        while True:
            piece = wire.recv(65536)
            if not piece:
                raise ConnectionError(f"{path} closed the connection")
            received += piece
            try:
                reply = json.loads(received)
                break
            except ValueError:
                continue  # not the whole answer yet
    if reply.get("error") is not None:
        raise ValueError(str(reply["error"]).strip())
    return str(reply["result"]).strip()


def version_in(said: str) -> str:
    """The version in `ovn-northd 23.03.1` or `ovs-vswitchd (Open vSwitch) 3.1.0`."""
    return said.splitlines()[0].rsplit(" ", 1)[1]


def _read_pid(path: Path) -> int | None:
    try:
        return int(path.read_text().strip())
    except (OSError, ValueError):
        return None


def _peer(path: Path) -> int | None:
    """The process that listens on a unix socket, None when none does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
        wire.settimeout(2)
        try:
            wire.connect(str(path))
            credentials = wire.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return None
    return int(struct.unpack("3i", credentials)[0])
