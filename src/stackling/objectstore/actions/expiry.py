"""What goes by itself: objects whose time has come, and data that no row names."""

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.objectstore import store
from stackling.objectstore.actions import object
from stackling.objectstore.state.object import object as objects

EXPIRER, SWEEP = "objectstore.expirer", "objectstore.sweep"
AT_ONCE = 100  # objects removed before the job gives way to others


def expire(cloud: Cloud) -> bool:
    """Remove some objects that have expired; whether there may be more."""
    due = sa.select(objects).where(objects.c.delete_at <= cloud.clock.now()).order_by(objects.c.delete_at)
    with cloud.db.read() as tx:
        rows = tx.execute(due.limit(AT_ONCE)).all()
    for row in rows:
        with cloud.db.begin() as tx:
            going = object.expire(tx, cloud, row)
        object.forget(cloud, going)
    return len(rows) == AT_ONCE


def sweep(cloud: Cloud) -> int:
    """Remove data that no row names and nobody is writing; returns how many pieces."""

    def wanted(keys: list[str]) -> set[str]:
        with cloud.db.read() as tx:
            return set(tx.execute(sa.select(objects.c.id).where(objects.c.id.in_(keys))).scalars())

    stores = store.of(cloud)
    return sum(stores[name].sweep(wanted) for name in stores.names)
