"""What docs/identity.md tells operators to type works, in the order it stands there."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.operator import COMMAND, Operator

PAGE = Path(__file__).parents[2] / "docs" / "identity.md"
DIRECTORIES = (
    "## Users of a directory"  # from here on `test_documented` runs them, with providers and a directory
)


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    made = Operator(tmp_path)
    made.says("up", "--fake")
    yield made
    made.run("down", "--fake", "--purge")


def commands(text: str) -> list[str]:
    """The lines that begin with `$ ` in blocks marked console, with those that they continue on."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", "").splitlines():
            if line.startswith("$ "):
                found.append(line[2:])
    return found


def test_continued_lines_are_one_command() -> None:
    text = "```console\n$ a \\\n  b\nsaid\n$ c\n```\n```\n$ d\n```\n"
    assert commands(text) == ["a   b", "c"]


def test_every_command_works(operator: Operator, tmp_path: Path) -> None:
    home = tmp_path / "stackling-fake"
    shim = tmp_path / "bin" / "stackling"  # the cloud that is meant is the one with fake hosts
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {COMMAND} "$@" --fake\n')
    shim.chmod(0o755)
    words = json.loads(operator.says("env", "--fake", "--format", "json"))
    path = os.pathsep.join([str(shim.parent), str(Path(COMMAND).parent), os.environ["PATH"]])
    before = PAGE.read_text().partition(DIRECTORIES)[0]
    lines = [line.replace("/etc/stackling", str(home / "config")) for line in commands(before)]
    assert lines
    script = "set -eo pipefail\n" + "".join(f"cat <<'EOT'\n+ {line}\nEOT\n{line}\n" for line in lines)
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        env={**operator.environ, **words, "PATH": path},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        timeout=280,
        check=False,
    )
    last = done.stdout.rpartition("\n+ ")[2]
    assert done.returncode == 0, f"{last}\n{done.stderr[-3000:]}"
