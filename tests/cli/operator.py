"""Somebody who runs a cloud of his own with the `stackling` command."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

COMMAND = str(Path(sys.executable).parent / "stackling")


class Operator:
    """Somebody without root, with a home of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        drop = ("STACKLING_", "OS_")
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
        self.environ |= {
            "XDG_STATE_HOME": str(home),
            "STACKLING_API_PORT": str(self.port),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }

    def run(self, *arguments: str, nobody: bool = False, **more: str) -> "subprocess.CompletedProcess[str]":
        """`nobody`: not as root, and yet from a checkout that may lie in root's home."""
        return subprocess.run(
            [*(["unshare", "--user"] if nobody else []), COMMAND, *arguments],
            capture_output=True,
            text=True,
            env=self.environ | more,
            timeout=90,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def says(self, *arguments: str) -> str:
        """What a command that works prints."""
        done = self.run(*arguments)
        assert done.returncode == 0, done
        return done.stdout

    def trouble(self, *arguments: str, nobody: bool = False, **more: str) -> str:
        """What a command that can't work prints: one sentence, not a traceback."""
        done = self.run(*arguments, nobody=nobody, **more)
        assert done.returncode == 1, done
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith("stackling: ")
        return done.stderr

    def worker(self) -> int:
        supervisor = json.loads((self.home / "stackling-fake" / "run" / "cloud.json").read_text())["pid"]
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        return int(children[0]) if children else 0
