"""Creating servers: everything is checked and taken in one transaction, so that one appears whole or not at all.

A server for which no host has room appears too: in ERROR, with a fault that says what each host lacked.
"""

import re
from typing import Any

import sqlalchemy as sa
from msgspec import structs, to_builtins

from stackling.base import ids, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden, NotFound
from stackling.compute.actions import (
    disks,
    instance_action,
    scheduling,
    server,
    server_plan,
)
from stackling.compute.actions.disks import NewDisk
from stackling.compute.actions.server_plan import NewServer, Plan, flavor_copy
from stackling.compute.state.block_device import Attached, block_device
from stackling.compute.state.nic import Plugged, nic
from stackling.compute.state.server import State, Wanted, server_tag
from stackling.compute.state.server import server as server_table
from stackling.image.actions import image as images
from stackling.network.actions import port as ports
from stackling.placement.actions import allocation
from stackling.placement.actions.allocation import NoHost
from stackling.volume.actions import attachment as attachments
from stackling.volume.actions import snapshot as snapshots
from stackling.volume.actions import volume as volumes


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewServer) -> list[Row]:
    """Record servers that their owner wants running.

    Raises BadRequest, Forbidden, QuotaExceeded, Conflict (a port or volume is in use, several networks fit).
    """
    if caller.project_id is None:
        raise Forbidden("A server needs a project: use a token of a project.")
    caller.may("os_compute_api:servers:create")
    plan = server_plan.plan(tx, cloud, caller, want)
    count = server_plan.count(tx, cloud, caller, plan)
    reservation = f"r-{ids.hex32()[:8]}"
    made = []
    for index in range(count):
        row = _one(tx, cloud, caller, plan, reservation, index, count)
        made.append(row)
    return made


def _one(tx: Tx, cloud: Cloud, caller: Caller, plan: Plan, reservation: str, index: int, count: int) -> Row:
    want, id, now = plan.want, ids.uuid4(), cloud.clock.now()
    name = want.name if count == 1 else f"{want.name}-{index + 1}"[:255]
    values: dict[str, Any] = {
        "id": id,
        "project_id": caller.project_id,
        "created_at": now,
        "updated_at": now,
        "state": State.SPAWNING,
        "wanted": Wanted.RUNNING,
        "wished_at": now,
        "user_id": caller.user_id,
        "name": name,
        "hostname": want.hostname or hostname_of(name, id),
        "description": want.description,
        "availability_zone": plan.choice.zone,
        "requested_host": plan.choice.host,
        "image_id": want.image_id or None,
        "image": to_builtins(images.ref(plan.image))
        if plan.image is not None and _local_root(plan)
        else None,
        "flavor_id": plan.flavor.id,
        "flavor": flavor_copy(plan.flavor),
        "key_name": want.key_name,
        "key": {"type": plan.key.type, "public_key": plan.key.public_key} if plan.key is not None else None,
        "user_data": want.user_data,
        "config_drive": want.config_drive,
        "admin_pass": want.admin_pass if want.config_drive else None,
        "meta": dict(want.meta),
        "system_meta": {
            "image": plan.properties,
            "min_ram": plan.image.min_ram if plan.image is not None else 0,
            "trusted_certs": want.trusted_certs,
        },
        "access_ip_v4": want.access_ip_v4,
        "access_ip_v6": want.access_ip_v6,
        "disk_config": want.disk_config,
        "reservation_id": reservation,
        "launch_index": index,
        "root_device": "vda",
        "hints": dict(want.hints),
        "group_id": plan.choice.group.id if plan.choice.group is not None else None,
    }
    row = tx.execute(sa.insert(server_table).values(**values).returning(server_table)).one()
    if want.tags:
        tx.execute(sa.insert(server_tag), [{"server_id": id, "tag": t} for t in dict.fromkeys(want.tags)])
    instance_action.record(tx, cloud, caller, id, "create")
    try:
        with tx.begin_nested():
            changed = _take(tx, cloud, caller, plan, id)
    except NoHost as e:
        return _failed(tx, cloud, id, e)
    row = tx.execute(
        sa.update(server_table).where(server_table.c.id == id).values(**changed).returning(server_table)
    ).one()
    jobs.start(tx, server.KIND, id, now=now)
    return row


def _local_root(plan: Plan) -> bool:
    root = disks.root_of(plan.disks)
    return root is not None and root.destination == "local"


def _take(tx: Tx, cloud: Cloud, caller: Caller, plan: Plan, id: str) -> dict[str, Any]:
    """A host, ports, volumes. Volumes that are there tie the server to their host. Raises NoHost."""
    choice = structs.replace(plan.choice, volume_hosts=_volume_hosts(tx, caller, plan))
    found = scheduling.candidates(tx, cloud, choice)
    try:
        host = allocation.claim(
            tx,
            cloud,
            id,
            caller.project_id or "",
            caller.user_id,
            resources=plan.needs.resources,
            candidates=found.hosts,
            required=plan.needs.required,
            forbidden=plan.needs.forbidden,
            weigh=found.weigh,
        )
    except NoHost as e:
        raise NoHost({**found.reasons, **e.reasons}) from None
    _take_ports(tx, cloud, caller, plan, id, host)
    building = _take_disks(tx, cloud, caller, plan, id, host)
    return {"host": host, "state": State.BUILDING if building else State.SPAWNING}


def _volume_hosts(tx: Tx, caller: Caller, plan: Plan) -> dict[str, str]:
    """The hosts of the volumes and snapshots that are there already, by their ids."""
    found = {}
    for disk in plan.disks:
        try:
            if disk.source == "volume":
                found[disk.source_id or ""] = attachments.backend_of(
                    tx, volumes.get(tx, caller, disk.source_id or "").id
                )
            elif disk.source == "snapshot":
                found[disk.source_id or ""] = attachments.backend_of(
                    tx, snapshots.get(tx, caller, disk.source_id or "").volume_id
                )
        except NotFound as e:
            raise BadRequest(f"Block Device Mapping is Invalid: {e.says}") from None
    return found


def _take_ports(tx: Tx, cloud: Cloud, caller: Caller, plan: Plan, id: str, host: str) -> None:
    zone = plan.choice.zone or cloud.config.compute.availability_zone
    for wanted in plan.nics:
        try:
            if wanted.port_id:
                port = ports.take_for_server(
                    tx, cloud, caller, wanted.port_id, server_id=id, host=host, availability_zone=zone
                )
            else:
                port = ports.create_for_server(
                    tx,
                    cloud,
                    caller,
                    server_id=id,
                    network_id=wanted.network_id or "",
                    fixed_ip=wanted.fixed_ip,
                    security_group_ids=plan.groups,
                    host=host,
                    availability_zone=zone,
                )
        except NotFound as e:
            raise BadRequest(e.says) from None
        tx.execute(
            sa.insert(nic).values(
                port_id=port.id,
                server_id=id,
                state=Plugged.WANTED,
                tag=wanted.tag,
                created_at=cloud.clock.now(),
            )
        )


def _take_disks(tx: Tx, cloud: Cloud, caller: Caller, plan: Plan, id: str, host: str) -> bool:
    """Write the disks, reserve the volumes that are there and order those that are not. True: some must be made."""
    building = False
    for place, disk in enumerate(disks.with_devices(plan.disks, plan.flavor)):
        values: dict[str, Any] = {
            "id": ids.uuid4(),
            "server_id": id,
            "project_id": caller.project_id,
            "state": Attached.ATTACHING if disk.destination == "volume" else Attached.ATTACHED,
            "place": place,
            "source": disk.source,
            "destination": disk.destination,
            "boot_index": disk.boot_index,
            "device": disk.device,
            "size_gib": disk.size,
            "guest_format": disk.guest_format,
            "delete_on_termination": disk.delete_on_termination,
            "tag": disk.tag,
            "created_at": cloud.clock.now(),
        }
        if disk.destination == "volume":
            try:
                values |= _take_volume(tx, cloud, caller, disk, id, plan, host)
            except NotFound as e:
                raise BadRequest(f"Block Device Mapping is Invalid: {e.says}") from None
            building = building or values.get("attachment_id") is None
        tx.execute(sa.insert(block_device).values(**values))
    return building


def _take_volume(
    tx: Tx, cloud: Cloud, caller: Caller, disk: NewDisk, id: str, plan: Plan, host: str
) -> dict[str, Any]:
    if disk.source == "volume":
        assert disk.source_id is not None
        unvouched = disk.boot_index == 0 and plan.image is None
        if unvouched and not volumes.get(tx, caller, disk.source_id).bootable:
            raise BadRequest(f"Block Device {disk.source_id} is not bootable.")
        held = attachments.reserve(tx, cloud, caller, disk.source_id, id, device=f"/dev/{disk.device}")
        return {"volume_id": disk.source_id, "attachment_id": held.id}
    size = disk.size
    if size is None and disk.source == "image" and disk.boot_index == 0:
        size = plan.flavor.disk_gib or None
    if size is None and disk.source != "snapshot":
        raise BadRequest(
            "Block Device Mapping is Invalid: Images and blank disks with destination_type 'volume' need to have a non-zero volume_size specified"
        )
    made = volumes.create_for_server(
        tx,
        cloud,
        caller,
        size_gib=size,
        name="",
        source=None if disk.source == "blank" else (disk.source, disk.source_id or ""),
        volume_type=disk.volume_type,
        server_id=id,
        host=host,
    )
    return {"volume_id": made.id}


def _failed(tx: Tx, cloud: Cloud, id: str, why: NoHost) -> Row:
    """The server that found no host, in ERROR, with what each host lacked."""
    shown = sorted(why.reasons.items())
    says = "No valid host was found. " + (
        " ".join(f"{host}: {reason}." for host, reason in shown[:8])
        if shown
        else "No hypervisor host has joined the cloud yet."
    )
    if len(shown) > 8:
        says += f" And {len(shown) - 8} more hosts."
    details = "\n".join(f"{host}: {reason}" for host, reason in shown)
    now = cloud.clock.now()
    values = {
        "state": State.ERROR,
        "fault": {"code": 500, "message": says, "details": details},
        "fault_at": now,
    }
    instance_action.finish(tx, cloud, id, None, "create", error=says)
    return tx.execute(
        sa.update(server_table).where(server_table.c.id == id).values(**values).returning(server_table)
    ).one()


def hostname_of(name: str, id: str) -> str:
    """A valid host name made of a server's name; its id when nothing is left of it."""
    text = name.encode("ascii", "ignore").decode().lower()
    text = re.sub(r"[ _.]", "-", text)
    text = re.sub(r"[^a-z0-9-]+", "", text).strip("-")[:63].strip("-")
    return text or f"server-{id}"
