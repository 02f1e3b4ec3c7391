"""What compute has from its first start: limits, the usual flavors, and a watch over every host that is plugged in."""

import sqlalchemy as sa

from stackling.base import jobs
from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.compute.actions import limits
from stackling.compute.driver import Hypervisor
from stackling.compute.state.flavor import flavor

# id, name, vcpus, MiB, GiB
_FLAVORS = (
    ("42", "m1.nano", 1, 128, 1),
    ("84", "m1.micro", 1, 192, 1),
    ("1", "m1.tiny", 1, 512, 1),
    ("2", "m1.small", 1, 2048, 20),
    ("3", "m1.medium", 2, 4096, 40),
    ("4", "m1.large", 4, 8192, 80),
    ("5", "m1.xlarge", 8, 16384, 160),
)


def bootstrap(tx: Tx, cloud: Cloud) -> None:
    limits.QUOTAS.register(tx, cloud)
    if (
        tx.execute(sa.select(flavor.c.id).limit(1)).first() is None
    ):  # an admin who deleted some does not want them back
        for id, name, vcpus, ram, disk in _FLAVORS:
            values = {
                "id": id,
                "name": name,
                "vcpus": vcpus,
                "ram_mib": ram,
                "disk_gib": disk,
                "ephemeral_gib": 0,
            }
            values |= {
                "swap_mib": 0,
                "rxtx_factor": 1.0,
                "is_public": True,
                "extra_specs": {},
                "created_at": cloud.clock.now(),
            }
            tx.execute(sa.insert(flavor).values(**values))
    jobs.ensure(tx, "compute.housekeeping", "all", now=cloud.clock.now())
    for hostname in cloud.hosts(Hypervisor):
        jobs.start(tx, "compute.host", hostname, now=cloud.clock.now())
