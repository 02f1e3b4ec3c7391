"""What object storage has from the first start on."""

from stackling.base import jobs
from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.objectstore import store
from stackling.objectstore.actions.expiry import EXPIRER, SWEEP


def bootstrap(tx: Tx, cloud: Cloud) -> None:
    """The directories of the stores, and the jobs that look after them."""
    stores = store.of(cloud)
    for name in stores.names:
        stores[name].free_bytes()
    for kind in (EXPIRER, SWEEP):
        jobs.ensure(tx, kind, "all", now=cloud.clock.now())
