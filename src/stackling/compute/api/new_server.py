"""POST /servers: the body at each microversion, turned into what is wanted."""

from typing import Annotated, Any, Literal

from falcon import Request, Response
from msgspec import UNSET, Meta, field

from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest
from stackling.base.microversion import Body, since, until, wire
from stackling.base.rest import body, caller
from stackling.compute.actions import new_server as actions
from stackling.compute.actions.disks import NewDisk
from stackling.compute.actions.server_plan import NewServer, NicRequest
from stackling.compute.api.body import (
    DeviceTag,
    Flag,
    Hostname,
    Items,
    Name,
    Tag,
    Unset,
    Whole,
    address_of,
    first,
    flag,
    name_of,
    or_none,
    present,
    user_data_of,
    whole,
)
from stackling.compute.api.link import Links
from stackling.compute.api.remake import new_password

Text = Annotated[str, Meta(max_length=255)]


class NetworkItem(Body, kw_only=True):
    uuid: str | Unset | None = UNSET
    port: str | Unset | None = UNSET
    fixed_ip: str | Unset | None = UNSET
    tag_early: Annotated[DeviceTag | Unset, since("2.32"), until("2.36"), wire("tag")] = UNSET
    tag: Annotated[DeviceTag | Unset, since("2.42")] = UNSET


class BlockDevice(Body, kw_only=True):
    """One of block_device_mapping_v2."""

    source_type: Literal["image", "volume", "snapshot", "blank"] | Unset = UNSET
    destination_type: Literal["local", "volume"] | Unset | None = UNSET
    uuid: str | Unset | None = UNSET
    boot_index: Whole | Unset | None = UNSET
    volume_size: Whole | Unset | None = UNSET
    guest_format: Text | Unset | None = UNSET
    delete_on_termination: Flag | Unset | None = UNSET
    device_name: Text | Unset | None = UNSET
    device_type: Text | Unset | None = UNSET
    disk_bus: Text | Unset | None = UNSET
    image_id: str | Unset | None = UNSET
    volume_id: str | Unset | None = UNSET
    snapshot_id: str | Unset | None = UNSET
    no_device: Any = UNSET
    volume_type: Annotated[Text | Unset | None, since("2.67")] = UNSET
    tag_early: Annotated[DeviceTag | Unset, since("2.32"), until("2.32"), wire("tag")] = UNSET
    tag: Annotated[DeviceTag | Unset, since("2.42")] = UNSET


class OldBlockDevice(Body, kw_only=True):
    """One of block_device_mapping, the form of EC2."""

    device_name: Text | Unset | None = UNSET
    volume_id: str | Unset | None = UNSET
    snapshot_id: str | Unset | None = UNSET
    volume_size: Whole | Unset | None = UNSET
    delete_on_termination: Flag | Unset | None = UNSET
    virtual_name: Text | Unset | None = UNSET
    no_device: Any = UNSET
    source_type: Text | Unset | None = UNSET
    destination_type: Text | Unset | None = UNSET
    uuid: str | Unset | None = UNSET
    guest_format: Text | Unset | None = UNSET
    boot_index: Whole | Unset | None = UNSET
    connection_info: Any = UNSET


class Group(Body, kw_only=True):
    name: Name


class CreateServer(Body, kw_only=True):
    name: Name
    flavor_ref: str | int = field(name="flavorRef")
    image_ref: str | Unset = field(name="imageRef", default=UNSET)
    networks_early: Annotated[list[NetworkItem] | Unset, until("2.36"), wire("networks")] = UNSET
    networks: Annotated[list[NetworkItem] | Literal["auto", "none"], since("2.37")]
    security_groups: list[Group] | Unset = UNSET
    key_name: Name | Unset | None = UNSET
    user_data: str | Unset | None = UNSET
    config_drive: Flag | Unset | None = UNSET
    admin_pass: Text | Unset = field(name="adminPass", default=UNSET)
    metadata: Items | Unset = UNSET
    personality: Annotated[list[dict[str, Any]] | Unset, until("2.56")] = UNSET
    availability_zone: Name | Unset | None = UNSET
    min_count: Whole | Unset = UNSET
    max_count: Whole | Unset = UNSET
    return_reservation_id: Flag | Unset = UNSET
    block_device_mapping: list[OldBlockDevice] | Unset = UNSET
    block_device_mapping_v2: list[BlockDevice] | Unset = UNSET
    disk_config: Literal["AUTO", "MANUAL"] | Unset = field(name="OS-DCF:diskConfig", default=UNSET)
    access_ip_v4: str | Unset = field(name="accessIPv4", default=UNSET)
    access_ip_v6: str | Unset = field(name="accessIPv6", default=UNSET)
    description: Annotated[Text | Unset | None, since("2.19")] = UNSET
    tags: Annotated[list[Tag] | Unset, since("2.52")] = UNSET
    trusted_image_certificates: Annotated[list[Name] | Unset | None, since("2.63")] = UNSET
    host: Annotated[Name | Unset, since("2.74")] = UNSET
    hypervisor_hostname: Annotated[Name | Unset, since("2.74")] = UNSET
    hostname: Annotated[Hostname | Unset, since("2.90")] = UNSET


Hints = dict[str, Any]


class CreateRequest(Body, kw_only=True):
    server: CreateServer
    hints: Hints | Unset | None = field(name="os:scheduler_hints", default=UNSET)
    old_hints: Hints | Unset | None = field(name="OS-SCH-HNT:scheduler_hints", default=UNSET)


def create(req: Request, resp: Response, cloud: Cloud) -> None:
    """Handle POST /servers."""
    caller(req).may("os_compute_api:servers:create")
    request = body(req, CreateRequest)
    sent = request.server
    if present(sent.personality) and sent.personality:
        raise BadRequest("Personality files are not supported: pass what the guest needs in user_data.")
    password = or_none(sent.admin_pass) or new_password()
    want = _wanted(req, request, password)
    with cloud.db.begin() as tx:
        made = actions.create(tx, cloud, caller(req), want)
    if flag(sent.return_reservation_id, "return_reservation_id"):
        resp.status, resp.media = 202, {"reservation_id": made[0].reservation_id}
        return
    links = Links(req, cloud).of("servers", made[0].id)
    shown = {
        "id": made[0].id,
        "links": links,
        "OS-DCF:diskConfig": made[0].disk_config,
        "security_groups": [{"name": n} for n in want.security_groups or ["default"]],
        "adminPass": password,
    }
    resp.status, resp.media = 202, {"server": shown}
    resp.set_header("Location", links[0]["href"])


def _wanted(req: Request, request: Any, password: str) -> NewServer:
    sent = request.server
    low = whole(sent.min_count, "min_count", least=1, most=1000) if present(sent.min_count) else 1
    high = whole(sent.max_count, "max_count", least=1, most=1000) if present(sent.max_count) else low
    if low > high:
        raise BadRequest("min_count must be <= max_count")
    hints = {**(first(request.old_hints) or {}), **(first(request.hints) or {})}
    if len(str(hints)) > 65535 or any(len(k) > 255 for k in hints):
        raise BadRequest("Invalid input for field/attribute scheduler_hints: too large")
    image = or_none(sent.image_ref) or None
    if image is not None:
        image = image.rstrip("/").rpartition("/")[2]
        if not _is_id(image):
            raise BadRequest(f"Invalid imageRef provided: {image[:64]}")
    flavor = str(sent.flavor_ref).rstrip("/").rpartition("/")[2]
    if not flavor or len(flavor) > 255:
        raise BadRequest("Invalid input for field/attribute flavorRef: it is the id of a flavor")
    return NewServer(
        name=name_of(sent.name),
        flavor_id=flavor,
        image_id=image,
        networks=_networks(req, first(sent.networks, sent.networks_early)),
        security_groups=[g.name for g in sent.security_groups] if present(sent.security_groups) else None,
        key_name=or_none(sent.key_name),
        user_data=user_data_of(sent.user_data),
        config_drive=flag(sent.config_drive, "config_drive"),
        admin_pass=password,
        meta=or_none(sent.metadata) or {},
        availability_zone=or_none(sent.availability_zone),
        host=or_none(sent.host),
        hypervisor_hostname=or_none(sent.hypervisor_hostname),
        hints=hints,
        min_count=low,
        max_count=high,
        disks=[_disk(d) for d in or_none(sent.block_device_mapping_v2) or [] if not d.no_device]
        + [
            _old_disk(d, i, image)
            for i, d in enumerate(or_none(sent.block_device_mapping) or [])
            if not d.no_device
        ],
        disk_config=or_none(sent.disk_config) or "MANUAL",
        access_ip_v4=address_of(sent.access_ip_v4, 4, "accessIPv4"),
        access_ip_v6=address_of(sent.access_ip_v6, 6, "accessIPv6"),
        description=or_none(sent.description),
        hostname=or_none(sent.hostname),
        tags=list(or_none(sent.tags) or []),
        trusted_certs=or_none(sent.trusted_image_certificates),
    )


def _is_id(text: str) -> bool:
    return len(text) in (32, 36) and all(ch in "0123456789abcdefABCDEF-" for ch in text)


def _networks(req: Request, sent: Any) -> Any:
    if sent is None or isinstance(sent, str):
        return sent
    made = []
    for item in sent:
        network, port = or_none(item.uuid), or_none(item.port)
        for name, value in (("uuid", network), ("port", port)):
            if value is not None and not _is_id(value):
                raise BadRequest(
                    f"Invalid input for field/attribute {name}. Value: {value[:64]}. '{value[:64]}' is not a 'uuid'"
                )
        if port is None and network is None:
            raise BadRequest("Bad network format: missing 'uuid'")
        if port is not None and present(item.fixed_ip):
            raise BadRequest(
                f"Specified Fixed IP '{item.fixed_ip[:64]}' cannot be used with port '{port}': the two cannot be specified together."
            )
        ip = or_none(item.fixed_ip)
        if ip is not None:
            ip = address_of(ip, 6 if ":" in ip else 4, "fixed_ip") or None
        made.append(
            NicRequest(
                network_id=None if port else network,
                port_id=port,
                fixed_ip=ip,
                tag=first(item.tag, item.tag_early),
            )
        )
    taken = [n.port_id for n in made if n.port_id]
    if len(taken) != len(set(taken)):
        raise BadRequest("Duplicate networks: a port is named twice")
    return made


def _disk(sent: Any) -> NewDisk:
    source = or_none(sent.source_type)
    id = or_none(sent.uuid)
    for kind in ("image", "volume", "snapshot"):
        value = or_none(getattr(sent, f"{kind}_id"))
        if value is not None and source in (None, kind):
            source, id = kind, value
    if source is None:
        raise BadRequest("Block Device Mapping is Invalid: source_type is missing")
    if id is not None and not _is_id(id):
        raise BadRequest(f"Block Device Mapping is Invalid: uuid {id[:64]!r} is not a 'uuid'")
    target: Any = or_none(sent.destination_type) or (
        "volume" if source in ("volume", "snapshot") else "local"
    )
    return NewDisk(
        source=source,
        destination=target,
        source_id=id if source != "blank" else None,
        boot_index=whole(sent.boot_index, "boot_index", least=-1, most=64)
        if present(sent.boot_index)
        else None,
        size=whole(sent.volume_size, "volume_size", least=1) if present(sent.volume_size) else None,
        guest_format=or_none(sent.guest_format),
        delete_on_termination=flag(sent.delete_on_termination, "delete_on_termination"),
        volume_type=or_none(sent.volume_type),
        tag=first(sent.tag, sent.tag_early),
    )


def _old_disk(sent: Any, place: int, image: str | None) -> NewDisk:
    volume, snapshot = or_none(sent.volume_id), or_none(sent.snapshot_id)
    for id in (volume, snapshot):
        if id is not None and not _is_id(id):
            raise BadRequest(f"Block Device Mapping is Invalid: {id[:64]!r} is not a 'uuid'")
    if not volume and not snapshot:
        raise BadRequest("Block Device Mapping is Invalid: give a volume_id or snapshot_id")
    return NewDisk(
        source="volume" if volume else "snapshot",
        destination="volume",
        source_id=volume or snapshot,
        boot_index=0 if place == 0 and image is None else None,
        size=whole(sent.volume_size, "volume_size", least=1)
        if present(sent.volume_size) and sent.volume_size != ""
        else None,
        delete_on_termination=flag(sent.delete_on_termination, "delete_on_termination"),
    )
