"""Real packets: what the OVN driver writes is what happens. Runs `traffic.py` in a simulated host of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.host
@pytest.mark.timeout(180)
def test_real_packets_obey() -> None:
    enter = HERE.parent / "host" / "enter"
    command = [
        str(enter),
        sys.executable,
        "-m",
        "pytest",
        "--noconftest",
        "-p",
        "no:cacheprovider",
        "-x",
        "-q",
    ]
    done = subprocess.run(
        [*command, str(HERE / "traffic.py")], capture_output=True, text=True, cwd=HERE.parents[1]
    )
    assert done.returncode == 0, done.stdout[-12000:] + done.stderr[-4000:]
