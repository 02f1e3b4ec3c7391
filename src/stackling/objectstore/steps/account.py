"""The end of an account: everything in it goes, some objects at a time."""

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.jobs import Machine, Outcome, gone, wait
from stackling.objectstore.actions import object
from stackling.objectstore.actions.account import KIND
from stackling.objectstore.state.account import State, account
from stackling.objectstore.state.container import container
from stackling.objectstore.state.object import object as objects

_AT_ONCE = 500

machine = Machine(KIND, account)


@machine.step(State.DELETING, within=None)
def empty(row: Row, cloud: Cloud) -> Outcome:
    """Rows go first and their data then: what is left when the process dies in between is the sweep's."""
    mine = sa.select(container.c.id).where(container.c.account_id == row.id)
    some = sa.select(objects).where(objects.c.container_id.in_(mine)).limit(_AT_ONCE)
    with cloud.db.begin() as tx:
        going = list(tx.execute(some).all())
        tx.execute(sa.delete(objects).where(objects.c.id.in_([one.id for one in going])))
        if not going:
            tx.execute(sa.delete(container).where(container.c.account_id == row.id))
    object.forget(cloud, going)
    return wait(0, "removing its objects") if going else gone()
