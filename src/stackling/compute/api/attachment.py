"""What hangs on a server: interfaces and volumes."""

from typing import Annotated, Any

from falcon import Request, Response
from msgspec import UNSET, Meta, field

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import BadRequest, Unsupported
from stackling.base.microversion import Body, Version, render, until, wire
from stackling.base.microversion import since as from_version
from stackling.base.rest import body, caller, integer, one_param, version, view
from stackling.compute.actions import interface, volume_attachment
from stackling.compute.api.body import DeviceTag, Flag, Id, Unset, address_of, first, flag, or_none
from stackling.compute.api.link import MOST
from stackling.compute.api.version import since
from stackling.compute.state import nic
from stackling.network.actions.port import Plug


class FixedIp(Body, kw_only=True):
    ip_address: str


class AttachInterface(Body, kw_only=True):
    net_id: Id | Unset = UNSET
    port_id: Id | Unset = UNSET
    fixed_ips: Annotated[list[FixedIp], Meta(min_length=1, max_length=1)] | Unset = UNSET
    tag: Annotated[DeviceTag | Unset, from_version("2.49")] = UNSET


class AttachVolume(Body, kw_only=True):
    volume_id: Id = field(name="volumeId")
    device: Annotated[str, Meta(min_length=1, max_length=255)] | Unset | None = UNSET
    tag: Annotated[DeviceTag | Unset, from_version("2.49")] = UNSET
    delete_on_termination: Annotated[Flag | Unset, from_version("2.79")] = UNSET


class UpdateVolume(Body, kw_only=True):
    """Until 2.84 all that can be asked for is another volume in place of this one."""

    volume_id: Id = field(name="volumeId")
    id: Annotated[Id | Unset, from_version("2.85")] = UNSET
    server_id: Annotated[Id | Unset, from_version("2.85"), wire("serverId")] = UNSET
    device: Annotated[
        Annotated[str, Meta(min_length=1, max_length=255)] | Unset | None, from_version("2.85")
    ] = UNSET
    tag: Annotated[DeviceTag | Unset, from_version("2.85")] = UNSET
    delete_on_termination: Annotated[Flag | Unset, from_version("2.85")] = UNSET


class InterfaceView(Body, kw_only=True):
    net_id: str
    port_id: str
    mac_addr: str
    port_state: str
    fixed_ips: list[dict[str, str]]
    tag: Annotated[str | None, from_version("2.70")] = None


class VolumeView(Body, kw_only=True):
    id: Annotated[str, until("2.88")]
    attachment_id: Annotated[str | None, from_version("2.89")]
    bdm_uuid: Annotated[str, from_version("2.89")]
    server_id: str = field(name="serverId")
    volume_id: str = field(name="volumeId")
    device: str
    tag: Annotated[str | None, from_version("2.70")] = None
    delete_on_termination: Annotated[bool, from_version("2.79")] = False


class _Room:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud


def _interface(req: Request, plug: Plug, tag: str | None) -> dict[str, Any]:
    made = InterfaceView(
        net_id=plug.network_id,
        port_id=plug.port_id,
        mac_addr=plug.mac_address,
        port_state=plug.status,
        fixed_ips=[{"ip_address": f.ip_address, "subnet_id": f.subnet_id} for f in plug.fixed_ips],
        tag=tag,
    )
    return dict(view(req, made))


class Interfaces(_Room):
    """/servers/{server_id}/os-interface"""

    def on_get(self, req: Request, resp: Response, server_id: str) -> None:
        with self.cloud.db.read() as tx:
            found = interface.of(tx, caller(req), server_id, "os_compute_api:os-attach-interfaces:list")
            tags = {id: n.tag for id, n in nic.of(tx, server_id).items()}
        resp.media = {"interfaceAttachments": [_interface(req, p, tags.get(p.port_id)) for p in found]}

    def on_post(self, req: Request, resp: Response, server_id: str) -> None:
        want = body(req, AttachInterface, key="interfaceAttachment")
        network, port = or_none(want.net_id), or_none(want.port_id)
        ip = want.fixed_ips[0].ip_address if want.fixed_ips is not UNSET else None
        if network and port:
            raise BadRequest("Must not input both network_id and port_id")
        if ip and not network:
            raise BadRequest("Must input network_id when request IP address")
        if ip:
            ip = address_of(ip, 6 if ":" in ip else 4, "ip_address")
        with self.cloud.db.begin() as tx:
            made = interface.create(
                tx,
                self.cloud,
                caller(req),
                server_id,
                network_id=network,
                port_id=port,
                fixed_ip=ip,
                tag=or_none(want.tag),
            )
        resp.media = {"interfaceAttachment": _interface(req, made, or_none(want.tag))}


class Interface(_Room):
    """/servers/{server_id}/os-interface/{port_id}"""

    def on_get(self, req: Request, resp: Response, server_id: str, port_id: str) -> None:
        with self.cloud.db.read() as tx:
            found = interface.get(
                tx, caller(req), server_id, port_id, "os_compute_api:os-attach-interfaces:show"
            )
            known = nic.of(tx, server_id).get(port_id)
        resp.media = {"interfaceAttachment": _interface(req, found, known.tag if known else None)}

    def on_delete(self, req: Request, resp: Response, server_id: str, port_id: str) -> None:
        with self.cloud.db.begin() as tx:
            interface.delete(tx, self.cloud, caller(req), server_id, port_id)
        resp.status = 202


def _volume(row: Row, at: Version) -> dict[str, Any]:
    made = VolumeView(
        id=row.volume_id,
        attachment_id=row.attachment_id,
        bdm_uuid=row.id,
        server_id=row.server_id,
        volume_id=row.volume_id,
        device=f"/dev/{row.device}",
        tag=row.tag,
        delete_on_termination=row.delete_on_termination,
    )
    return dict(render(made, at))


class VolumeAttachments(_Room):
    """/servers/{server_id}/os-volume_attachments"""

    def on_get(self, req: Request, resp: Response, server_id: str) -> None:
        with self.cloud.db.read() as tx:
            found = volume_attachment.of(
                tx, caller(req), server_id, "os_compute_api:os-volumes-attachments:index"
            )
        offset = integer(one_param(req, "offset") or "0", "offset")
        limit = min(integer(one_param(req, "limit") or str(MOST), "limit", most=2**62), MOST)
        resp.media = {"volumeAttachments": [_volume(r, version(req)) for r in found[offset : offset + limit]]}

    def on_post(self, req: Request, resp: Response, server_id: str) -> None:
        want = body(req, AttachVolume, key="volumeAttachment")
        with self.cloud.db.begin() as tx:
            row = volume_attachment.create(
                tx,
                self.cloud,
                caller(req),
                server_id,
                want.volume_id,
                tag=first(want.tag),
                delete_on_termination=flag(want.delete_on_termination, "delete_on_termination"),
            )
        # 2.89 changed what is shown, not this answer.
        resp.media = {"volumeAttachment": _volume(row, min(version(req), Version(2, 88)))}


class VolumeAttachment(_Room):
    """/servers/{server_id}/os-volume_attachments/{volume_id}"""

    def on_get(self, req: Request, resp: Response, server_id: str, volume_id: str) -> None:
        with self.cloud.db.read() as tx:
            row = volume_attachment.get(
                tx, caller(req), server_id, volume_id, "os_compute_api:os-volumes-attachments:show"
            )
        resp.media = {"volumeAttachment": _volume(row, version(req))}

    def on_put(self, req: Request, resp: Response, server_id: str, volume_id: str) -> None:
        """Another volume in place of this one, under a running guest, is not offered yet."""
        rule = "os_compute_api:os-volumes-attachments:swap"
        if not since(req, "2.85"):
            caller(req).may(rule)
        want = body(req, UpdateVolume, key="volumeAttachment")
        if not since(req, "2.85") or want.volume_id != volume_id:
            caller(req).may(rule)
            with self.cloud.db.read() as tx:
                volume_attachment.get(tx, caller(req), server_id, volume_id, rule)
            raise Unsupported(
                "This cloud does not offer to swap attached volumes yet; detach one and attach the other."
            )
        gone = want.delete_on_termination
        with self.cloud.db.begin() as tx:
            row = volume_attachment.update(
                tx,
                caller(req),
                server_id,
                volume_id,
                None if gone is UNSET else flag(gone, "delete_on_termination"),
            )
            for name, sent, has in (
                ("id", want.id, row.volume_id),
                ("serverId", want.server_id, row.server_id),
                ("device", want.device, f"/dev/{row.device}"),
                ("tag", want.tag, row.tag),
            ):
                if sent is not UNSET and sent != has:
                    raise BadRequest(f"The {name} property is not mutable")
        resp.status = 202

    def on_delete(self, req: Request, resp: Response, server_id: str, volume_id: str) -> None:
        with self.cloud.db.begin() as tx:
            volume_attachment.delete(tx, self.cloud, caller(req), server_id, volume_id)
        resp.status = 202
