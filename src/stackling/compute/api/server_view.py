"""Servers as the API shows them: one struct whose fields know the microversions that have them."""

import hashlib
from typing import Annotated, Any

import sqlalchemy as sa
from falcon import Request
from msgspec import UNSET, field

from stackling.base.clock import bare_micros, zulu
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.microversion import Body, Version, render, since, until, wire
from stackling.base.rest import caller, version
from stackling.compute.actions import scheduling
from stackling.compute.actions.status import POWER, status_of
from stackling.compute.api.body import Unset
from stackling.compute.api.link import Links
from stackling.compute.state import aggregate, block_device, host
from stackling.compute.state.server import State, tags_of
from stackling.network.actions import port as ports
from stackling.network.actions.port import Plug

_PROGRESSES = ("ACTIVE", "BUILD")


class ServerView(Body, kw_only=True):
    id: str
    name: str
    status: str
    tenant_id: str
    user_id: str
    metadata: dict[str, str]
    host_id: str = field(name="hostId")
    image: str | dict[str, str | list[dict[str, str]]]
    flavor_link: Annotated[dict[str, str | list[dict[str, str]]], until("2.46"), wire("flavor")]
    flavor: Annotated[dict[str, int | str | dict[str, str]], since("2.47")]
    created: str | None
    updated: str | None
    addresses: dict[str, list[dict[str, int | str]]]
    access_ip_v4: str = field(name="accessIPv4")
    access_ip_v6: str = field(name="accessIPv6")
    links: list[dict[str, str]]
    disk_config: str = field(name="OS-DCF:diskConfig")
    progress: int | Unset = UNSET
    locked: Annotated[bool, since("2.9")]
    locked_reason: Annotated[str | None, since("2.73")]
    description: Annotated[str | None, since("2.19")]
    tags: Annotated[list[str], since("2.26")]
    trusted_image_certificates: Annotated[list[str] | None, since("2.63")]
    server_groups: Annotated[list[str] | Unset, since("2.71")] = UNSET
    fault: dict[str, str | int | None] | Unset = UNSET
    # from here on: not in the answer of an update below 2.75
    availability_zone: str | Unset = field(name="OS-EXT-AZ:availability_zone", default=UNSET)
    config_drive: str | Unset = UNSET
    key_name: str | Unset | None = UNSET
    launched_at: str | Unset | None = field(name="OS-SRV-USG:launched_at", default=UNSET)
    terminated_at: str | Unset | None = field(name="OS-SRV-USG:terminated_at", default=UNSET)
    security_groups: list[dict[str, str]] | Unset = UNSET
    task_state: str | Unset | None = field(name="OS-EXT-STS:task_state", default=UNSET)
    vm_state: str | Unset = field(name="OS-EXT-STS:vm_state", default=UNSET)
    power_state: int | Unset = field(name="OS-EXT-STS:power_state", default=UNSET)
    volumes_early: Annotated[
        list[dict[str, str | bool]] | Unset, until("2.2"), wire("os-extended-volumes:volumes_attached")
    ] = UNSET
    volumes: Annotated[list[dict[str, str | bool]] | Unset, since("2.3"), wire("os-extended-volumes:volumes_attached")] = UNSET
    host_status: Annotated[str | Unset, since("2.16")] = UNSET
    host: str | Unset | None = field(name="OS-EXT-SRV-ATTR:host", default=UNSET)
    node: str | Unset | None = field(name="OS-EXT-SRV-ATTR:hypervisor_hostname", default=UNSET)
    instance_name: str | Unset = field(name="OS-EXT-SRV-ATTR:instance_name", default=UNSET)
    reservation_id: Annotated[str | Unset, since("2.3"), wire("OS-EXT-SRV-ATTR:reservation_id")] = UNSET
    launch_index: Annotated[int | Unset, since("2.3"), wire("OS-EXT-SRV-ATTR:launch_index")] = UNSET
    hostname: Annotated[str | Unset, since("2.3"), wire("OS-EXT-SRV-ATTR:hostname")] = UNSET
    kernel_id: Annotated[str | Unset, since("2.3"), wire("OS-EXT-SRV-ATTR:kernel_id")] = UNSET
    ramdisk_id: Annotated[str | Unset, since("2.3"), wire("OS-EXT-SRV-ATTR:ramdisk_id")] = UNSET
    root_device_name: Annotated[str | Unset | None, since("2.3"), wire("OS-EXT-SRV-ATTR:root_device_name")] = UNSET
    user_data: Annotated[str | Unset | None, since("2.3"), wire("OS-EXT-SRV-ATTR:user_data")] = UNSET


class Views:
    """Shows many servers of one request with few statements."""

    def __init__(self, req: Request, cloud: Cloud) -> None:
        self.cloud, self.version = cloud, version(req)
        self.links = Links(req, cloud)
        who = caller(req)
        self.who = who
        self.extended = who.can("os_compute_api:os-extended-server-attributes")
        self.with_status = self.version >= Version(2, 16) and who.can("os_compute_api:servers:show:host_status")
        self.with_specs = self.version >= Version(2, 47) and who.can("os_compute_api:servers:show:flavor-extra-specs")
        self.with_details = who.is_admin
        self._hosts: dict[tuple[str, str], str] = {}
        self._flavors: dict[str, dict[str, Any]] = {}

    def brief(self, row: Row) -> dict[str, Any]:
        return {"id": row.id, "name": row.name, "links": self.links.of("servers", row.id)}

    def details(self, tx: Tx, rows: list[Row], *, one: bool = False, whole: bool = True) -> list[dict[str, Any]]:
        """`one`: with what only a shown server has. `whole` False: what an update answers below 2.75."""
        ids = [r.id for r in rows]
        plugs = ports.plugs_of(tx, ids, metadata=False)
        tags = tags_of(tx, ids) if self.version >= Version(2, 26) else {}
        volumes = block_device.volumes_of(tx, ids)
        zones = aggregate.zones(tx, self.cloud.config.compute.availability_zone)
        up = self._host_states(tx) if self.with_status else {}
        return [self._one(r, plugs[r.id], tags.get(r.id, []), volumes.get(r.id, []), zones, up, one, whole) for r in rows]

    def _host_states(self, tx: Tx) -> dict[str, str]:
        made = {}
        for row in tx.execute(sa.select(host.host)):
            word = "DOWN" if row.forced_down else "MAINTENANCE" if row.disabled else "UP" if scheduling.alive(row, self.cloud) else "UNKNOWN"
            made[row.hostname] = word
        return made

    def _one(
        self,
        row: Row,
        plugs: list[Plug],
        tags: list[str],
        volumes: list[Row],
        zones: aggregate.Zones,
        up: dict[str, str],
        one: bool,
        whole: bool,
    ) -> dict[str, Any]:
        status = status_of(row)
        made = ServerView(
            id=row.id,
            name=row.name,
            status=status.status,
            tenant_id=row.project_id,
            user_id=row.user_id,
            metadata=row.meta,
            host_id=self._host_id(row),
            image={"id": row.image_id, "links": self.links.bookmark("images", row.image_id)} if row.image else "",
            flavor_link={"id": row.flavor_id, "links": self.links.bookmark("flavors", row.flavor_id)},
            flavor=self._flavor(row),
            created=zulu(row.created_at),
            updated=zulu(row.updated_at),
            addresses=addresses(plugs),
            access_ip_v4=row.access_ip_v4,
            access_ip_v6=row.access_ip_v6,
            links=self.links.of("servers", row.id),
            disk_config=row.disk_config,
            locked=row.locked_by is not None,
            locked_reason=row.locked_reason,
            description=row.description,
            tags=tags,
            trusted_image_certificates=row.system_meta.get("trusted_certs"),
        )
        if status.status in _PROGRESSES:
            made.progress = 0
        if one:
            made.server_groups = [row.group_id] if row.group_id else []
        if row.fault and (status.status in ("ERROR", "DELETED") or status.task_state == "deleting"):
            made.fault = {"code": row.fault["code"], "created": zulu(row.fault_at), "message": row.fault["message"]}
            if self.with_details and row.fault.get("details"):
                made.fault["details"] = row.fault["details"]
        if whole or self.version >= Version(2, 75):
            self._rest(made, row, plugs, volumes, zones, up, status)
        return dict(render(made, self.version))

    def _rest(
        self, made: ServerView, row: Row, plugs: list[Plug], volumes: list[Row], zones: aggregate.Zones, up: dict[str, str], status: Any
    ) -> None:
        made.availability_zone = zones.of(row.host) if row.host else row.availability_zone or ""
        made.config_drive = "True" if row.config_drive else ""
        made.key_name = row.key_name
        made.launched_at, made.terminated_at = bare_micros(row.launched_at), bare_micros(row.terminated_at)
        if groups := dict.fromkeys(name for p in plugs for name in p.security_group_names):
            made.security_groups = [{"name": name} for name in groups]
        made.task_state, made.vm_state = status.task_state, status.vm_state
        made.power_state = POWER.get(row.power, 0)
        made.volumes_early = [{"id": v.volume_id} for v in volumes]
        made.volumes = [{"id": v.volume_id, "delete_on_termination": v.delete_on_termination} for v in volumes]
        if self.with_status:
            made.host_status = up.get(row.host, "UNKNOWN") if row.host else ""
        if self.extended:
            made.host = made.node = row.host
            made.instance_name = f"instance-{row.id}"
            made.reservation_id, made.launch_index, made.hostname = row.reservation_id, row.launch_index, row.hostname
            made.kernel_id = made.ramdisk_id = ""
            made.root_device_name, made.user_data = f"/dev/{row.root_device}", row.user_data

    def _host_id(self, row: Row) -> str:
        """The same for two servers of a project on one host, and says nothing about the host."""
        if not row.host or row.state == State.DELETED:
            return ""
        key = row.project_id, row.host
        if key not in self._hosts:
            self._hosts[key] = hashlib.sha224(f"{row.project_id}{row.host}".encode()).hexdigest()
        return self._hosts[key]

    def _flavor(self, row: Row) -> dict[str, Any]:
        copy = row.flavor
        made = {"vcpus": copy["vcpus"], "ram": copy["ram"], "disk": copy["disk"], "ephemeral": copy["ephemeral"], "swap": copy["swap"]}
        made["original_name"] = copy["name"]
        if self.with_specs:
            made["extra_specs"] = copy["extra_specs"]
        return made


def addresses(plugs: list[Plug]) -> dict[str, list[dict[str, Any]]]:
    """By network name, in the order in which the ports were attached."""
    made: dict[str, list[dict[str, Any]]] = {}
    for plug in plugs:
        listed = made.setdefault(plug.network_name, [])
        for fixed in plug.fixed_ips:
            for addr, kind in ((fixed.ip_address, "fixed"), *((f, "floating") for f in fixed.floating_ips)):
                version = 6 if ":" in addr else 4
                listed.append({"version": version, "addr": addr, "OS-EXT-IPS:type": kind, "OS-EXT-IPS-MAC:mac_addr": plug.mac_address})
    return made
