"""What a server holds: read for its host, and given back in one place when it ends."""

from collections.abc import Mapping

import sqlalchemy as sa
from msgspec import Struct

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.compute.actions import instance_action
from stackling.compute.driver import Domain
from stackling.compute.state import aggregate, block_device, nic
from stackling.compute.state.block_device import Attached
from stackling.compute.state.nic import Plugged
from stackling.compute.state.server import server_tag
from stackling.compute.steps import description
from stackling.network.actions import port as ports
from stackling.network.actions.port import Plug
from stackling.placement.actions import allocation
from stackling.volume.actions import attachment as attachments
from stackling.volume.actions import volume as volumes
from stackling.volume.driver import Backend


class Holdings(Struct):
    """A server's disks and ports, read in one transaction."""

    devices: list[Row]
    nics: Mapping[str, Row]
    plugs: list[Plug]
    zone: str
    backends: dict[str, str]  # volume id → the backend's host
    shared: set[str]  # ids of volumes that several servers may have
    sizes: dict[str, attachments.Size | None]  # by volume id

    @property
    def wanted_plugs(self) -> list[Plug]:
        """The ports that belong on it, without those that are being taken off."""
        return [
            p
            for p in self.plugs
            if p.port_id not in self.nics or self.nics[p.port_id].state == Plugged.WANTED
        ]

    @property
    def attaching(self) -> list[Row]:
        return [d for d in self.devices if d.state == Attached.ATTACHING and d.attachment_id]

    @property
    def detaching(self) -> list[Row]:
        return [d for d in self.devices if d.state == Attached.DETACHING]

    @property
    def unplugging(self) -> list[str]:
        return [port_id for port_id, row in self.nics.items() if row.state == Plugged.UNPLUGGING]

    @property
    def pending(self) -> bool:
        return bool(self.attaching or self.detaching or self.unplugging)


def of(tx: Tx, cloud: Cloud, row: Row) -> Holdings:
    devices, backends, shared, sizes = [], {}, set(), {}
    for device in block_device.of(tx, row.id):
        if device.volume_id:
            try:
                backends[device.volume_id] = attachments.backend_of(tx, device.volume_id)
                sizes[device.volume_id] = attachments.size_of(tx, device.volume_id)
                if attachments.is_shared(tx, device.volume_id):
                    shared.add(device.volume_id)
            except (NotFound, BadRequest):
                if device.state != Attached.DETACHING:
                    continue  # an admin deleted the volume by force: the guest loses it
        devices.append(device)
    return Holdings(
        devices=devices,
        nics=nic.of(tx, row.id),
        plugs=ports.plugs(tx, row.id),
        zone=aggregate.zones(tx, cloud.config.compute.availability_zone).of(row.host),
        backends=backends,
        shared=shared,
        sizes=sizes,
    )


def describe(cloud: Cloud, row: Row, held: Holdings, *, running: bool = True) -> Domain:
    """The domain that a host should have. Asks the volumes' backends, so no transaction may be open."""
    wanted = [d for d in held.devices if d.volume_id and d.state != Attached.DETACHING]
    return description.domain(
        row,
        devices=held.devices,
        plugs=held.wanted_plugs,
        tags={id: n.tag for id, n in held.nics.items()},
        connections={
            d.volume_id: cloud.driver(Backend, held.backends[d.volume_id]).connection(d.volume_id)
            for d in wanted
        },
        shared=held.shared,
        zone=held.zone,
        running=running,
    )


def settle(tx: Tx, cloud: Cloud, row: Row, held: Holdings) -> None:
    """The host has done what `held` asked: attachments are complete, what was taken off is given back."""
    table = block_device.block_device
    for device in held.devices:
        size = held.sizes.get(device.volume_id)
        if size is None or size.gib == device.size_gib:
            continue
        tx.execute(sa.update(table).where(table.c.id == device.id).values(size_gib=size.gib))
        if device.state == Attached.ATTACHED and size.gib > (device.size_gib or size.gib):
            who = Caller(policy=cloud.policy, **size.by) if size.by else None
            instance_action.record(tx, cloud, who, row.id, "extend_volume")
            instance_action.finish(tx, cloud, row.id, row.host, "extend_volume")
    for device in held.attaching:
        attachments.complete(tx, cloud, device.attachment_id, host=row.host, device=f"/dev/{device.device}")
        tx.execute(sa.update(table).where(table.c.id == device.id).values(state=Attached.ATTACHED))
    for device in held.detaching:
        attachments.release(tx, cloud, device.attachment_id)
        tx.execute(sa.delete(table).where(table.c.id == device.id))
    for port_id in held.unplugging:
        ports.release(tx, cloud, port_id, row.id)
        tx.execute(sa.delete(nic.nic).where(nic.nic.c.port_id == port_id))
    gone = [
        port_id
        for port_id in held.nics
        if port_id not in {p.port_id for p in held.plugs} and port_id not in held.unplugging
    ]
    if gone:  # ports that somebody deleted or took away by the network API
        tx.execute(sa.delete(nic.nic).where(nic.nic.c.port_id.in_(gone), nic.nic.c.server_id == row.id))


def take_back(tx: Tx, cloud: Cloud, row: Row, held: Holdings) -> None:
    """What was being attached could not be: it is given back, and the server stays as it was."""
    table = block_device.block_device
    for device in held.attaching:
        attachments.release(tx, cloud, device.attachment_id)
        tx.execute(sa.delete(table).where(table.c.id == device.id))


def release(tx: Tx, cloud: Cloud, row: Row) -> None:
    """Everything that a server holds goes back: ports, volumes, its claim on a host. Doing it again does no harm."""
    table = block_device.block_device
    for plug in ports.plugs(tx, row.id):
        ports.release(tx, cloud, plug.port_id, row.id)
    tx.execute(sa.delete(nic.nic).where(nic.nic.c.server_id == row.id))
    for device in block_device.of(tx, row.id):
        if device.attachment_id:
            attachments.release(tx, cloud, device.attachment_id)
        if device.volume_id and device.delete_on_termination:
            volumes.remove_with_server(tx, cloud, device.volume_id)
    tx.execute(sa.delete(table).where(table.c.server_id == row.id))
    tx.execute(sa.delete(server_tag).where(server_tag.c.server_id == row.id))
    allocation.release(tx, row.id)
