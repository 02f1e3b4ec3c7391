"""Volumes of a server: attach and detach while it lives."""

import sqlalchemy as sa

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, NotFound
from stackling.compute.actions import instance_action, server
from stackling.compute.actions.disks import next_device
from stackling.compute.state import block_device as state
from stackling.compute.state.block_device import Attached, block_device
from stackling.volume.actions import attachment as attachments
from stackling.volume.actions import volume as volumes

_STATES = ("active", "stopped", "paused", "shelved_offloaded")


def of(tx: Tx, caller: Caller, server_id: str, rule: str) -> list[Row]:
    """The volumes of a server, in the order in which they were attached."""
    row = server.get(tx, caller, server_id, rule)
    return [d for d in state.of(tx, row.id) if d.volume_id]


def get(tx: Tx, caller: Caller, server_id: str, volume_id: str, rule: str) -> Row:
    for found in of(tx, caller, server_id, rule):
        if found.volume_id == volume_id:
            return found
    raise NotFound(f"Instance {server_id} is not attached to volume {volume_id[:64]}")


def create(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    server_id: str,
    volume_id: str,
    *,
    tag: str | None = None,
    delete_on_termination: bool = False,
) -> Row:
    """Attach a volume. Raises NotFound, BadRequest (its state or host, or the server has it), Conflict (the server's state)."""
    row = server.unlocked(tx, caller, server_id, "os_compute_api:os-volumes-attachments:create")
    server.require(row, "attach_volume", *_STATES)
    volume = volumes.get(tx, caller, volume_id)
    devices = state.of(tx, row.id)
    if any(d.volume_id == volume_id for d in devices):
        raise BadRequest(f"Invalid volume: volume {volume_id} already attached")
    if row.host is not None and volume.host is not None and volume.host != row.host:
        raise BadRequest(
            f"Invalid volume: volume {volume_id} is on host {volume.host} and server {row.id} on {row.host}; a local volume is used on its own host."
        )
    device = next_device({row.root_device, *(d.device for d in devices if d.device)})
    held = attachments.reserve(tx, cloud, caller, volume_id, row.id, device=f"/dev/{device}")
    shelved = row.host is None  # no guest will say when it has the volume
    attach = attachments.complete if shelved else attachments.connect
    attach(tx, cloud, held.id, host=row.host, device=f"/dev/{device}")
    values = {
        "id": ids.uuid4(),
        "server_id": row.id,
        "project_id": row.project_id,
        "state": Attached.ATTACHED if shelved else Attached.ATTACHING,
        "place": max((d.place for d in devices), default=0) + 1,
        "source": "volume",
        "destination": "volume",
        "volume_id": volume_id,
        "attachment_id": held.id,
        "device": device,
        "delete_on_termination": delete_on_termination,
        "tag": tag,
        "created_at": cloud.clock.now(),
    }
    made = tx.execute(sa.insert(block_device).values(**values).returning(block_device)).one()
    instance_action.record(tx, cloud, caller, row.id, "attach_volume")
    server.look_again(tx, cloud, row.id)
    return made


def delete(tx: Tx, cloud: Cloud, caller: Caller, server_id: str, volume_id: str) -> None:
    """Detach a volume. Raises NotFound, BadRequest (a root disk, or it is being attached), Conflict."""
    row = server.unlocked(tx, caller, server_id, "os_compute_api:os-volumes-attachments:delete")
    server.require(
        row,
        "detach_volume",
        *_STATES,
        task_states=(None, "rebooting", "reboot_started", "rebooting_hard", "powering-off"),
    )
    device = get(tx, caller, server_id, volume_id, "os_compute_api:os-volumes-attachments:delete")
    if device.boot_index == 0:
        raise BadRequest("Cannot detach a root device volume")
    if device.state == Attached.DETACHING:
        return
    if row.host is None:  # it is shelved: no guest holds the volume
        attachments.release(tx, cloud, device.attachment_id)
        tx.execute(sa.delete(block_device).where(block_device.c.id == device.id))
        return
    if device.state == Attached.ATTACHING:
        raise Conflict(f"Volume {volume_id} is being attached to server {row.id}; wait until it is in-use")
    attachments.begin_detach(tx, cloud, caller, device.attachment_id)
    tx.execute(sa.update(block_device).where(block_device.c.id == device.id).values(state=Attached.DETACHING))
    instance_action.record(tx, cloud, caller, row.id, "detach_volume")
    server.look_again(tx, cloud, row.id)


def update(tx: Tx, caller: Caller, server_id: str, volume_id: str, delete_on_termination: bool | None) -> Row:
    """Whether the volume goes with the server; None leaves that as it is. Raises NotFound."""
    device = get(tx, caller, server_id, volume_id, "os_compute_api:os-volumes-attachments:update")
    if delete_on_termination is not None:
        tx.execute(
            sa.update(block_device)
            .where(block_device.c.id == device.id)
            .values(delete_on_termination=delete_on_termination)
        )
    return device
