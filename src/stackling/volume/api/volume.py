"""Volumes: bodies and views."""

from collections.abc import Sequence
from typing import Annotated, Any

from falcon import Request, Response
from msgspec import UNSET, Struct, UnsetType

from stackling.base.clock import bare_micros
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest
from stackling.base.microversion import Body, Version, since
from stackling.base.rest import boolean, caller, one_param, version, view
from stackling.volume.actions import attachment, search, service, volume, volume_metadata, volume_type
from stackling.volume.api import listing
from stackling.volume.api.body import Items, Lenient, Name, flag, gib, loose
from stackling.volume.state.attachment import State as AttachmentState

_FILTERS = {
    "id": "id",
    "name": "name",
    "display_name": "name",
    "status": "state",
    "bootable": "bootable",
    "availability_zone": "availability_zone",
    "multiattach": "multiattach",
    "size": "size",
    "snapshot_id": "snapshot_id",
    "source_volid": "source_volid",
    "metadata": "",
    "glance_metadata": "",
}
_ADMIN_FILTERS = {"project_id": "project_id", "tenant_id": "project_id", "user_id": "user_id", "host": "host"}
_SORT_KEYS = {
    "id": "id",
    "name": "name",
    "display_name": "name",
    "status": "state",
    "size": "size",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "bootable": "bootable",
    "host": "host",
    "availability_zone": "availability_zone",
}


class CreateVolume(Body):
    size: int | str | None = None
    name: Name | None = None
    description: Name | None = None
    display_name: Name | None = None
    display_description: Name | None = None
    volume_type: Name | None = None
    availability_zone: Name | None = None
    imageRef: Name | None = None
    image_id: Name | None = None
    snapshot_id: Name | None = None
    source_volid: Name | None = None
    metadata: Items | None = None
    multiattach: Lenient | None = None
    consistencygroup_id: str | None = None
    group_id: Annotated[str | None, since("3.13")] = None
    backup_id: Annotated[str | None, since("3.47")] = None


class Hints(Struct):
    same_host: list[str] | str = []
    different_host: list[str] | str = []
    local_to_instance: str | None = None


class UpdateVolume(Body):
    name: Name | UnsetType | None = UNSET
    description: Name | UnsetType | None = UNSET
    display_name: Name | UnsetType | None = UNSET
    display_description: Name | UnsetType | None = UNSET
    metadata: Items | UnsetType | None = UNSET


class VolumeView(Body):
    """A volume. Fields whose names hold colons stand in `extended`."""

    id: str
    name: str | None
    description: str | None
    status: str
    size: int
    created_at: str | None
    updated_at: str | None
    availability_zone: str
    volume_type: str | None
    attachments: list[dict[str, Any]]
    metadata: dict[str, str]
    links: list[dict[str, str]]
    bootable: str
    user_id: str
    snapshot_id: str | None
    source_volid: str | None
    multiattach: bool
    encrypted: bool = False
    replication_status: str | None = None
    consistencygroup_id: str | None = None
    migration_status: str | None = None
    group_id: Annotated[str | None, since("3.13")] = None
    provider_id: Annotated[str | UnsetType | None, since("3.21")] = UNSET
    shared_targets: Annotated[bool, since("3.48")] = False
    service_uuid: Annotated[str | None, since("3.48")] = None


def shown(
    tx: Tx, req: Request, cloud: Cloud, rows: Sequence[Row], *, extended: bool = True
) -> list[dict[str, Any]]:
    """Many volumes in detail, with a fixed number of statements. `extended`: with the attributes of extensions."""
    who = caller(req)
    found = [r.id for r in rows]
    metadata, held = volume_metadata.metadata_of(tx, found), attachment.of_volumes(tx, found)
    images = volume_metadata.image_metadata_of(tx, found) if extended else {}
    names = volume_type.names(tx, (r.volume_type_id for r in rows))
    made = []
    for row in rows:
        one = view(
            req,
            _view(
                req,
                cloud,
                who,
                row,
                metadata.get(row.id, {}),
                held.get(row.id, []),
                names.get(row.volume_type_id),
            ),
        )
        if extended:
            one |= _extended(who, row)
            if row.id in images and who.can(
                "volume_extension:volume_image_metadata:show", volume.target(row)
            ):
                one["volume_image_metadata"] = images[row.id]
        made.append(one)
    return made


def _view(
    req: Request,
    cloud: Cloud,
    who: Caller,
    row: Row,
    metadata: dict[str, str],
    held: list[Row],
    kind: str | None,
) -> VolumeView:
    return VolumeView(
        id=row.id,
        name=row.name,
        description=row.description,
        status=row.state,
        size=row.size,
        created_at=bare_micros(row.created_at),
        updated_at=bare_micros(row.updated_at),
        availability_zone=row.availability_zone,
        volume_type=kind,
        attachments=[
            _attachment(who, a)
            for a in held
            if a.state in (AttachmentState.ATTACHED, AttachmentState.DETACHING)
        ],
        metadata={**metadata, **({} if row.readonly is None else {"readonly": str(row.readonly)})},
        links=listing.links(req, cloud, "volumes", row.id),
        bootable="true" if row.bootable else "false",
        user_id=row.user_id,
        snapshot_id=row.snapshot_id,
        source_volid=row.source_volid,
        multiattach=row.multiattach,
        provider_id=None if who.is_admin else UNSET,
    )


def _attachment(who: Caller, row: Row) -> dict[str, Any]:
    return {
        "id": row.volume_id,
        "attachment_id": row.id,
        "volume_id": row.volume_id,
        "server_id": row.server_id,
        "host_name": row.host if who.is_admin else None,
        "device": row.device,
        "attached_at": bare_micros(row.attached_at),
    }


def _extended(who: Caller, row: Row) -> dict[str, Any]:
    made: dict[str, Any] = {}
    aim = volume.target(row)
    if who.can("volume_extension:volume_tenant_attribute", aim):
        made["os-vol-tenant-attr:tenant_id"] = row.project_id
    if who.can("volume_extension:volume_host_attribute", aim):
        made["os-vol-host-attr:host"] = pool(row.host)
    if who.can("volume_extension:volume_mig_status_attribute", aim):
        made |= {"os-vol-mig-status-attr:migstat": None, "os-vol-mig-status-attr:name_id": None}
    return made


def pool(host: str | None) -> str | None:
    """A host's backend as this API writes it: host@backend#pool."""
    return None if host is None else f"{host}@{service.BACKEND}#{service.BACKEND}"


def _search(req: Request) -> search.Search:
    want = listing.search(
        req,
        filters=_FILTERS,
        admin_filters=_ADMIN_FILTERS,
        sort_keys=_SORT_KEYS,
        like=("name", "display_name", "status"),
    )
    if "host" in want.equal:
        want.equal["host"] = [str(h).partition("@")[0] for h in want.equal["host"]]
    return want


class Volumes:
    """/v3/volumes"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        want = _search(req)
        with self.cloud.db.read() as tx:
            rows, count = search.volumes(tx, caller(req), want)
        made = [
            {"id": r.id, "name": r.name, "links": listing.links(req, self.cloud, "volumes", r.id)}
            for r in rows
        ]
        resp.media = listing.collection(req, self.cloud, "volumes", made, rows, want, count)

    def on_post(self, req: Request, resp: Response) -> None:
        given, beside = loose(req, CreateVolume, "volume", strict_from=Version(3, 53))
        for absent in ("backup_id", "group_id", "consistencygroup_id"):
            if getattr(given, absent) not in (None, UNSET):
                raise BadRequest(
                    f"Invalid input for field/attribute {absent}: volumes are made here from images, snapshots and volumes"
                )
        if given.multiattach is not None and flag(given.multiattach, "multiattach"):
            raise BadRequest(
                "Invalid input for field/attribute multiattach: it comes with a volume type whose extra spec multiattach is '<is> True'"
            )
        hints = _hints(beside)
        want = volume.NewVolume(
            size=None if given.size is None else gib(given.size, "size"),
            name=given.name if given.name is not None else given.display_name,
            description=given.description if given.description is not None else given.display_description,
            volume_type=given.volume_type or None,
            availability_zone=given.availability_zone or None,
            image_id=given.imageRef or given.image_id or None,
            snapshot_id=given.snapshot_id or None,
            source_volid=given.source_volid or None,
            metadata=given.metadata or {},
            near=_ids(hints.same_host),
            far=_ids(hints.different_host),
        )
        with self.cloud.db.begin() as tx:
            row = volume.create(tx, self.cloud, caller(req), want)
            made = shown(tx, req, self.cloud, [row], extended=False)[0]
        resp.status, resp.media = "202 Accepted", {"volume": made}


def _hints(beside: dict[str, Any]) -> Hints:
    given: Any = beside.get("OS-SCH-HNT:scheduler_hints") or beside.get("scheduler_hints") or {}
    if not isinstance(given, dict):
        raise BadRequest("Invalid input for field/attribute OS-SCH-HNT:scheduler_hints: it must be an object")
    return Hints(same_host=given.get("same_host") or [], different_host=given.get("different_host") or [])


def _ids(given: list[str] | str) -> list[str]:
    found = given.split(",") if isinstance(given, str) else given
    if (
        not isinstance(found, list)
        or not all(isinstance(f, str) and len(f) <= 36 for f in found)
        or len(found) > 100
    ):
        raise BadRequest(
            "Invalid input for field/attribute OS-SCH-HNT:scheduler_hints: volumes are named by their ids"
        )
    return [f.strip() for f in found]


class VolumesDetail:
    """/v3/volumes/detail"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        want = _search(req)
        with self.cloud.db.read() as tx:
            rows, count = search.volumes(tx, caller(req), want)
            made = shown(tx, req, self.cloud, rows)
        resp.media = listing.collection(req, self.cloud, "volumes", made, rows, want, count)


class Summary:
    """/v3/volumes/summary"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        if version(req) < Version(3, 12):
            Volume(self.cloud).on_get(req, resp, "summary")
            return
        who = caller(req)
        everybody = who.is_admin and boolean(one_param(req, "all_tenants") or "0", "all_tenants")
        with self.cloud.db.read() as tx:
            count, size, metadata = search.summary(tx, who, all_tenants=everybody)
        made: dict[str, Any] = {"total_count": count, "total_size": size}
        if version(req) >= Version(3, 36):
            made["metadata"] = metadata
        resp.media = {"volume-summary": made}


class Volume:
    """/v3/volumes/{volume_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, volume_id: str) -> None:
        with self.cloud.db.read() as tx:
            row = volume.get(tx, caller(req), volume_id)
            resp.media = {"volume": shown(tx, req, self.cloud, [row])[0]}

    def on_put(self, req: Request, resp: Response, volume_id: str) -> None:
        given, _ = loose(req, UpdateVolume, "volume", strict_from=Version(3, 53))
        columns: dict[str, Any] = {}
        for field, column in (
            ("display_name", "name"),
            ("display_description", "description"),
            ("name", "name"),
            ("description", "description"),
        ):
            value = getattr(given, field)
            if value is not UNSET:
                columns[column] = value
        if not columns and given.metadata is UNSET:
            raise BadRequest("Invalid input for field/attribute volume: there is nothing to change")
        with self.cloud.db.begin() as tx:
            row = volume.update(tx, self.cloud, caller(req), volume_id, columns)
            if given.metadata is not UNSET:
                volume_metadata.set_metadata(
                    tx, self.cloud, caller(req), volume_id, given.metadata or {}, replace=True
                )
            resp.media = {"volume": shown(tx, req, self.cloud, [row], extended=False)[0]}

    def on_delete(self, req: Request, resp: Response, volume_id: str) -> None:
        cascade = boolean(one_param(req, "cascade") or "false", "cascade")
        force = version(req) >= Version(3, 23) and boolean(one_param(req, "force") or "false", "force")
        with self.cloud.db.begin() as tx:
            volume.delete(tx, self.cloud, caller(req), volume_id, cascade=cascade, force=force)
        resp.status = "202 Accepted"


class Encryption:
    """/v3/volumes/{volume_id}/encryption: no volume is encrypted, so there is nothing to tell."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, volume_id: str, key: str | None = None) -> None:
        with self.cloud.db.read() as tx:
            volume.get(tx, caller(req), volume_id)
        resp.media = {"encryption_key_id": None} if key is None else None
