"""What tests of the image builder share."""

import shutil
from pathlib import Path

import pytest

from tests import ready_image

# Packages, the tiny image and the tools of virtual machines are kept between runs.
KEPT = Path("/var/tmp/stackling-builds")


@pytest.fixture(scope="session")
def cache() -> Path:
    built = ready_image.build()
    micro = KEPT / "micro"
    micro.mkdir(parents=True, exist_ok=True)
    for file in (built.path, Path(f"{built.path}.json")):
        shutil.copy(file, micro / file.name)
    return KEPT
