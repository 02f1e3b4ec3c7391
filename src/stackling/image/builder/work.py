"""One build under way: its directory, its log, how far it is, and whether it is still wanted."""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stackling.image.builder import confine
from stackling.image.builder.limits import Limits
from stackling.image.builder.run import BuildError

# How mmdebstrap, and the virtual machine, say once more that something failed.
_NOISE = ("I: ", "E: setup failed", "E: mmdebstrap failed", "E: Sub-process", "RESULT: ")


class Work:
    """The directory of a build: `log`, `progress.json` and, while it runs, `scratch`, which whoever runs confined owns.

    `cache` keeps downloaded packages between builds, `hide` are places of the host that nothing confined may see, and
    `mirrors` says what is used in place of a recipe's repositories (URI → URI). `keyring` are keys trusted besides the
    recipe's. `limits` are there for a build of somebody who isn't trusted with the host: code of the image runs in virtual
    machines only, and all of it takes no longer. `stop()` is asked all the time whether the build is still wanted. `heard` is told each line of progress.
    """

    def __init__(
        self,
        directory: Path,
        *,
        cache: Path,
        hide: Sequence[Path] = (),
        mirrors: Mapping[str, str] | None = None,
        keyring: Path | None = None,
        limits: Limits | None = None,
        stop: Callable[[], bool] = lambda: False,
        heard: Callable[[int, str], None] = lambda percent, says: None,
    ) -> None:
        self.directory, self.cache, self.hide = directory.absolute(), cache.absolute(), tuple(hide)
        self.mirrors, self.keyring = dict(mirrors or {}), keyring
        self.limits = limits
        self.stop, self._heard = stop, heard
        self.scratch = self.directory / "scratch"
        self._begun = time.monotonic()

    def begin(self) -> None:
        """An empty scratch directory; what an earlier run left is gone."""
        self.end()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.cache.mkdir(parents=True, exist_ok=True)
        self.scratch.mkdir(mode=0o755)
        own(self.scratch)

    def end(self) -> None:
        """Nothing but log and results is left."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def say(self, percent: int, says: str) -> None:
        """Tell how far the build is. Raises Stopped when nobody wants it any more."""
        if self.stop():
            raise confine.Stopped
        self._write(percent, says)

    def say_last(self, says: str) -> None:
        """Tell how it ended, wanted or not."""
        self._write(100, says)

    def _write(self, percent: int, says: str) -> None:
        with self.log.open("a") as log:
            log.write(f"[{time.monotonic() - self._begun:7.1f}] {says}\n")
        new = self.directory / ".progress.json"
        new.write_text(json.dumps({"progress": percent, "says": says}))
        new.replace(self.directory / "progress.json")
        self._heard(percent, says)

    def confined(
        self,
        argv: Sequence[str | Path],
        what: str,
        *,
        seconds: float,
        network: bool = False,
        keep: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        groups: Sequence[str] = (),
        call: tuple[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Run a program, or a function of ours, confined to the scratch directory (`confine.run`).

        Raises BuildError, which begins with `what` and ends with the last lines of the log; Stopped.
        """
        if self.limits is not None:
            left = self.limits.minutes * 60 - (time.monotonic() - self._begun)
            seconds = min(seconds, max(left, 0))
        with self.log.open("ab") as log:
            begun = log.tell()
            try:
                confine.run(
                    argv or None,
                    log=log,
                    keep=[self.scratch, *keep],
                    hide=self.hide,
                    network=network,
                    environment=environment,
                    cwd=cwd or self.scratch,
                    groups=groups,
                    call=call,
                    seconds=seconds,
                    stop=self.stop,
                )
            except confine.Confined as e:
                raise BuildError(f"{what}: {e}. {self._last_lines(begun)}".strip()) from e

    def _last_lines(self, begun: int) -> str:
        with self.log.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(begun, size - 32768))  # mmdebstrap's commands name each package
            lines = log.read().decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip() and not line.startswith(_NOISE)]
        return "It said: " + " | ".join(said[-4:])[-600:] if said else ""


def own(path: Path) -> None:
    """Give a directory or file to whoever runs confined."""
    os.chown(path, confine.FIRST_ID, confine.FIRST_ID, follow_symlinks=False)


def link(file: Path, to: Path) -> None:
    """Have a file of the cache under another name; where that can't be, a copy."""
    try:
        to.hardlink_to(file)
    except OSError:  # another file system
        shutil.copyfile(file, to)
