"""What is done to a volume by name: POST /v3/volumes/{id}/action."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from falcon import Request, Response
from msgspec import UNSET, Meta, UnsetType

from stackling.base import ids
from stackling.base.clock import bare_micros
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest
from stackling.base.microversion import Body, Version, since
from stackling.base.rest import caller, convert, version
from stackling.volume.actions import attachment, volume, volume_metadata, volume_type
from stackling.volume.api.body import Items, Key, Lenient, Name, action, flag, gib
from stackling.volume.driver import Backend
from stackling.volume.state.attachment import State as AttachmentState
from stackling.volume.state.volume import State


class Extend(Body):
    new_size: int | str


class Attach(Body):
    instance_uuid: str | None = None
    host_name: Name | None = None
    mountpoint: Name | None = None
    mode: str = "rw"


class Detach(Body):
    attachment_id: str | None = None
    connector: dict[str, Any] | None = None


class Connector(Body):
    connector: dict[str, Any]


class Bootable(Body):
    bootable: Lenient


class ReadOnly(Body):
    readonly: Lenient


class Reset(Body):
    status: str | UnsetType | None = UNSET
    attach_status: str | UnsetType | None = UNSET
    migration_status: str | UnsetType | None = UNSET


class ImageMetadata(Body):
    metadata: Items


class ImageMetadataKey(Body):
    key: Key


class Retype(Body):
    new_type: Name
    migration_policy: str | None = None


class Upload(Body):
    image_name: Annotated[str, Meta(min_length=1, max_length=255)]
    force: Lenient = False
    disk_format: Name = "raw"
    container_format: Name = "bare"
    visibility: Annotated[Literal["private", "public", "shared", "community"] | UnsetType, since("3.1")] = (
        UNSET
    )
    protected: Annotated[Lenient | UnsetType, since("3.1")] = UNSET


Handler = Callable[["Actions", Tx, Request, Caller, str, Any], Any]


class Actions:
    """/v3/volumes/{volume_id}/action"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_post(self, req: Request, resp: Response, volume_id: str) -> None:
        name, arguments = action(req)
        if name not in _KNOWN:
            raise BadRequest(f"There is no such action: {name[:64]}")
        status, handle = _KNOWN[name]
        after = None
        with self.cloud.db.begin() as tx:
            made = handle(self, tx, req, caller(req), volume_id, arguments)
            if callable(made):
                after, made = made, None
        # What asks a host waits until the transaction is over.
        made = after() if after else made
        resp.status = status
        if made is not None:
            resp.media = made

    def extend(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> None:
        size = gib(convert(given, Extend).new_size, "new_size")
        volume.extend(tx, self.cloud, who, id, size, attached=version(req) >= Version(3, 42))

    def attach(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> None:
        """Note that a server has the volume; the server itself isn't touched (upstream's old way for compute)."""
        want = convert(given, Attach)
        row = volume.get(tx, who, id, "volume_extension:volume_actions:attach")
        if want.instance_uuid is None and want.host_name is None:
            raise BadRequest(
                "Invalid request to attach volume to an instance and/or host: instance_uuid or host_name is needed"
            )
        if want.instance_uuid is not None and not ids.is_uuid(want.instance_uuid):
            raise BadRequest(
                f"Invalid input for field/attribute instance_uuid: {want.instance_uuid[:64]!r} is not a UUID"
            )
        if want.mode not in ("rw", "ro"):
            raise BadRequest(
                f"Invalid input for field/attribute mode: {want.mode[:64]!r} is neither rw nor ro"
            )
        if want.mode == "rw" and row.readonly:
            raise BadRequest(f"Volume {id} is read-only: attach it with mode ro")
        reserved = attachment.of_volumes(tx, [id]).get(id, [])
        waiting = next((a for a in reserved if _waits(a)), None)
        if waiting is not None:
            attachment.release(tx, self.cloud, waiting.id)
        made = attachment.reserve(
            tx, self.cloud, who, id, want.instance_uuid, want.mountpoint, want.mode == "ro", by_compute=False
        )
        attachment.complete(tx, self.cloud, made.id, host=want.host_name, device=want.mountpoint)

    def detach(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> None:
        want = convert(given or {}, Detach)
        row = volume.get(tx, who, id, "volume_extension:volume_actions:detach")
        self._detach(tx, row, want.attachment_id)

    def force_detach(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> None:
        want = convert(given or {}, Detach)
        row = volume.get(tx, who, id, "volume_extension:volume_admin_actions:force_detach")
        self._detach(tx, row, want.attachment_id)
        volume.recover(tx, self.cloud, id)

    def _detach(self, tx: Tx, row: Row, attachment_id: str | None) -> None:
        held = [
            a for a in attachment.of_volumes(tx, [row.id]).get(row.id, []) if attachment_id in (None, a.id)
        ]
        free = (State.AVAILABLE, State.IN_USE, State.DETACHING)
        if not held and (attachment_id is not None or row.state not in free):
            raise BadRequest(f"Invalid volume: volume {row.id} is not attached, its status is {row.state}.")
        if len(held) > 1:
            raise BadRequest("Volume has more than one attachment: name one by attachment_id.")
        for each in held:
            attachment.forbid_compute(each)
            attachment.release(tx, self.cloud, each.id)
        if not held:
            attachment.settle(tx, self.cloud, row.id)

    def reserve(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> None:
        volume.get(tx, who, id, "volume_extension:volume_actions:reserve")
        held = attachment.reserve(tx, self.cloud, who, id, None, by_compute=False)
        attachment.connect(tx, self.cloud, held.id, host=None, device=None)  # upstream says attaching here

    def unreserve(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> None:
        volume.get(tx, who, id, "volume_extension:volume_actions:unreserve")
        for each in attachment.of_volumes(tx, [id]).get(id, []):
            if _waits(each):
                attachment.release(tx, self.cloud, each.id)
                return

    def begin_detaching(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> None:
        row = volume.get(tx, who, id, "volume_extension:volume_actions:begin_detaching")
        held = [a for a in attachment.of_volumes(tx, [id]).get(id, []) if a.state == AttachmentState.ATTACHED]
        if not held:
            raise BadRequest(
                f"Invalid volume: Unable to detach volume. Volume status must be 'in-use', but it is {row.state}."
            )
        attachment.begin_detach(tx, self.cloud, who, held[0].id)

    def roll_detaching(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> None:
        volume.get(tx, who, id, "volume_extension:volume_actions:roll_detaching")
        for each in attachment.of_volumes(tx, [id]).get(id, []):
            attachment.roll_detaching(tx, self.cloud, each.id)

    def initialize(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> Callable[[], Any]:
        convert(given, Connector)
        row = volume.get(tx, who, id, "volume_extension:volume_actions:initialize_connection")
        if row.host is None:
            raise BadRequest(f"Invalid volume: volume {id} is not on a host yet, its status is {row.state}.")

        def ask() -> Any:
            found = self.cloud.driver(Backend, row.host).connection(id)
            data = {
                "device_path": found.path,
                "format": found.format,
                "access_mode": "ro" if row.readonly else "rw",
            }
            return {"connection_info": {"driver_volume_type": "local", "data": data}}

        return ask

    def terminate(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> None:
        convert(given, Connector)
        volume.get(tx, who, id, "volume_extension:volume_actions:terminate_connection")
        for each in attachment.of_volumes(tx, [id]).get(id, []):
            attachment.forbid_compute(each)

    def set_bootable(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> None:
        volume.set_bootable(tx, self.cloud, who, id, flag(convert(given, Bootable).bootable, "bootable"))

    def set_readonly(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> None:
        volume.set_readonly(tx, self.cloud, who, id, flag(convert(given, ReadOnly).readonly, "readonly"))

    def reset(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> None:
        want = convert(given, Reset)
        if want.status is UNSET and want.attach_status is UNSET and want.migration_status is UNSET:
            raise BadRequest(
                "Invalid input for field/attribute os-reset_status: 'status', 'attach_status' or 'migration_status' is a required property"
            )
        state = None
        if want.status not in (UNSET, None):
            if str(want.status) not in list(State):
                raise BadRequest(
                    f"Invalid input for field/attribute status: {str(want.status)[:64]!r} is none of {', '.join(State)}"
                )
            state = State(str(want.status))
        if want.attach_status not in (UNSET, None, "attached", "detached"):
            raise BadRequest("Invalid input for field/attribute attach_status: it is attached or detached")
        volume.reset(tx, self.cloud, who, id, state, detached=want.attach_status == "detached")

    def force_delete(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> None:
        volume.delete(tx, self.cloud, who, id, force=True)

    def retype(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> None:
        volume.retype(tx, self.cloud, who, id, convert(given, Retype).new_type)

    def upload(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> Any:
        want = convert(given, Upload, version=version(req))
        row, image = volume.upload(
            tx,
            self.cloud,
            who,
            id,
            volume.NewCopy(
                name=want.image_name,
                disk_format=want.disk_format,
                container_format=want.container_format,
                visibility="private" if want.visibility is UNSET else want.visibility,
                protected=want.protected is not UNSET and flag(want.protected, "protected"),
                force=flag(want.force, "force"),
            ),
        )
        kind = volume_type.names(tx, [row.volume_type_id]).get(row.volume_type_id)
        made = {
            "id": row.id,
            "updated_at": bare_micros(row.updated_at),
            "status": row.state,
            "display_description": row.description,
            "size": row.size,
            "volume_type": {"id": row.volume_type_id, "name": kind},
            "image_id": image.id,
            "container_format": image.container_format,
            "disk_format": image.disk_format,
            "image_name": image.name,
        }
        if version(req) >= Version(3, 1):
            made |= {"visibility": image.visibility, "protected": image.protected}
        return {"os-volume_upload_image": made}

    def set_image_metadata(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> Any:
        return {
            "metadata": volume_metadata.set_image_metadata(
                tx, self.cloud, who, id, convert(given, ImageMetadata).metadata
            )
        }

    def unset_image_metadata(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> None:
        volume_metadata.remove_image_metadata(tx, self.cloud, who, id, convert(given, ImageMetadataKey).key)

    def show_image_metadata(self, tx: Tx, req: Request, who: Caller, id: str, given: Any) -> Any:
        return {"metadata": volume_metadata.image_metadata(tx, who, id)}


def _waits(row: Row) -> bool:
    """Whether it was reserved for a server that is not named yet."""
    return row.server_id is None and row.state in (AttachmentState.RESERVED, AttachmentState.ATTACHING)


_ACCEPTED, _OK = "202 Accepted", "200 OK"
_KNOWN: dict[str, tuple[str, Handler]] = {
    "os-extend": (_ACCEPTED, Actions.extend),
    "os-attach": (_ACCEPTED, Actions.attach),
    "os-detach": (_ACCEPTED, Actions.detach),
    "os-force_detach": (_ACCEPTED, Actions.force_detach),
    "os-reserve": (_ACCEPTED, Actions.reserve),
    "os-unreserve": (_ACCEPTED, Actions.unreserve),
    "os-begin_detaching": (_ACCEPTED, Actions.begin_detaching),
    "os-roll_detaching": (_ACCEPTED, Actions.roll_detaching),
    "os-initialize_connection": (_OK, Actions.initialize),
    "os-terminate_connection": (_ACCEPTED, Actions.terminate),
    "os-set_bootable": (_OK, Actions.set_bootable),
    "os-update_readonly_flag": (_ACCEPTED, Actions.set_readonly),
    "os-reset_status": (_ACCEPTED, Actions.reset),
    "os-force_delete": (_ACCEPTED, Actions.force_delete),
    "os-retype": (_ACCEPTED, Actions.retype),
    "os-volume_upload_image": (_ACCEPTED, Actions.upload),
    "os-set_image_metadata": (_OK, Actions.set_image_metadata),
    "os-unset_image_metadata": (_OK, Actions.unset_image_metadata),
    "os-show_image_metadata": (_OK, Actions.show_image_metadata),
}
