"""The process that watches over Granian's workers: one that dies is started again, however often it dies.

Granian gives up when a worker dies twice within 5.5 s. A cloud must not: whatever kills its process, a database that
is away or an operator, it comes back when it can, after a pause that grows while it keeps dying.
"""

import contextlib
import mmap
import os
import signal
import time
from pathlib import Path
from typing import Any

from granian.server import Server

from stackling.base import log

MARK = (
    "STACKLING_WORKER"  # in the environment of what a worker runs, so that it is known when the worker died
)
_PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before the next start, by deaths in a row
_STABLE = 60.0  # seconds of life after which the pauses begin anew


class Supervisor(Server):
    """Granian's server without its limit on restarts. What it overrides are the hooks of its main loop."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._loaded = mmap.mmap(-1, 1)  # shared with the workers, which are forked
        self._deaths = 0
        self._last = time.monotonic()

    def loaded(self) -> None:
        """Called by a worker that could start: from now on they are started again and again."""
        self._loaded[0] = 1

    def _respawn_workers(
        self, workers: list[int], spawn_target: Any, target_loader: Any, delay: float = 0
    ) -> None:
        codes = [self.wrks[idx].inner.exitcode for idx in workers]
        if None in codes:  # they live: a reload, which operators ask for with SIGHUP
            super()._respawn_workers(workers, spawn_target, target_loader, delay)
            return
        if not self._loaded[0] and all(code and code > 0 for code in codes):
            self.interrupt_children.extend(workers)  # for its exit status
            self.interrupt_signal = (
                True  # it says in the log why it can't start; more tries would only repeat it
            )
            self.main_loop_interrupt.set()
            return
        now = time.monotonic()
        self._deaths = 1 if now - self._last > _STABLE else self._deaths + 1
        self._last = now
        pause = _PAUSES[min(self._deaths, len(_PAUSES)) - 1]
        log.get("supervisor").error(
            "worker.died",
            says="a process of the cloud ended and is started again",
            status=codes,
            times=self._deaths,
            pause=pause,
        )
        if pause and self.main_loop_interrupt.wait(pause) and self.interrupt_signal:
            return
        super()._respawn_workers(workers, spawn_target, target_loader, delay)
        self.respawned_wrks.clear()  # by these Granian would see a crash loop


def mark(run_dir: Path) -> None:
    """Have what this process runs from now on bear the mark of its cloud."""
    os.environ[MARK] = str(run_dir)


def end_strays(run_dir: Path) -> int:
    """End what workers of this cloud that died had running, such as a copy or a package download; how many those were.

    The next step does that work anew, and two at once on the same file would spoil it. Daemons are no strays: they
    are started with an environment of their own.
    """
    ended = 0
    for _ in range(20):  # with each its children become strays
        strays = [pid for pid in _marked(run_dir) if not _owned(pid, run_dir)]
        for pid in strays:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                ended += 1
        if not strays:
            break
        time.sleep(0.02)
    return ended


def _marked(run_dir: Path) -> list[int]:
    entry = f"{MARK}={run_dir}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone, or not ours to read
            if entry in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def _owned(pid: int, run_dir: Path) -> bool:
    """Whether the one who started it lives: a worker, or another marked process."""
    try:
        parent = Path("/proc", Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        if b"stackling.boot.server" in (parent / "cmdline").read_bytes():
            return True
        return f"{MARK}={run_dir}".encode() in (parent / "environ").read_bytes().split(b"\0")
    except OSError:
        return not Path(f"/proc/{pid}").exists()
