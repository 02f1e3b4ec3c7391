"""Images: create, find, change, delete; and what compute and block storage need of one."""

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import ids, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, Forbidden, NotFound, TooLarge
from stackling.image import store
from stackling.image.cache import ImageRef
from stackling.image.state.image import State, Visibility, image, image_property, image_tag
from stackling.image.state.member import image_member

KIND = "image.image"
MOST_PROPERTIES = 128
MOST_TAGS = 128
CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
BOOTABLE_FORMATS = ("raw", "qcow2")


class NewImage(Struct, kw_only=True):
    """An image as asked for. `owner` None: the caller's project."""

    id: str | None = None
    name: str | None = None
    visibility: Visibility = Visibility.SHARED
    owner: str | None = None
    protected: bool = False
    hidden: bool = False
    disk_format: str | None = None
    container_format: str | None = None
    min_disk: int = 0
    min_ram: int = 0
    tags: Iterable[str] = ()
    properties: Mapping[str, str | None] = {}


def _of_many(table: sa.Table, order: str) -> sa.Select[Any]:
    return (
        sa.select(table)
        .where(table.c.image_id.in_(sa.bindparam("ids", expanding=True)))
        .order_by(table.c[order])
    )


# Statements of every request are built once: building them costs more than running them.
_ONE = sa.select(image).where(image.c.id == sa.bindparam("id"))
_PROPERTIES, _TAGS = _of_many(image_property, "name"), _of_many(image_tag, "value")


def target(row: Row, member_id: str | None = None) -> dict[str, Any]:
    """An image as the policy sees it. `member_id` is the project that the call is about, if it is a member."""
    return {
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "owner": row.project_id,
        "member_id": member_id or "",
        "visibility": row.visibility,
    }


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewImage) -> Row:
    """Register an image without data. Raises Forbidden, Conflict (the id is taken), TooLarge (too many tags)."""
    owner = want.owner or caller.project_id
    if owner is None:
        raise Forbidden("An image needs an owner: use a token of a project.")
    aim = {"project_id": caller.project_id, "owner": owner, "member_id": "", "visibility": want.visibility}
    caller.may("add_image", aim)
    _may_show(caller, want.visibility, {**aim, "project_id": owner})
    id = want.id or ids.uuid4()
    if tx.execute(sa.select(image.c.id).where(image.c.id == id)).first():
        raise Conflict(f"Image ID {id} already exists!")
    now = cloud.clock.now()
    values = {
        "id": id,
        "project_id": owner,
        "created_at": now,
        "updated_at": now,
        "state": State.QUEUED,
        "visibility": want.visibility,
        "name": want.name,
        "protected": want.protected,
        "hidden": want.hidden,
        "disk_format": want.disk_format,
        "container_format": want.container_format,
        "min_disk": want.min_disk,
        "min_ram": want.min_ram,
    }
    row = tx.execute(sa.insert(image).values(**values).returning(image)).one()
    set_properties(tx, id, want.properties)
    set_tags(tx, id, want.tags)
    return row


def set_properties(tx: Tx, id: str, wanted: Mapping[str, str | None]) -> None:
    """The image has these properties and no others. Raises TooLarge."""
    if len(wanted) > MOST_PROPERTIES:
        raise TooLarge(
            f"The limit has been exceeded on the number of allowed image properties. Attempted: {len(wanted)}, Maximum: {MOST_PROPERTIES}"
        )
    tx.execute(sa.delete(image_property).where(image_property.c.image_id == id))
    if wanted:
        tx.execute(
            sa.insert(image_property), [{"image_id": id, "name": n, "value": v} for n, v in wanted.items()]
        )


def set_tags(tx: Tx, id: str, wanted: Iterable[str]) -> None:
    """The image has these tags and no others. Raises TooLarge."""
    tags = dict.fromkeys(wanted)
    if len(tags) > MOST_TAGS:
        raise TooLarge(
            f"The limit has been exceeded on the number of allowed image tags. Attempted: {len(tags)}, Maximum: {MOST_TAGS}"
        )
    tx.execute(sa.delete(image_tag).where(image_tag.c.image_id == id))
    if tags:
        tx.execute(sa.insert(image_tag), [{"image_id": id, "value": t} for t in tags])


def find(tx: Tx, caller: Caller, id: str) -> Row:
    """An image that the caller can see at all. Raises NotFound."""
    row = tx.execute(_ONE, {"id": id}).first()
    if row is None or not (
        caller.is_admin
        or row.project_id == caller.project_id
        or row.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY)
        or (row.visibility == Visibility.SHARED and is_member(tx, id, caller.project_id))
    ):
        raise NotFound(f"No image found with ID {id}")
    return row


def is_member(tx: Tx, id: str, project_id: str | None) -> bool:
    if project_id is None:
        return False
    this = sa.and_(image_member.c.image_id == id, image_member.c.member_id == project_id)
    return tx.execute(sa.select(image_member.c.image_id).where(this)).first() is not None


def get(tx: Tx, caller: Caller, id: str, rule: str = "get_image") -> Row:
    """One image, for something that `rule` guards. Raises NotFound, Forbidden."""
    row = find(tx, caller, id)
    caller.may(rule, target(row, caller.project_id))
    return row


def owned(tx: Tx, caller: Caller, id: str, rule: str) -> Row:
    """One image, for something that its owner does. Raises NotFound, Forbidden."""
    row = find(tx, caller, id)
    caller.may(rule, target(row))
    return row


def properties(tx: Tx, id: str) -> dict[str, str | None]:
    return properties_of(tx, [id]).get(id, {})


def properties_of(tx: Tx, image_ids: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """The properties of many images in one statement, by image id."""
    found: dict[str, dict[str, str | None]] = {}
    for row in tx.execute(_PROPERTIES, {"ids": list(image_ids)}):
        found.setdefault(row.image_id, {})[row.name] = row.value
    return found


def tags_of(tx: Tx, image_ids: Iterable[str]) -> dict[str, list[str]]:
    """The tags of many images in one statement, by image id."""
    found: dict[str, list[str]] = {}
    for row in tx.execute(_TAGS, {"ids": list(image_ids)}):
        found.setdefault(row.image_id, []).append(row.value)
    return found


def update(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    row: Row,
    *,
    columns: Mapping[str, Any],
    properties: Mapping[str, str | None] | None,
    tags: Iterable[str] | None,
) -> Row:
    """Change what `columns` names, and replace properties and tags where they are given.

    Raises Forbidden: the policy, or a format of an image that has data already.
    """
    id = row.id
    caller.may("modify_image", target(row))
    if columns.get("visibility", row.visibility) != row.visibility:
        _may_show(caller, columns["visibility"], target(row))
    for fixed in ("disk_format", "container_format"):
        if columns.get(fixed, getattr(row, fixed)) != getattr(row, fixed) and row.state != State.QUEUED:
            raise Forbidden(f"Attribute {fixed} can be only replaced for a queued image.")
    if columns.get("project_id", row.project_id) != row.project_id and not caller.is_admin:
        raise Forbidden("You are not permitted to change the owner of this image.")
    if properties is not None:
        set_properties(tx, id, properties)
    if tags is not None:
        set_tags(tx, id, tags)
    change = sa.update(image).where(image.c.id == id).values(**columns, updated_at=cloud.clock.now())
    return tx.execute(change.returning(image)).one()


def _may_show(caller: Caller, visibility: str, aim: Mapping[str, Any]) -> None:
    if visibility == Visibility.PUBLIC:
        caller.may("publicize_image", aim)
    if visibility == Visibility.COMMUNITY:
        caller.may("communitize_image", aim)


def delete(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> None:
    """The image is gone; its data follows. Servers that run on it have their own link to it."""
    row = owned(tx, caller, id, "delete_image")
    if row.protected:
        raise Forbidden(f"Image {id} is protected and cannot be deleted.")
    remove(tx, cloud, id)


def remove(tx: Tx, cloud: Cloud, id: str) -> None:
    """The image is gone, whoever wanted that; its data follows."""
    for table in (image_property, image_tag, image_member):
        tx.execute(sa.delete(table).where(table.c.image_id == id))
    tx.execute(sa.delete(image).where(image.c.id == id))
    jobs.start(tx, KIND, id, now=cloud.clock.now())


def set_active(tx: Tx, cloud: Cloud, caller: Caller, id: str, active: bool) -> None:
    """Let the image be used, or no longer. Raises Forbidden when it has no data (as upstream does)."""
    row = owned(tx, caller, id, "reactivate" if active else "deactivate")
    if row.state not in (State.ACTIVE, State.DEACTIVATED):
        word = "activate" if active else "deactivate"
        raise Forbidden(f"Not allowed to {word} image in status '{row.state}'")
    wanted = State.ACTIVE if active else State.DEACTIVATED
    if row.state != wanted:
        tx.execute(
            sa.update(image).where(image.c.id == id).values(state=wanted, updated_at=cloud.clock.now())
        )


def add_tag(tx: Tx, cloud: Cloud, caller: Caller, id: str, tag: str) -> None:
    row = owned(tx, caller, id, "modify_image")
    tags = tags_of(tx, [id]).get(id, [])
    if tag not in tags:
        set_tags(tx, row.id, [*tags, tag])
        _touch(tx, cloud, id)


def remove_tag(tx: Tx, cloud: Cloud, caller: Caller, id: str, tag: str) -> None:
    """Raises NotFound when the image has no such tag."""
    owned(tx, caller, id, "modify_image")
    this = sa.and_(image_tag.c.image_id == id, image_tag.c.value == tag)
    if not tx.execute(sa.delete(image_tag).where(this)).rowcount:
        raise NotFound(f"Image {id} has no tag {tag!r}")
    _touch(tx, cloud, id)


def _touch(tx: Tx, cloud: Cloud, id: str) -> None:
    tx.execute(sa.update(image).where(image.c.id == id).values(updated_at=cloud.clock.now()))


# -- for compute and block storage -------------------------------------------------------------------------------------


def for_boot(tx: Tx, cloud: Cloud, caller: Caller, image_id: str) -> Row:
    """An image that a disk can be made of.

    Raises NotFound when the caller can't see it, and BadRequest saying why it can't be used.
    """
    row = get(tx, caller, image_id)
    if row.state != State.ACTIVE:
        raise BadRequest(f"Image {image_id} is not active: its status is {row.state}.")
    if row.disk_format not in BOOTABLE_FORMATS:
        raise BadRequest(
            f"Image {image_id} has disk format {row.disk_format}; a disk needs {' or '.join(BOOTABLE_FORMATS)}."
        )
    return row


def found(tx: Tx, image_id: str) -> Row | None:
    """An image on behalf of nobody, for the steps of those who were let at it by `for_boot`; None when it is gone."""
    return tx.execute(sa.select(image).where(image.c.id == image_id)).first()


def ref(row: Row) -> ImageRef:
    """What a host must know of an image that `for_boot` returned."""
    return ImageRef(
        id=row.id,
        format=row.disk_format,
        size=row.size,
        sha512=row.os_hash_value,
        virtual_size=row.virtual_size,
    )


def register(
    tx: Tx,
    cloud: Cloud,
    *,
    name: str,
    path: Path,
    project_id: str,
    disk_format: str = "qcow2",
    virtual_size: int,
    properties: Mapping[str, str],
    min_ram: int = 0,
    min_disk: int = 0,
) -> Row:
    """Have the image file `path` as a public image of `project_id`; the cloud does this for what it built itself.

    The same content under the same name is registered once. `virtual_size` in bytes, `min_ram` in MiB. The file is
    linked or copied; the caller keeps its own.
    """
    md5, sha512 = hashlib.md5(usedforsecurity=False), hashlib.sha512()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            md5.update(chunk)
            sha512.update(chunk)
    same = sa.and_(
        image.c.name == name, image.c.os_hash_value == sha512.hexdigest(), image.c.project_id == project_id
    )
    files = store.of(cloud)
    known = tx.execute(
        sa.select(image).where(same, image.c.state == State.ACTIVE).order_by(image.c.created_at)
    ).first()
    if known is not None and files.path(known.id).exists():
        return known
    id = known.id if known is not None else ids.uuid4()
    incoming = files.incoming(id, ids.uuid4())
    try:
        incoming.drop()
        shutil.copyfile(path, incoming.path)
        files.keep(incoming, id)
    finally:
        incoming.path.unlink(missing_ok=True)
    if known is not None:
        return known
    now = cloud.clock.now()
    values = {
        "id": id,
        "project_id": project_id,
        "created_at": now,
        "updated_at": now,
        "state": State.ACTIVE,
        "visibility": Visibility.PUBLIC,
        "name": name,
        "protected": False,
        "hidden": False,
        "disk_format": disk_format,
        "container_format": "bare",
        "min_disk": min_disk,
        "min_ram": min_ram,
        "size": path.stat().st_size,
        "virtual_size": virtual_size,
        "checksum": md5.hexdigest(),
        "os_hash_value": sha512.hexdigest(),
    }
    row = tx.execute(sa.insert(image).values(**values).returning(image)).one()
    set_properties(tx, id, properties)
    return row
