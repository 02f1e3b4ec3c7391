"""Servers as the API shows them. A thousand are shown at once, so their JSON is written directly, without a struct between."""

import hashlib
from typing import Any

import sqlalchemy as sa
from falcon import Request

from stackling.base.clock import bare_micros, zulu
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.microversion import Version
from stackling.base.rest import caller, version
from stackling.base.statement import Statement
from stackling.compute.actions import scheduling
from stackling.compute.actions.status import POWER, Status, status_of
from stackling.compute.api.link import Links
from stackling.compute.state import aggregate, block_device, host
from stackling.compute.state.server import State, server, tags_of
from stackling.network.actions import port as ports
from stackling.network.actions.port import Face

_PROGRESSES = ("ACTIVE", "BUILD")
_NO_FACE = Face({}, [])
_UNSEEN = ("admin_pass", "hints", "key", "requested_host")  # columns that no view shows

Addresses = dict[str, list[dict[str, int | str]]]


class Around:
    """What a page of servers needs besides their rows, by server id."""

    def __init__(self, tx: Tx, views: "Views", rows: list[Row]) -> None:
        ids = [r.id for r in rows]
        self.faces = ports.faces(tx, ids)
        self.volumes = block_device.volumes_of(tx, ids)
        self.tags = tags_of(tx, ids) if views.since(26) else {}
        self.zones = aggregate.zones(tx, views.cloud.config.compute.availability_zone)
        self.host_states = _host_states(tx, views.cloud) if views.with_status else {}


def _host_states(tx: Tx, cloud: Cloud) -> dict[str, str]:
    return {
        r.hostname: "DOWN"
        if r.forced_down
        else "MAINTENANCE"
        if r.disabled
        else "UP"
        if scheduling.alive(r, cloud)
        else "UNKNOWN"
        for r in _HOSTS.all(tx)
    }


_c = host.host.c
_HOSTS = Statement(sa.select(_c.hostname, _c.forced_down, _c.disabled, _c.seen_at))


class Views:
    """Shows the servers of one request: what its microversion has, and what its caller may see."""

    def __init__(self, req: Request, cloud: Cloud) -> None:
        self.cloud, self.version = cloud, version(req)
        self.links = Links(req, cloud)
        who = caller(req)
        self.extended = who.can("os_compute_api:os-extended-server-attributes")
        self.with_status = self.since(16) and who.can("os_compute_api:servers:show:host_status")
        self.with_specs = self.since(47) and who.can("os_compute_api:servers:show:flavor-extra-specs")
        self.with_details = who.is_admin
        self._hosts: dict[tuple[str, str], str] = {}

    def since(self, minor: int) -> bool:
        return self.version >= Version(2, minor)

    def columns(self, *, detail: bool) -> list[sa.Column[Any]]:
        """What a list has to read of each server; JSON that is not shown would be decoded for nothing."""
        if not detail:
            return [server.c.id, server.c.name]
        unseen = [
            *_UNSEEN,
            *([] if self.since(47) else ["flavor"]),
            *([] if self.since(63) else ["system_meta"]),
        ]
        return [c for c in server.c if c.name not in unseen and (c.name != "user_data" or self.extended)]

    def brief(self, row: Row) -> dict[str, Any]:
        return {"id": row.id, "name": row.name, "links": self.links.of("servers", row.id)}

    def details(
        self, tx: Tx, rows: list[Row], *, one: bool = False, whole: bool = True
    ) -> list[dict[str, Any]]:
        """`one`: with what only a shown server has. `whole` False: what an update answers below 2.75."""
        around = Around(tx, self, rows)
        versions = [self.since(minor) for minor in (3, 9, 19, 26, 47, 63, 71, 73)]
        return [self._one(row, around, versions, one, whole or self.since(75)) for row in rows]

    def _one(self, row: Row, around: Around, versions: list[bool], one: bool, whole: bool) -> dict[str, Any]:
        v2_3, v2_9, v2_19, v2_26, v2_47, v2_63, v2_71, v2_73 = versions
        id, status, links = row.id, status_of(row), self.links
        face = around.faces.get(id, _NO_FACE)
        made = {
            "id": id,
            "name": row.name,
            "status": status.status,
            "tenant_id": row.project_id,
            "user_id": row.user_id,
            "metadata": row.meta,
            "hostId": self._host_id(row),
            "image": links.reference("images", row.image_id) if row.image else "",
            "flavor": self._flavor(row.flavor) if v2_47 else links.reference("flavors", row.flavor_id),
            "created": zulu(row.created_at),
            "updated": zulu(row.updated_at),
            "addresses": addresses(face),
            "accessIPv4": row.access_ip_v4,
            "accessIPv6": row.access_ip_v6,
            "links": links.of("servers", id),
            "OS-DCF:diskConfig": row.disk_config,
        }
        if status.status in _PROGRESSES:
            made["progress"] = 0
        if v2_9:
            made["locked"] = row.locked_by is not None
        if v2_19:
            made["description"] = row.description
        if v2_26:
            made["tags"] = around.tags.get(id, [])
        if v2_63:
            made["trusted_image_certificates"] = row.system_meta.get("trusted_certs")
        if v2_71 and one:
            made["server_groups"] = [row.group_id] if row.group_id else []
        if v2_73:
            made["locked_reason"] = row.locked_reason
        if row.fault and (status.status in ("ERROR", "DELETED") or status.task_state == "deleting"):
            made["fault"] = {
                "code": row.fault["code"],
                "created": zulu(row.fault_at),
                "message": row.fault["message"],
            }
            if self.with_details and row.fault.get("details"):
                made["fault"]["details"] = row.fault["details"]
        if whole:
            self._whole(made, row, around, face, status, v2_3)
        return made

    def _whole(
        self, made: dict[str, Any], row: Row, around: Around, face: Face, status: Status, v2_3: bool
    ) -> None:
        """What stands in every view of a server but the answer to an update below 2.75."""
        made["OS-EXT-AZ:availability_zone"] = (
            around.zones.of(row.host) if row.host else row.availability_zone or ""
        )
        made["config_drive"] = "True" if row.config_drive else ""
        made["key_name"] = row.key_name
        made["OS-SRV-USG:launched_at"] = bare_micros(row.launched_at)
        made["OS-SRV-USG:terminated_at"] = bare_micros(row.terminated_at)
        if face.security_groups:
            made["security_groups"] = [{"name": name} for name in face.security_groups]
        made["OS-EXT-STS:task_state"], made["OS-EXT-STS:vm_state"] = status.task_state, status.vm_state
        made["OS-EXT-STS:power_state"] = POWER.get(row.power, 0)
        made["os-extended-volumes:volumes_attached"] = [
            {"id": v.volume_id, "delete_on_termination": v.delete_on_termination}
            if v2_3
            else {"id": v.volume_id}
            for v in around.volumes.get(row.id, ())
        ]
        if self.with_status:
            made["host_status"] = around.host_states.get(row.host, "UNKNOWN") if row.host else ""
        if self.extended:
            self._extended(made, row, v2_3)
        elif self.since(90):
            made["OS-EXT-SRV-ATTR:hostname"] = row.hostname

    def _extended(self, made: dict[str, Any], row: Row, v2_3: bool) -> None:
        made["OS-EXT-SRV-ATTR:host"] = made["OS-EXT-SRV-ATTR:hypervisor_hostname"] = row.host
        made["OS-EXT-SRV-ATTR:instance_name"] = f"instance-{row.id}"
        if v2_3:
            made["OS-EXT-SRV-ATTR:reservation_id"] = row.reservation_id
            made["OS-EXT-SRV-ATTR:launch_index"] = row.launch_index
            made["OS-EXT-SRV-ATTR:hostname"] = row.hostname
            made["OS-EXT-SRV-ATTR:kernel_id"] = made["OS-EXT-SRV-ATTR:ramdisk_id"] = ""
            made["OS-EXT-SRV-ATTR:root_device_name"] = f"/dev/{row.root_device}"
            made["OS-EXT-SRV-ATTR:user_data"] = row.user_data

    def _host_id(self, row: Row) -> str:
        """The same for two servers of a project on one host, and says nothing about the host."""
        if not row.host or row.state == State.DELETED:
            return ""
        key = row.project_id, row.host
        if key not in self._hosts:
            self._hosts[key] = hashlib.sha224(f"{row.project_id}{row.host}".encode()).hexdigest()
        return self._hosts[key]

    def _flavor(self, copy: dict[str, Any]) -> dict[str, Any]:
        made = {
            "vcpus": copy["vcpus"],
            "ram": copy["ram"],
            "disk": copy["disk"],
            "ephemeral": copy["ephemeral"],
            "swap": copy["swap"],
        }
        made["original_name"] = copy["name"]
        if self.with_specs:
            made["extra_specs"] = copy["extra_specs"]
        return made


def addresses(face: Face) -> Addresses:
    """By network name, in the order in which the ports were attached."""
    return {
        name: [
            {
                "version": 6 if ":" in ip else 4,
                "addr": ip,
                "OS-EXT-IPS:type": kind,
                "OS-EXT-IPS-MAC:mac_addr": mac,
            }
            for ip, kind, mac in listed
        ]
        for name, listed in face.addresses.items()
    }
