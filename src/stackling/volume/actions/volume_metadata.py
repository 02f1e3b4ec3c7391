"""What users say of a volume, and what it knows of the image it was made from: keys and values."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Tx
from stackling.base.errors import NotFound
from stackling.volume.actions.volume import get, write_items
from stackling.volume.state.volume import (
    image_metadata_of,
    metadata_of,
    volume,
    volume_image_metadata,
    volume_metadata,
)

__all__ = [
    "image_metadata",
    "image_metadata_of",
    "metadata",
    "metadata_of",
    "remove_image_metadata",
    "remove_metadata",
    "set_image_metadata",
    "set_metadata",
]


def metadata(tx: Tx, caller: Caller, id: str) -> dict[str, str]:
    get(tx, caller, id, "volume:get_volume_metadata")
    return metadata_of(tx, [id]).get(id, {})


def set_metadata(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, items: Mapping[str, str], *, replace: bool
) -> dict[str, str]:
    """Merge `items` into the volume's metadata, or put them in its place. Returns what it is then."""
    get(tx, caller, id, "volume:update_volume_metadata" if replace else "volume:create_volume_metadata")
    made = {**({} if replace else metadata_of(tx, [id]).get(id, {})), **items}
    _replace(tx, cloud, volume_metadata, id, made)
    return made


def remove_metadata(tx: Tx, cloud: Cloud, caller: Caller, id: str, key: str) -> None:
    get(tx, caller, id, "volume:delete_volume_metadata")
    made = metadata_of(tx, [id]).get(id, {})
    if key not in made:
        raise NotFound("Metadata item was not found")
    del made[key]
    _replace(tx, cloud, volume_metadata, id, made)


def image_metadata(tx: Tx, caller: Caller, id: str) -> dict[str, str | None]:
    get(tx, caller, id, "volume_extension:volume_image_metadata:show")
    return image_metadata_of(tx, [id]).get(id, {})


def set_image_metadata(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, items: Mapping[str, str]
) -> dict[str, str | None]:
    get(tx, caller, id, "volume_extension:volume_image_metadata:set")
    made = {**image_metadata_of(tx, [id]).get(id, {}), **items}
    _replace(tx, cloud, volume_image_metadata, id, made)
    return made


def remove_image_metadata(tx: Tx, cloud: Cloud, caller: Caller, id: str, key: str) -> None:
    get(tx, caller, id, "volume_extension:volume_image_metadata:remove")
    made = image_metadata_of(tx, [id]).get(id, {})
    if key not in made:
        raise NotFound("Metadata does not exist.")
    del made[key]
    _replace(tx, cloud, volume_image_metadata, id, made)


def _replace(tx: Tx, cloud: Cloud, table: sa.Table, id: str, items: Mapping[str, Any]) -> None:
    tx.execute(sa.delete(table).where(table.c.volume_id == id))
    write_items(tx, table, id, items)
    tx.execute(sa.update(volume).where(volume.c.id == id).values(updated_at=cloud.clock.now()))
