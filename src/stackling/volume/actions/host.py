"""What the backends of hosts hold, by project."""

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.volume.driver import Backend
from stackling.volume.state.snapshot import snapshot
from stackling.volume.state.volume import volume


def held(tx: Tx, cloud: Cloud, host: str) -> tuple[bool, list[tuple[str, list[int]]]]:
    """Whether the host has a backend, and per project: volumes, their GiB, snapshots, their GiB."""
    made: dict[str, list[int]] = {}
    for at, table in ((0, volume), (2, snapshot)):
        query = sa.select(table.c.project_id, sa.func.count(), sa.func.sum(table.c.size)).where(
            table.c.host == host
        )
        for project_id, count, size in tx.execute(query.group_by(table.c.project_id)):
            made.setdefault(project_id, [0, 0, 0, 0])[at : at + 2] = [count, int(size)]
    return host in cloud.hosts(Backend) or bool(made), sorted(made.items())
