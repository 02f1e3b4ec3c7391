"""What the image service has from the first start on."""

import sqlalchemy as sa

from stackling.base import jobs
from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.image import definitions, store
from stackling.image.actions import build, location, usage
from stackling.image.actions.cached import LOOK
from stackling.image.data_driver import NodeCache
from stackling.image.state.image import State, image, image_location


def bootstrap(tx: Tx, cloud: Cloud) -> None:
    """Limits and the directories of the stores. The ready image comes later, when it is built: `actions.image.register`."""
    stores = store.of(cloud)
    for name in stores.writable:
        stores[name].free_bytes()
    _place(tx)
    usage.QUOTAS.register(tx, cloud)
    build.QUOTAS.register(tx, cloud)
    definitions.load(tx, cloud)
    for host in cloud.hosts(NodeCache):
        jobs.ensure(tx, LOOK, host, now=cloud.clock.now())


def _place(tx: Tx) -> None:
    """Images of releases that had one store, and one hash, say so."""
    placed = sa.select(image_location.c.image_id)
    has_data = image.c.state.in_((State.ACTIVE, State.DEACTIVATED))
    for id in tx.execute(sa.select(image.c.id).where(has_data, image.c.id.not_in(placed))).scalars().all():
        location.add(tx, id, "file")
    hashed = sa.and_(image.c.os_hash_algo.is_(None), image.c.os_hash_value.isnot(None))
    tx.execute(sa.update(image).where(hashed).values(os_hash_algo="sha512"))
