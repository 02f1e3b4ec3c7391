"""What a new server is to be: what was asked for, held against flavor, image, networks, policy and quota."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, field

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, NotFound, QuotaExceeded
from stackling.compute.actions import disks, flavor, keypair, limits, scheduling
from stackling.compute.actions.disks import NewDisk
from stackling.compute.state.host import by_name
from stackling.image.actions import image as images
from stackling.network.actions import network as networks
from stackling.network.actions import security_group as security_groups

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


class Plan(Struct):
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


def plan(tx: Tx, cloud: Cloud, caller: Caller, want: NewServer) -> Plan:
    """What was asked for, looked up and found possible. Raises BadRequest, Forbidden, Conflict (several networks fit)."""
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
    if want.hostname and want.max_count > 1:
        raise BadRequest("Unable to allocate a single hostname to multiple instances")
    if isinstance(want.networks, list) and want.max_count > 1:
        if any(n.port_id for n in want.networks):
            raise BadRequest(
                "Unable to launch multiple instances with a single configured port ID. Please launch your instance one by one with different ports."
            )
        if any(n.fixed_ip for n in want.networks):
            raise BadRequest("Invalid fixed IP Address in server request: several servers can't share one.")
    root = disks.root_of(plan_disks)
    local_root = root is not None and root.destination == "local"
    return Plan(
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


def count(tx: Tx, cloud: Cloud, caller: Caller, plan: Plan) -> int:
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
