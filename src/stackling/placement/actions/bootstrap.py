"""What placement has from its first start: nothing; hosts bring their own inventory."""

from stackling.base.cloud import Cloud
from stackling.base.db import Tx


def bootstrap(tx: Tx, cloud: Cloud) -> None:
    """Nothing to make."""
