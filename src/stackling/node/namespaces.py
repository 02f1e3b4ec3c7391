"""Network namespaces that the node makes on its host, all named with one prefix, so that all can be found."""

import contextlib
import os
from pathlib import Path

from pyroute2 import netns

PREFIX = "stackling-"


def remove_all(directory: Path = Path("/run/netns")) -> None:
    """Every network namespace that Stackling made is gone."""
    for path in sorted(directory.glob(f"{PREFIX}*")):
        with contextlib.suppress(FileNotFoundError):
            try:
                netns.remove(path.name)
            except OSError:  # not a mount: a file left by a crash between creating and mounting
                os.unlink(path)
