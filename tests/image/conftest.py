"""What tests of the image builder share."""

import shutil
from pathlib import Path

import pytest

# Packages, the tiny image and the tools of virtual machines are kept between runs.
KEPT = Path("/var/tmp/stackling-builds")


@pytest.fixture(scope="session")
def cache() -> Path:
    micro = KEPT / "micro"
    micro.mkdir(parents=True, exist_ok=True)
    for name in ("ready.qcow2", "ready.qcow2.json"):
        ready = Path("/var/tmp/stackling-ready") / name
        if ready.exists() and not (micro / name).exists():
            shutil.copy(ready, micro / name)
    return KEPT
