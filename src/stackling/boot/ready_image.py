"""The ready image: built from Debian packages at first start, and registered for everybody."""

import threading
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from stackling.base import log
from stackling.base.cloud import Cloud
from stackling.identity.actions import project
from stackling.image.actions import image
from stackling.image.builder import BuildError, build_ready_image

NAME = "stackling-ready"
_LEAST_RAM = 128  # MiB; Debian's kernel does not boot in less than 88


def offer(cloud: Cloud, stop: threading.Event) -> None:
    """Build the image if this release's isn't built yet, and register it. Tries again until it works.

    Killed anywhere it begins anew at the next start: the builder renames a complete image into place, and
    registering is one transaction.
    """
    home = Path(cloud.config.paths.state_dir) / "ready-image"
    pause, logger = 5.0, log.get("ready-image")
    while not stop.is_set():
        try:
            built = build_ready_image(
                home / "ready.qcow2",
                cache=home / "cache",
                progress=lambda says: logger.info("ready_image", says=says),
            )
            with cloud.db.begin() as tx:
                image.register(
                    tx,
                    cloud,
                    name=NAME,
                    path=built.path,
                    project_id=project.by_name(tx, "admin"),
                    virtual_size=built.virtual_size,
                    properties={
                        "os_distro": "debian",
                        "os_type": "linux",
                        "os_admin_user": "stackling",
                        "stackling_recipe": built.version,
                    },
                    min_ram=_LEAST_RAM,
                )
            return
        except (BuildError, OSError, SQLAlchemyError) as e:
            logger.error("ready_image.failed", says=str(e), again_in=pause)
            stop.wait(pause)
            pause = min(pause * 2, 300)
