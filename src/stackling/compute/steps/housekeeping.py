"""Deleted servers are remembered for a month; then their rows go."""

from datetime import timedelta

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.jobs import Machine, Outcome, wait
from stackling.compute.state.block_device import block_device
from stackling.compute.state.instance_action import instance_action
from stackling.compute.state.server import State, server

KEPT = timedelta(days=30)
_AT_ONCE = 500

machine = Machine("compute.housekeeping")


@machine.always
def forget(_: str, cloud: Cloud) -> Outcome:
    c = server.c
    with cloud.db.begin() as tx:
        old = (
            sa.select(c.id)
            .where(c.state == State.DELETED, c.terminated_at < cloud.clock.now() - KEPT)
            .limit(_AT_ONCE)
        )
        ids = list(tx.execute(old).scalars())
        if ids:
            tx.execute(sa.delete(instance_action).where(instance_action.c.server_id.in_(ids)))
            tx.execute(sa.delete(block_device).where(block_device.c.server_id.in_(ids)))
            tx.execute(sa.delete(server).where(c.id.in_(ids)))
    return wait(0 if len(ids) == _AT_ONCE else 3600, "nothing is old enough to be forgotten")
