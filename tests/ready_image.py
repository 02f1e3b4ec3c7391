"""The ready image for tests: built once and kept between runs, whoever asks for it first."""

import fcntl
from pathlib import Path

from stackling.image import builder

PLACE = Path("/var/tmp/stackling-ready")


def build() -> builder.BuiltImage:
    """Raises builder.BuildError."""
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return builder.build_ready_image(
            PLACE / "ready.qcow2", cache=PLACE / "cache", progress=lambda _: None
        )
