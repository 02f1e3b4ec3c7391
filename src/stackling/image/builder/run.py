"""Running the host's tools for a build, with an error that says which tool failed and what it printed."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# Tools that live in sbin are not on every user's PATH.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


class BuildError(Exception):
    """An image could not be built; the text says which step failed and what to do."""


def require(tools: Mapping[str, str]) -> None:
    """Check that the tools (command → Debian package that has it) are there.

    Raises BuildError naming the packages to install.
    """
    missing = {tool: package for tool, package in tools.items() if shutil.which(tool, path=_PATH) is None}
    if missing:
        raise BuildError(
            f"Building an image needs {', '.join(sorted(missing))}; "
            f"install with: apt-get install {' '.join(sorted(set(missing.values())))}"
        )


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a tool and return what it printed. Raises BuildError with the end of its error output."""
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "PATH": _PATH, "LC_ALL": "C", **(environment or {})},
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-600:]
        raise BuildError(f"{Path(argv[0]).name} failed with status {done.returncode}: {said}")
    return done.stdout
