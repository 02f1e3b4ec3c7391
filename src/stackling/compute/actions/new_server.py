"""Creating servers: everything is checked and taken in one transaction, so that one appears whole or not at all.

A server for which no host has room appears too: in ERROR, with a fault that says what each host lacked.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import sqlalchemy as sa
from msgspec import Struct, field, structs, to_builtins

from stackling.base import ids, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, Forbidden, NotFound, QuotaExceeded
from stackling.compute.actions import disks, flavor, instance_action, keypair, limits, scheduling, server
from stackling.compute.actions.disks import NewDisk
from stackling.compute.state.block_device import Attached, block_device
from stackling.compute.state.host import by_name
from stackling.compute.state.nic import Plugged, nic
from stackling.compute.state.server import State, Wanted, server_tag
from stackling.compute.state.server import server as server_table
from stackling.image.actions import image as images
from stackling.network.actions import network as networks
from stackling.network.actions import port as ports
from stackling.network.actions import security_group as security_groups
from stackling.placement.actions import allocation
from stackling.placement.actions.allocation import NoHost
from stackling.volume.actions import attachment as attachments
from stackling.volume.actions import snapshot as snapshots
from stackling.volume.actions import volume as volumes

MOST_TAGS = 50


class NicRequest(Struct, frozen=True, kw_only=True):
    """One entry of `networks`: a network (with an address of it), or an existing port."""

    network_id: str | None = None
    port_id: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None


class NewServer(Struct, kw_only=True):
    """A server (or `max_count` of them) as asked for. `networks` None: whatever fits without asking."""

    name: str
    flavor_id: str
    image_id: str | None = None
    networks: list[NicRequest] | Literal["auto", "none"] | None = None
    security_groups: list[str] | None = None
    key_name: str | None = None
    user_data: str | None = None
    config_drive: bool = False
    admin_pass: str = ""
    meta: Mapping[str, str] = {}
    availability_zone: str | None = None
    host: str | None = None
    hypervisor_hostname: str | None = None
    hints: Mapping[str, Any] = {}
    min_count: int = 1
    max_count: int = 1
    disks: list[NewDisk] = field(default_factory=list)
    disk_config: str = "MANUAL"
    access_ip_v4: str = ""
    access_ip_v6: str = ""
    description: str | None = None
    hostname: str | None = None
    tags: list[str] = field(default_factory=list)
    trusted_certs: list[str] | None = None


class _Plan(Struct):
    """What all servers of one request share, once it has been checked."""

    want: NewServer
    flavor: Row
    image: Row | None
    properties: dict[str, Any]
    disks: list[NewDisk]
    key: Row | None
    groups: list[str] | None
    nics: list[NicRequest]
    choice: scheduling.Choice
    needs: "Needs"


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewServer) -> list[Row]:
    """Record servers that their owner wants running.

    Raises BadRequest, Forbidden, QuotaExceeded, Conflict (a port or volume is in use, several networks fit).
    """
    if caller.project_id is None:
        raise Forbidden("A server needs a project: use a token of a project.")
    caller.may("os_compute_api:servers:create")
    plan = _check(tx, cloud, caller, want)
    count = _count(tx, cloud, caller, plan)
    reservation = f"r-{ids.hex32()[:8]}"
    made = []
    for index in range(count):
        row = _one(tx, cloud, caller, plan, reservation, index, count)
        made.append(row)
    return made


# -- checking ----------------------------------------------------------------------------------------------------------


def _check(tx: Tx, cloud: Cloud, caller: Caller, want: NewServer) -> _Plan:
    if isinstance(want.networks, list) and want.networks:
        caller.may("os_compute_api:servers:create:attach_network")
    if want.disks:
        caller.may("os_compute_api:servers:create:attach_volume")
    if want.trusted_certs:
        caller.may("os_compute_api:servers:create:trusted_certs")
    try:
        size = flavor.get(tx, caller, want.flavor_id)
        image = images.for_boot(tx, cloud, caller, want.image_id, empty=True) if want.image_id else None
        groups = (
            security_groups.resolve(tx, cloud, caller, list(dict.fromkeys(want.security_groups)))
            if want.security_groups
            else None
        )
    except NotFound as e:
        raise BadRequest(e.says) from None
    key = None
    if want.key_name:
        try:
            key = keypair.of(tx, caller.user_id, want.key_name)
        except NotFound:
            raise BadRequest("Invalid key_name provided.") from None
    properties = images.properties(tx, image.id) if image is not None else {}
    mapped = disks.of_image(properties)
    plan_disks = disks.plan(disks.over(mapped, want.disks), None if mapped else image)
    _check_image(caller, size, image, plan_disks)
    _check_meta(tx, cloud, caller, want)
    if len(want.tags) > MOST_TAGS:
        raise BadRequest(f"The number of tags exceeded the per-server limit {MOST_TAGS}")
    if isinstance(want.networks, list) and want.max_count > 1:
        if any(n.port_id for n in want.networks):
            raise BadRequest(
                "Unable to launch multiple instances with a single configured port ID. Please launch your instance one by one with different ports."
            )
        if any(n.fixed_ip for n in want.networks):
            raise BadRequest("Invalid fixed IP Address in server request: several servers can't share one.")
    root = disks.root_of(plan_disks)
    local_root = root is not None and root.destination == "local"
    return _Plan(
        want=want,
        flavor=size,
        image=image,
        properties=properties,
        disks=plan_disks,
        key=key,
        groups=groups,
        nics=_nics(tx, caller, want),
        choice=_choice(tx, cloud, caller, want),
        needs=needs_of(flavor_copy(size), local_root=local_root),
    )


def _check_image(caller: Caller, size: Row, image: Row | None, planned: list[NewDisk]) -> None:
    root = disks.root_of(planned)
    if root is None or (root.destination == "local" and image is None):
        raise BadRequest(
            "Block Device Mapping is Invalid: You specified no image and no volume to boot from (boot_index 0)."
        )
    if image is None:
        return
    if size.ram_mib < (image.min_ram or 0):
        raise BadRequest(
            f"Flavor's memory is too small for requested image: the image needs {image.min_ram} MiB, flavor {size.name} has {size.ram_mib} MiB."
        )
    if root.destination == "volume":
        return
    if size.disk_gib == 0:
        caller.may("os_compute_api:servers:create:zero_disk_flavor")
        return
    needs = max(image.min_disk or 0, -(-(image.virtual_size or image.size or 0) // 1024**3))
    if size.disk_gib < needs:
        raise BadRequest(
            f"Flavor's disk is too small for requested image. Flavor disk is {size.disk_gib} GiB, image needs {needs} GiB."
        )


def _check_meta(tx: Tx, cloud: Cloud, caller: Caller, want: NewServer) -> None:
    if want.meta:
        limits.check_metadata(tx, cloud, caller.project_id or "", len(want.meta))


def _count(tx: Tx, cloud: Cloud, caller: Caller, plan: _Plan) -> int:
    """As many as the quota lets through, from `min_count` to `max_count`. Raises QuotaExceeded."""
    want, size = plan.want, plan.flavor
    each = {"instances": 1, "cores": size.vcpus, "ram": size.ram_mib}
    if plan.needs.resources["DISK_GB"]:
        each[limits.DISK] = plan.needs.resources["DISK_GB"]
    for count in range(want.max_count, want.min_count - 1, -1):
        try:
            limits.check(tx, cloud, caller.project_id or "", {n: count * one for n, one in each.items()})
            return count
        except QuotaExceeded:
            if count == want.min_count:
                raise
    raise AssertionError("min_count is at most max_count")


class Needs(Struct):
    """What a flavor asks placement for: amounts of resource classes, and traits."""

    resources: dict[str, int]
    required: list[str]
    forbidden: list[str]


def needs_of(flavor: Mapping[str, Any], *, local_root: bool) -> Needs:
    """`flavor` as `flavor_copy` makes it; `local_root`: the root disk is on the host, not a volume."""
    disk = (flavor["disk"] if local_root else 0) + flavor["ephemeral"] + -(-flavor["swap"] // 1024)
    made = Needs({"VCPU": flavor["vcpus"], "MEMORY_MB": flavor["ram"], "DISK_GB": disk}, [], [])
    for name, value in flavor["extra_specs"].items():
        if name.startswith("trait:"):
            (made.required if value == "required" else made.forbidden).append(name[6:])
        elif name.startswith("resources:") and value.isdigit():
            made.resources[name[10:]] = int(value)
    return made


def _nics(tx: Tx, caller: Caller, want: NewServer) -> list[NicRequest]:
    if want.networks == "none":
        return []
    if isinstance(want.networks, list) and want.networks:
        return want.networks
    found = networks.for_servers(tx, caller)
    if len(found) > 1:
        raise Conflict("Multiple possible networks found, use a Network ID to be more specific.")
    if not found:
        if want.networks == "auto":
            raise BadRequest(
                f"Unable to automatically allocate a network for project {caller.project_id}: create a network with a subnet first."
            )
        return []
    return [NicRequest(network_id=found[0].id)]


def _choice(tx: Tx, cloud: Cloud, caller: Caller, want: NewServer) -> scheduling.Choice:
    zone, forced = want.availability_zone or None, None
    if zone and ":" in zone:
        caller.may("os_compute_api:servers:create:forced_host")
        zone, forced, *_ = zone.split(":")
        zone = zone or None
    named = want.host or want.hypervisor_hostname
    if named:
        caller.may("compute:servers:create:requested_destination")
        if want.host and want.hypervisor_hostname and want.host != want.hypervisor_hostname:
            raise BadRequest(
                f"No compute host with host {want.host} and hypervisor_hostname {want.hypervisor_hostname}: here they are the same."
            )
        forced = named
    if forced and by_name(tx, forced) is None:
        raise BadRequest(f"Compute host {forced[:255]} could not be found.")
    if zone:
        scheduling.check_zone(tx, cloud, zone)
    group = None
    if group_id := want.hints.get("group"):
        if not isinstance(group_id, str) or not ids.is_uuid(group_id):
            raise BadRequest("Invalid input for field/attribute group: it is the UUID of a server group")
        most = limits.of(tx, cloud, caller.project_id)["server_group_members"]
        group = scheduling.group_for(tx, cloud, caller.project_id or "", group_id, want.min_count, most)
    return scheduling.Choice(
        zone=zone,
        host=forced,
        group=group,
        same_host=_hint_ids(want.hints, "same_host"),
        different_host=_hint_ids(want.hints, "different_host"),
    )


def _hint_ids(hints: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = hints.get(name) or ()
    given = (value,) if isinstance(value, str) else value
    if not all(isinstance(v, str) and ids.is_uuid(v) for v in given):
        raise BadRequest(f"Invalid input for field/attribute {name}: it holds UUIDs of servers")
    return tuple(given)


# -- writing -----------------------------------------------------------------------------------------------------------


def _one(tx: Tx, cloud: Cloud, caller: Caller, plan: _Plan, reservation: str, index: int, count: int) -> Row:
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


def _local_root(plan: _Plan) -> bool:
    root = disks.root_of(plan.disks)
    return root is not None and root.destination == "local"


def _take(tx: Tx, cloud: Cloud, caller: Caller, plan: _Plan, id: str) -> dict[str, Any]:
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


def _volume_hosts(tx: Tx, caller: Caller, plan: _Plan) -> dict[str, str]:
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


def _take_ports(tx: Tx, cloud: Cloud, caller: Caller, plan: _Plan, id: str, host: str) -> None:
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


def _take_disks(tx: Tx, cloud: Cloud, caller: Caller, plan: _Plan, id: str, host: str) -> bool:
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
    tx: Tx, cloud: Cloud, caller: Caller, disk: NewDisk, id: str, plan: _Plan, host: str
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


def flavor_copy(row: Row) -> dict[str, Any]:
    """What a server remembers of its flavor. Memory and swap in MiB, disks in GiB."""
    return {
        "id": row.id,
        "name": row.name,
        "vcpus": row.vcpus,
        "ram": row.ram_mib,
        "disk": row.disk_gib,
        "ephemeral": row.ephemeral_gib,
        "swap": row.swap_mib,
        "extra_specs": row.extra_specs,
    }


def hostname_of(name: str, id: str) -> str:
    """A valid host name made of a server's name; its id when nothing is left of it."""
    text = name.encode("ascii", "ignore").decode().lower()
    text = re.sub(r"[ _.]", "-", text)
    text = re.sub(r"[^a-z0-9-]+", "", text).strip("-")[:63].strip("-")
    return text or f"server-{id}"
