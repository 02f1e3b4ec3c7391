"""What tests of the image builder share."""

import shutil
from pathlib import Path

import pytest

from stackling.image.builder import build_ready_image

# Packages, the tiny image and the tools of virtual machines are kept between runs.
KEPT, READY = Path("/var/tmp/stackling-builds"), Path("/var/tmp/stackling-ready")


@pytest.fixture(scope="session")
def cache() -> Path:
    built = build_ready_image(READY / "ready.qcow2", cache=READY / "cache", progress=lambda _: None)
    micro = KEPT / "micro"
    micro.mkdir(parents=True, exist_ok=True)
    for file in (built.path, Path(f"{built.path}.json")):
        shutil.copy(file, micro / file.name)
    return KEPT
