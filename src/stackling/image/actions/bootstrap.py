"""What the image service has from the first start on."""

from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.image import definitions, store
from stackling.image.actions import usage


def bootstrap(tx: Tx, cloud: Cloud) -> None:
    """Limits and the directory of the store. The ready image comes later, when it is built: `actions.image.register`."""
    store.of(cloud).directory.mkdir(parents=True, exist_ok=True, mode=0o711)
    usage.QUOTAS.register(tx, cloud)
    definitions.load(tx, cloud)
