"""Volumes: create, find, change, grow, delete; and the verbs that compute uses on them."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from msgspec import Struct, structs

from stackling.base import ids, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.base.statement import Statement
from stackling.image.actions import image as images
from stackling.volume.actions import quota, service, volume_type
from stackling.volume.driver import EXPORT_FORMATS
from stackling.volume.state import snapshot as snapshots
from stackling.volume.state.attachment import attachment
from stackling.volume.state.snapshot import snapshot
from stackling.volume.state.volume import (
    DELETABLE,
    State,
    image_metadata_of,
    volume,
    volume_image_metadata,
    volume_metadata,
)

KIND = "volume.volume"
_ONE = Statement(sa.select(volume).where(volume.c.id == sa.bindparam("id")))
GIB = 1 << 30
_INHERITED = (
    "image_id",
    "image_name",
    "checksum",
    "container_format",
    "disk_format",
    "min_disk",
    "min_ram",
    "size",
)


class NewVolume(Struct, kw_only=True):
    """A volume as asked for. `size` in GiB; None: as large as its source. At most one source."""

    size: int | None = None
    name: str | None = None
    description: str | None = None
    volume_type: str | None = None
    availability_zone: str | None = None
    image_id: str | None = None
    snapshot_id: str | None = None
    source_volid: str | None = None
    metadata: Mapping[str, str] = {}
    near: Iterable[str] = ()
    far: Iterable[str] = ()
    server_id: str | None = None
    host: str | None = None


def target(row: Row) -> dict[str, Any]:
    return {"project_id": row.project_id, "tenant_id": row.project_id, "user_id": row.user_id}


def get(tx: Tx, caller: Caller, id: str, rule: str = "volume:get") -> Row:
    """One volume, for something that `rule` guards. Raises NotFound (also for other projects'), Forbidden."""
    row = _ONE.first(tx, id=id)
    if row is None:
        raise NotFound(f"Volume {id[:64]} could not be found.")
    caller.may_see(row.project_id, rule, f"Volume {id[:64]} could not be found.")
    return row


class _Source(Struct):
    """What a new volume takes from where its content comes from."""

    least: int = 1  # GiB
    bootable: bool = False
    volume_type_id: str | None = None
    image_metadata: Mapping[str, str | None] = {}


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewVolume) -> Row:
    """Record a volume its owner wants.

    Raises Forbidden, NotFound (a type or source that the caller can't see), BadRequest (a source that can't be
    used, a size too small), QuotaExceeded.
    """
    caller.may("volume:create")
    if caller.project_id is None:
        raise BadRequest("A volume needs a project: use a token of one.")
    if sum(s is not None for s in (want.image_id, want.snapshot_id, want.source_volid)) > 1:
        raise BadRequest("A volume comes from one source: name an image, a snapshot or a volume.")
    if want.image_id and (snapshot_id := _root_snapshot(tx, cloud, caller, want.image_id)):
        want = structs.replace(want, image_id=None, snapshot_id=snapshot_id)
    source = _source(tx, cloud, caller, want)
    if want.volume_type is not None:
        kind = volume_type.named(tx, caller, want.volume_type)
    elif source.volume_type_id is not None:
        kind = volume_type.find(tx, caller, source.volume_type_id)
    else:
        kind = volume_type.default(tx, cloud)
    if source.volume_type_id not in (None, kind.id):
        raise BadRequest(
            "Invalid volume_type provided: it must be that of the volume's source. Retype it later."
        )
    zone = want.availability_zone or cloud.config.compute.availability_zone
    if zone != cloud.config.compute.availability_zone:
        raise BadRequest(
            f"Availability zone '{zone[:64]}' is invalid. There is: {cloud.config.compute.availability_zone}"
        )
    size = want.size
    if size is None and (want.snapshot_id or want.source_volid):
        size = source.least
    if size is None:
        raise BadRequest("Invalid input for field/attribute size: a volume needs a size in GiB")
    if size < source.least:
        raise BadRequest(
            f"Invalid input for field/attribute size: {size} GiB is smaller than the source, which needs {source.least} GiB"
        )
    quota.check(tx, cloud, caller.project_id, kind.name, {"volumes": 1, "gigabytes": size}, size=size)
    specs = volume_type.specs_of(tx, [kind.id]).get(kind.id, {})
    now = cloud.clock.now()
    values = {
        "id": ids.uuid4(),
        "project_id": caller.project_id,
        "user_id": caller.user_id,
        "created_at": now,
        "state": State.CREATING,
        "name": want.name,
        "description": want.description,
        "size": size,
        "wanted_size": size,
        "volume_type_id": kind.id,
        "availability_zone": zone,
        "host": want.host,
        "bootable": source.bootable,
        "multiattach": _shared(specs),
        "image_id": want.image_id,
        "snapshot_id": want.snapshot_id,
        "source_volid": want.source_volid,
        "near": ",".join(want.near) or None,
        "far": ",".join(want.far) or None,
        "server_id": want.server_id,
        "request_id": caller.request_id or None,
    }
    row = tx.execute(sa.insert(volume).values(**values).returning(volume)).one()
    write_items(tx, volume_metadata, row.id, want.metadata)
    write_items(tx, volume_image_metadata, row.id, source.image_metadata)
    jobs.start(tx, KIND, row.id, now=now)
    return row


def write_items(tx: Tx, table: sa.Table, id: str, items: Mapping[str, Any]) -> None:
    """Keep `items` of a volume in one of its tables of keys and values."""
    if items:
        tx.execute(sa.insert(table), [{"volume_id": id, "key": k, "value": v} for k, v in items.items()])


def _source(tx: Tx, cloud: Cloud, caller: Caller, want: NewVolume) -> _Source:
    if want.image_id is not None:
        caller.may("volume:create_from_image")
        return _from_image(tx, cloud, caller, want.image_id)
    if want.snapshot_id is not None:
        says = f"Snapshot {want.snapshot_id[:64]} could not be found."
        taken = tx.execute(sa.select(snapshot).where(snapshot.c.id == want.snapshot_id)).first()
        if taken is None:
            raise NotFound(says)
        caller.may_see(taken.project_id, "volume:get_snapshot", says)
        if taken.state != snapshots.State.AVAILABLE:
            raise BadRequest(f"Originating snapshot status must be available, but it is {taken.state}.")
        return _from_volume(tx, taken.volume_id, taken.size)
    if want.source_volid is not None:
        row = get(tx, caller, want.source_volid)
        if row.state not in (State.AVAILABLE, State.IN_USE):
            raise BadRequest(f"Source volume status must be available or in-use, but it is {row.state}.")
        return _from_volume(tx, row.id, row.size)
    return _Source()


def _root_snapshot(tx: Tx, cloud: Cloud, caller: Caller, image_id: str) -> str | None:
    """The snapshot that holds the root disk of an image without data: one made of a server that boots from a volume."""
    try:
        row = images.for_boot(tx, cloud, caller, image_id, empty=True)
        named = json.loads(images.properties(tx, row.id).get("block_device_mapping") or "[]")
        root: dict[str, Any] = next((d for d in named if d.get("boot_index") == 0), {})
    except (NotFound, ValueError, TypeError, AttributeError):
        return None
    found = root.get("snapshot_id")
    return found if isinstance(found, str) and not row.size else None


def _from_image(tx: Tx, cloud: Cloud, caller: Caller, image_id: str) -> _Source:
    try:
        row = images.for_boot(tx, cloud, caller, image_id)
    except NotFound as e:
        raise BadRequest(
            f"Invalid image identifier or unable to access requested image: {image_id[:64]}"
        ) from e
    known = {name: getattr(row, name) for name in _INHERITED[2:]}
    base = {"image_id": row.id, "image_name": row.name, **known}
    inherited = {k: None if v is None else str(v) for k, v in base.items()}
    least = max(1, -(-row.virtual_size // GIB), row.min_disk)
    return _Source(least, True, None, {**images.properties(tx, image_id), **inherited})


def _from_volume(tx: Tx, id: str, size: int) -> _Source:
    row = tx.execute(sa.select(volume).where(volume.c.id == id)).one()
    return _Source(size, row.bootable, row.volume_type_id, image_metadata_of(tx, [id]).get(id, {}))


def update(tx: Tx, cloud: Cloud, caller: Caller, id: str, columns: Mapping[str, Any]) -> Row:
    get(tx, caller, id, "volume:update")
    values = {**columns, "updated_at": cloud.clock.now()}
    return tx.execute(sa.update(volume).where(volume.c.id == id).values(**values).returning(volume)).one()


# What a backup or its like is doing with a snapshot. One that is still being made goes as well: once it is whole.
_ELSEWHERE = (snapshots.State.BACKING_UP, snapshots.State.RESTORING, snapshots.State.UNMANAGING)


def delete(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, *, cascade: bool = False, force: bool = False
) -> None:
    """The volume is to go, with `cascade` its snapshots as well; `force` whatever its state is.

    Raises BadRequest saying what is in the way: its state, a server that has it, its snapshots.
    """
    row = get(
        tx, caller, id, "volume_extension:volume_admin_actions:force_delete" if force else "volume:delete"
    )
    if row.state == State.DELETING and not force:
        return
    service.check_thawed(tx, row.host)
    if row.state not in (*DELETABLE, State.ERROR_DELETING) and not force:
        raise BadRequest(
            f"Invalid volume: volume status must be {' or '.join(DELETABLE)}, but it is {row.state}."
        )
    if tx.execute(sa.select(attachment.c.id).where(attachment.c.volume_id == id).limit(1)).first():
        raise BadRequest(f"Invalid volume: volume {id} is still attached, detach volume first.")
    held = list(tx.execute(sa.select(snapshot.c.id, snapshot.c.state).where(snapshot.c.volume_id == id)))
    if held and not cascade:
        raise BadRequest(f"Invalid volume: volume still has {len(held)} dependent snapshots.")
    if any(each.state in _ELSEWHERE for each in held):
        raise BadRequest("Invalid volume: one of its snapshots is in use.")
    now = cloud.clock.now()
    for each in held:
        tx.execute(
            sa.update(snapshot)
            .where(snapshot.c.id == each.id)
            .values(state=snapshots.State.DELETING, updated_at=now)
        )
        jobs.start(tx, "volume.snapshot", each.id, now=now)
    _set(tx, cloud, id, State.DELETING)
    jobs.start(tx, KIND, id, now=now)


def extend(tx: Tx, cloud: Cloud, caller: Caller, id: str, size: int, *, attached: bool) -> None:
    """The volume is to become `size` GiB large; `attached` allows it while a server has it.

    Raises BadRequest (its state, not larger than it is), QuotaExceeded.
    """
    row = get(tx, caller, id, "volume:extend")
    if row.state == State.IN_USE and attached:
        caller.may("volume:extend_attached_volume", target(row))
    elif row.state != State.AVAILABLE:
        raise BadRequest(f"Invalid volume: volume status must be available to extend, but it is {row.state}.")
    if size <= row.size:
        raise BadRequest(
            f"Invalid input received: New size for extend must be greater than current size. (current: {row.size}, extended: {size})."
        )
    name = volume_type.names(tx, [row.volume_type_id]).get(row.volume_type_id, "")
    quota.check(tx, cloud, row.project_id, name, {"gigabytes": size - row.size}, size=size)
    now = cloud.clock.now()
    who = {name: getattr(caller, name) for name in ("user_id", "project_id", "request_id")}
    tx.execute(
        sa.update(volume)
        .where(volume.c.id == id)
        .values(state=State.EXTENDING, wanted_size=size, extended_by=who, updated_at=now)
    )
    jobs.start(tx, KIND, id, now=now)


class NewCopy(Struct, frozen=True, kw_only=True):
    """An image to be made of a volume, as asked for. `force`: also while a server has the volume."""

    name: str
    disk_format: str = "raw"
    container_format: str = "bare"
    visibility: str = "private"
    protected: bool = False
    force: bool = False


def upload(tx: Tx, cloud: Cloud, caller: Caller, id: str, want: NewCopy) -> tuple[Row, Row]:
    """The volume is to become an image as well; returns both. Raises BadRequest, Forbidden, NotFound."""
    row = get(tx, caller, id, "volume_extension:volume_actions:upload_image")
    if want.visibility == images.Visibility.PUBLIC:
        caller.may("volume_extension:volume_actions:upload_public", target(row))
    if want.disk_format not in EXPORT_FORMATS or want.container_format != "bare":
        raise BadRequest(
            f"Invalid input for field/attribute disk_format: it is one of {', '.join(EXPORT_FORMATS)}, in container bare"
        )
    allowed = (State.AVAILABLE, State.IN_USE) if want.force else (State.AVAILABLE,)
    if row.state not in allowed:
        raise BadRequest(
            f"Invalid volume: Volume {id} status must be {' or '.join(allowed)}, but current status is: {row.state}."
        )
    known = image_metadata_of(tx, [id]).get(id, {})
    made = images.create(
        tx,
        cloud,
        caller,
        images.NewImage(
            name=want.name,
            visibility=images.Visibility(want.visibility),
            protected=want.protected,
            disk_format=want.disk_format,
            container_format=want.container_format,
            min_disk=row.size if row.bootable else 0,
            min_ram=int(known.get("min_ram") or 0),
            properties={k: v for k, v in known.items() if k not in _INHERITED},
        ),
    )
    changed = {"upload_image_id": made.id, "upload_format": want.disk_format}
    uploading = {"state": State.UPLOADING, "updated_at": cloud.clock.now(), **changed}
    row = tx.execute(sa.update(volume).where(volume.c.id == id).values(**uploading).returning(volume)).one()
    jobs.start(tx, KIND, id, now=cloud.clock.now())
    return row, made


def set_bootable(tx: Tx, cloud: Cloud, caller: Caller, id: str, bootable: bool) -> None:
    get(tx, caller, id, "volume:update")
    tx.execute(
        sa.update(volume).where(volume.c.id == id).values(bootable=bootable, updated_at=cloud.clock.now())
    )


def set_readonly(tx: Tx, cloud: Cloud, caller: Caller, id: str, readonly: bool) -> None:
    row = get(tx, caller, id, "volume:update_readonly_flag")
    if row.state != State.AVAILABLE:
        raise BadRequest(
            f"Volume {id} status must be available to update readonly flag, but current status is: {row.state}."
        )
    tx.execute(
        sa.update(volume).where(volume.c.id == id).values(readonly=readonly, updated_at=cloud.clock.now())
    )


def reset(tx: Tx, cloud: Cloud, caller: Caller, id: str, state: State | None, *, detached: bool) -> None:
    """Say by hand what state a volume is in; `detached` forgets its attachments. For administrators."""
    get(tx, caller, id, "volume_extension:volume_admin_actions:reset_status")
    if state is not None:
        _set(tx, cloud, id, state)
    if detached:
        tx.execute(sa.delete(attachment).where(attachment.c.volume_id == id))


def _set(tx: Tx, cloud: Cloud, id: str, state: State) -> None:
    tx.execute(sa.update(volume).where(volume.c.id == id).values(state=state, updated_at=cloud.clock.now()))


def recover(tx: Tx, cloud: Cloud, id: str) -> None:
    """A volume in error that nothing holds any more can be used again, after an administrator has forced it free."""
    held = tx.execute(sa.select(attachment.c.id).where(attachment.c.volume_id == id).limit(1)).first()
    row = _ONE.first(tx, id=id)
    if held is None and row is not None and row.state == State.ERROR:
        _set(tx, cloud, id, State.AVAILABLE)


def retype(tx: Tx, cloud: Cloud, caller: Caller, id: str, name: str) -> None:
    """Give the volume another type. What can't stay where it is under the new type is refused."""
    row = get(tx, caller, id, "volume:retype")
    if row.state not in (State.AVAILABLE, State.IN_USE):
        raise BadRequest(f"Unable to update type due to incorrect status: {row.state} on volume: {id}.")
    kind = volume_type.named(tx, caller, name)
    if kind.id == row.volume_type_id:
        raise BadRequest(f"New volume_type same as original: {kind.name}.")
    specs = volume_type.specs_of(tx, [kind.id, row.volume_type_id])
    new, old = specs.get(kind.id, {}), specs.get(row.volume_type_id, {})
    key = "volume_backend_name"
    if new.get(key, old.get(key)) != old.get(key):
        raise BadRequest(
            f"Volume {id} can't become of type {kind.name}: that asks for {key} {new[key]!r}, and volumes stay where they are."
        )
    shared = _shared(new)
    if shared != row.multiattach and row.state != State.AVAILABLE:
        raise BadRequest(
            f"Volume {id} can't become of type {kind.name} while it is {row.state}: detach it first."
        )
    quota.check_retype(tx, cloud, row.project_id, kind.name, row.size)
    now = cloud.clock.now()
    columns: dict[str, Any] = {"volume_type_id": kind.id, "updated_at": now}
    if shared != row.multiattach:
        columns = {"wanted_type_id": kind.id, "state": State.RETYPING, "updated_at": now}
        jobs.start(tx, KIND, id, now=now)
    tx.execute(sa.update(volume).where(volume.c.id == id).values(**columns))


def _shared(specs: Mapping[str, str]) -> bool:
    """Whether a type lets several servers have a volume."""
    return specs.get("multiattach", "").lower().replace(" ", "") == "<is>true"


# -- for compute -------------------------------------------------------------------------------------------------------


def create_for_server(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    *,
    size_gib: int | None,
    name: str,
    source: tuple[str, str] | None,
    volume_type: str | None = None,
    availability_zone: str | None = None,
    server_id: str | None = None,
    host: str | None = None,
) -> Row:
    """A volume that a server is to have, on `host` where that was chosen already. `source` is ("image" | "snapshot" | "volume", id), None: blank.

    The job of `server_id` is woken when the volume is available or has failed. Raises as `create` does.
    """
    kind, id = source or ("blank", None)
    want = NewVolume(
        size=size_gib,
        name=name,
        volume_type=volume_type,
        availability_zone=availability_zone,
        image_id=id if kind == "image" else None,
        snapshot_id=id if kind == "snapshot" else None,
        source_volid=id if kind == "volume" else None,
        server_id=server_id,
        host=host,
    )
    return create(tx, cloud, caller, want)


def found(tx: Tx, id: str) -> Row | None:
    """A volume on behalf of nobody, for steps; None when it is gone."""
    return tx.execute(sa.select(volume).where(volume.c.id == id)).first()


def remove_with_server(tx: Tx, cloud: Cloud, volume_id: str) -> None:
    """The server is gone and the volume goes with it (`delete_on_termination`). Already gone: nothing happens.

    A volume that somebody else uses or that has snapshots stays.
    """
    row = tx.execute(sa.select(volume).where(volume.c.id == volume_id)).first()
    if row is None or row.state == State.DELETING:
        return
    for table in (attachment, snapshot):
        if tx.execute(sa.select(table.c.id).where(table.c.volume_id == volume_id).limit(1)).first():
            return
    _set(tx, cloud, volume_id, State.DELETING)
    jobs.start(tx, KIND, volume_id, now=cloud.clock.now())
