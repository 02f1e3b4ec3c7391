"""Images of servers: of a root disk's content, or of snapshots of the volumes that a server boots from."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest
from stackling.compute.actions import instance_action, limits, server
from stackling.compute.state import block_device
from stackling.compute.state import server as servers
from stackling.compute.state.block_device import Attached
from stackling.compute.state.server_image import State, server_image
from stackling.image.actions import image as images
from stackling.image.actions.search import Search, listed
from stackling.volume.actions import snapshot as snapshots
from stackling.volume.actions import volume as volumes

KIND = "compute.server_image"
STATES = ("active", "stopped", "paused", "suspended")
# What an image says of its own data, and how to make disks of it, is not true of the next image.
_NOT_INHERITED = (
    *("img_signature", "signature_verified", "os_hidden", "os_glance", "backup_type"),
    *("bdm_v2", "block_device_mapping", "root_device_name", "mappings"),
)


def create(tx: Tx, cloud: Cloud, caller: Caller, id: str, name: str, metadata: Mapping[str, str]) -> str:
    """An image of the server as it is now; returns its id. Raises Conflict, BadRequest, QuotaExceeded, Forbidden."""
    row = server.get(tx, caller, id, "os_compute_api:servers:create_image")
    server.require(row, "createImage", *STATES)
    return make(tx, cloud, caller, row, name, metadata, "createImage")


class Backup(Struct, frozen=True, kw_only=True):
    """A backup as asked for: of the images of this server and `kind`, the newest `rotation` are kept."""

    name: str
    kind: str
    rotation: int
    metadata: Mapping[str, str] = {}


def back_up(tx: Tx, cloud: Cloud, caller: Caller, id: str, want: Backup) -> str:
    """An image that takes the place of the oldest of its kind; returns its id. Raises as `create` does."""
    row = server.get(tx, caller, id, "os_compute_api:os-create-backup")
    server.require(row, "createBackup", *STATES)
    if row.image is None:
        raise BadRequest("Backup is not supported for volume-backed instances.")
    metadata = {**want.metadata, "image_type": "backup", "backup_type": want.kind}
    made = make(tx, cloud, caller, row, want.name, metadata, "createBackup")
    this = server_image.c.id == made
    tx.execute(sa.update(server_image).where(this).values(backup=want.kind, rotation=want.rotation))
    servers.change(tx, row.id, task="image_backup")
    return made


def rotate(tx: Tx, cloud: Cloud, made: Row) -> None:
    """A backup is there: the oldest of its kind beyond those to be kept go."""
    owner = Caller(
        policy=cloud.policy,
        user_id="",
        project_id=made.project_id,
        roles=frozenset({"member", "reader"}),
    )
    mine = [("instance_uuid", made.server_id), ("backup_type", made.backup)]
    kept = listed(tx, owner, Search(properties=mine, limit=1000))
    for old in kept[made.rotation :]:
        images.forget(tx, cloud, old.id)


def make(
    tx: Tx, cloud: Cloud, caller: Caller, row: Row, name: str, metadata: Mapping[str, str], action: str
) -> str:
    """Order the image as part of `action`, of a server that may have one made. Raises as `create` does."""
    limits.check_metadata(tx, cloud, caller.project_id or "", len(metadata))
    devices = block_device.of(tx, row.id)
    instance_action.record(tx, cloud, caller, row.id, action)
    if row.image is None:
        caller.may("os_compute_api:servers:create_image:allow_volume_backed")
        mapping = [_mapping(tx, cloud, caller, device, name) for device in devices if _kept(device)]
        properties = {
            **_origin(row, caller),
            "block_device_mapping": json.dumps(mapping),
            "bdm_v2": "True",
            "root_device_name": f"/dev/{row.root_device}",
        }
        made = _order(tx, cloud, caller, row, name, "raw", {**properties, **metadata}, min_disk=0)
        images.set_empty(tx, cloud, made.id)
        instance_action.finish(tx, cloud, row.id, row.host, action)
        return str(made.id)
    made = order(tx, cloud, caller, row, name, metadata)
    now = cloud.clock.now()
    values = {
        "id": made.id,
        "project_id": row.project_id,
        "created_at": now,
        "updated_at": now,
        "state": State.COPYING,
        "server_id": row.id,
        "host": row.host,
        "action": action,
    }
    tx.execute(sa.insert(server_image).values(**values))
    servers.change(tx, row.id, task="image_snapshot", updated_at=now)
    jobs.start(tx, KIND, made.id, now=now)
    return str(made.id)


def order(tx: Tx, cloud: Cloud, caller: Caller, row: Row, name: str, metadata: Mapping[str, str]) -> Row:
    """An image without data for the server's own root disk. Raises Forbidden, QuotaExceeded."""
    least = max(row.flavor["disk"], -(-row.image["virtual_size"] // 1024**3))
    properties = {**_origin(row, caller), **metadata}
    return _order(tx, cloud, caller, row, name, "qcow2", properties, min_disk=least)


def _order(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    row: Row,
    name: str,
    disk_format: str,
    properties: Mapping[str, str | None],
    *,
    min_disk: int,
) -> Row:
    want = images.NewImage(
        name=name,
        visibility=images.Visibility.PRIVATE,
        disk_format=disk_format,
        container_format="bare",
        min_disk=min_disk,
        min_ram=row.system_meta.get("min_ram") or 0,
        properties=properties,
    )
    return images.create(tx, cloud, caller, want)


def _origin(row: Row, caller: Caller) -> dict[str, str | None]:
    """What the image has of the one that the server was made of, and what it says of the server."""
    known: Mapping[str, str | None] = row.system_meta.get("image") or {}
    return {
        **{k: v for k, v in known.items() if not k.startswith(_NOT_INHERITED)},
        "image_type": "snapshot",
        "instance_uuid": row.id,
        "user_id": caller.user_id,
        "owner_id": caller.project_id,
        "base_image_ref": row.image_id or "",
    }


def _kept(device: Row) -> bool:
    return device.destination == "local" or device.state == Attached.ATTACHED


def _mapping(tx: Tx, cloud: Cloud, caller: Caller, device: Row, name: str) -> dict[str, Any]:
    """One disk of the next server: a volume becomes a volume from its snapshot, a local disk a new one."""
    made: dict[str, Any] = {
        "source_type": "blank",
        "destination_type": device.destination,
        "boot_index": device.boot_index,
        "device_name": f"/dev/{device.device}",
        "device_type": "disk",
        "disk_bus": "virtio",
        "guest_format": device.guest_format,
        "volume_size": device.size_gib,
        "delete_on_termination": device.delete_on_termination,
        "snapshot_id": None,
        "volume_id": None,
        "image_id": None,
        "no_device": None,
        "tag": None,
        "volume_type": None,
    }
    if device.destination == "local":
        return made
    volume = volumes.get(tx, caller, device.volume_id)
    taken = snapshots.create(
        tx,
        cloud,
        caller,
        volume_id=volume.id,
        name=f"snapshot for {name}"[:255],
        description=None,
        metadata={},
        force=True,
    )
    return {**made, "source_type": "snapshot", "snapshot_id": taken.id, "volume_size": volume.size}
