"""Attachments (from 3.27 on)."""

from typing import Annotated, Any, Literal

from falcon import Request, Response

from stackling.base import ids
from stackling.base.clock import bare_micros
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict
from stackling.base.microversion import Body, since
from stackling.base.rest import body, caller
from stackling.volume.actions import attachment, search, volume
from stackling.volume.api import listing
from stackling.volume.api.body import action
from stackling.volume.api.version import since as exists_since
from stackling.volume.driver import Backend
from stackling.volume.state.attachment import State

_FILTERS = {
    "id": "id",
    "status": "state",
    "volume_id": "volume_id",
    "instance_id": "server_id",
    "instance_uuid": "server_id",
    "attach_status": "state",
}
_ADMIN_FILTERS = {"project_id": "project_id"}
_SORT_KEYS = {
    "id": "id",
    "status": "state",
    "volume_id": "volume_id",
    "created_at": "created_at",
    "updated_at": "updated_at",
}


class CreateAttachment(Body):
    volume_uuid: str
    instance_uuid: str | None = None
    connector: dict[str, Any] | None = None
    mode: Annotated[Literal["rw", "ro"] | None, since("3.54")] = None


class UpdateAttachment(Body):
    connector: dict[str, Any]


def short(row: Row) -> dict[str, Any]:
    return {"id": row.id, "status": row.state, "instance": row.server_id, "volume_id": row.volume_id}


def full(row: Row, connection: dict[str, Any]) -> dict[str, Any]:
    return {
        **short(row),
        "attached_at": bare_micros(row.attached_at) or "",
        "detached_at": "",
        "attach_mode": row.mode,
        "connection_info": connection,
    }


def _connection(cloud: Cloud, row: Row, host: str | None) -> dict[str, Any]:
    """How whoever connects opens the volume; asks the host, so no transaction may be open."""
    if row.state == State.RESERVED or host is None:
        return {}
    found = cloud.driver(Backend, host).connection(row.volume_id)
    return {
        "driver_volume_type": "local",
        "device_path": found.path,
        "format": found.format,
        "access_mode": row.mode,
        "attachment_id": row.id,
        "volume_id": row.volume_id,
    }


def _text(connector: dict[str, Any], name: str) -> str | None:
    value = connector.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > 255):
        raise BadRequest(f"Invalid input for field/attribute connector.{name}: it must be a short text")
    return value


def _connect(tx: Tx, cloud: Cloud, id: str, connector: dict[str, Any]) -> None:
    attachment.connect(
        tx,
        cloud,
        id,
        host=_text(connector, "host"),
        device=_text(connector, "mountpoint"),
        connector=connector,
    )


class Attachments:
    """/v3/attachments"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def _list(self, req: Request) -> tuple[list[Row], Any, int | None]:
        exists_since(req, 27)
        want = listing.search(req, filters=_FILTERS, admin_filters=_ADMIN_FILTERS, sort_keys=_SORT_KEYS)
        with self.cloud.db.read() as tx:
            rows, count = search.attachments(tx, caller(req), want)
        return rows, want, count

    def on_get(self, req: Request, resp: Response) -> None:
        rows, want, count = self._list(req)
        resp.media = listing.collection(
            req, self.cloud, "attachments", [short(r) for r in rows], rows, want, count
        )

    def on_post(self, req: Request, resp: Response) -> None:
        exists_since(req, 27)
        given = body(req, CreateAttachment, key="attachment")
        if given.instance_uuid is not None and not ids.is_uuid(given.instance_uuid):
            raise BadRequest(
                f"Invalid input for field/attribute instance_uuid: {given.instance_uuid[:64]!r} is not a UUID"
            )
        with self.cloud.db.begin() as tx:
            who = caller(req)
            read_only = given.mode == "ro"
            row = attachment.reserve(
                tx, self.cloud, who, given.volume_uuid, given.instance_uuid, None, read_only, by_compute=False
            )
            if given.connector:
                _connect(tx, self.cloud, row.id, given.connector)
            row = attachment.get(tx, who, row.id)
            host = volume.get(tx, who, row.volume_id).host
        resp.media = {"attachment": full(row, _connection(self.cloud, row, host))}


class AttachmentsDetail(Attachments):
    """/v3/attachments/detail"""

    def on_get(self, req: Request, resp: Response) -> None:
        rows, want, count = self._list(req)
        resp.media = listing.collection(
            req, self.cloud, "attachments", [full(r, {}) for r in rows], rows, want, count
        )


class Attachment:
    """/v3/attachments/{attachment_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, attachment_id: str) -> None:
        exists_since(req, 27)
        with self.cloud.db.read() as tx:
            row = attachment.get(tx, caller(req), attachment_id)
            host = volume.get(tx, caller(req), row.volume_id).host
        resp.media = {"attachment": full(row, _connection(self.cloud, row, host))}

    def on_put(self, req: Request, resp: Response, attachment_id: str) -> None:
        exists_since(req, 27)
        given = body(req, UpdateAttachment, key="attachment")
        if not given.connector:
            raise BadRequest("Invalid input for field/attribute connector: it must not be empty")
        with self.cloud.db.begin() as tx:
            who = caller(req)
            row = attachment.get(tx, who, attachment_id, "volume:attachment_update")
            attachment.forbid_compute(row)
            if row.state not in (State.RESERVED, State.ATTACHING):
                raise Conflict(f"Attachment {attachment_id} is {row.state}: it can't get another connector.")
            _connect(tx, self.cloud, attachment_id, given.connector)
            row = attachment.get(tx, who, attachment_id)
            host = volume.get(tx, who, row.volume_id).host
        resp.media = {"attachment": full(row, _connection(self.cloud, row, host))}

    def on_delete(self, req: Request, resp: Response, attachment_id: str) -> None:
        exists_since(req, 27)
        with self.cloud.db.begin() as tx:
            row = attachment.get(tx, caller(req), attachment_id, "volume:attachment_delete")
            attachment.forbid_compute(row)
            attachment.release(tx, self.cloud, attachment_id)
            left = attachment.of_volumes(tx, [row.volume_id]).get(row.volume_id, [])
        resp.media = {"attachments": [short(r) for r in left]}


class Actions:
    """/v3/attachments/{attachment_id}/action"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_post(self, req: Request, resp: Response, attachment_id: str) -> None:
        exists_since(req, 44)
        name, _ = action(req)
        if name != "os-complete":
            raise BadRequest(f"There is no such action: {name[:64]}")
        with self.cloud.db.begin() as tx:
            row = attachment.get(tx, caller(req), attachment_id, "volume:attachment_complete")
            attachment.complete(tx, self.cloud, attachment_id, host=row.host, device=row.device)
        resp.status = "204 No Content"
