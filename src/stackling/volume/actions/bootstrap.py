"""What block storage has from the first start on: limits and its default volume type."""

import sqlalchemy as sa

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.volume.actions import quota
from stackling.volume.state.volume_type import volume_type


def bootstrap(tx: Tx, cloud: Cloud) -> None:
    quota.QUOTAS.register(tx, cloud)
    name = cloud.config.volume.default_type
    if tx.execute(sa.select(volume_type.c.id).where(volume_type.c.name == name)).first():
        return
    says = "Files on the host's own disk"
    values = {
        "id": ids.uuid4(),
        "name": name,
        "description": says,
        "is_public": True,
        "created_at": cloud.clock.now(),
    }
    tx.execute(sa.insert(volume_type).values(**values))
