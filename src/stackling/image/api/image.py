"""Images: bodies, filters and changes on the wire."""

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from falcon import Request, Response
from msgspec import UNSET, Meta, Struct, UnsetType

from stackling.base import ids
from stackling.base.clock import zulu
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden
from stackling.base.rest import base_url, caller, convert, json_body
from stackling.image import store
from stackling.image.actions import image, location, protection
from stackling.image.actions.image_import import METHODS
from stackling.image.actions.search import listed
from stackling.image.api import query
from stackling.image.inspection import DISK_FORMATS
from stackling.image.state.image import Visibility

READ_ONLY = frozenset(
    [
        "created_at",
        "updated_at",
        "status",
        "checksum",
        "size",
        "virtual_size",
        "direct_url",
        "self",
        "file",
        "schema",
        "os_hash_algo",
        "os_hash_value",
    ]
)
RESERVED = frozenset(
    [
        "location",
        "locations",
        "deleted",
        "deleted_at",
        "direct_url",
        "self",
        "file",
        "schema",
        "stores",
        "os_hash_algo",
    ]
)
Text = Annotated[str, Meta(max_length=255)]
Tag = Annotated[str, Meta(max_length=255)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Base(Struct, kw_only=True, forbid_unknown_fields=True):
    """The attributes of an image that users set; every other key is a property."""

    id: str | UnsetType = UNSET
    name: Text | UnsetType | None = UNSET
    visibility: Visibility | UnsetType = UNSET
    owner: Text | UnsetType | None = UNSET
    protected: bool | UnsetType = UNSET
    os_hidden: bool | UnsetType = UNSET
    disk_format: str | UnsetType | None = UNSET
    container_format: str | UnsetType | None = UNSET
    min_disk: Count | UnsetType = UNSET
    min_ram: Count | UnsetType = UNSET
    tags: list[Tag] | UnsetType = UNSET


BASE = frozenset(Base.__struct_fields__)


def base_of(values: dict[str, Any]) -> Base:
    made = convert(values, Base)
    if made.id is not UNSET and not ids.is_uuid(made.id):
        raise BadRequest(f"Invalid input for field/attribute id: {made.id[:64]!r} is not a UUID")
    for name, allowed in (("disk_format", DISK_FORMATS), ("container_format", image.CONTAINER_FORMATS)):
        value = getattr(made, name)
        if value is not UNSET and value is not None and value not in allowed:
            raise BadRequest(
                f"Invalid input for field/attribute {name}: {value[:64]!r} is none of {', '.join(allowed)}"
            )
    return made


def property_of(name: str, value: Any) -> str | None:
    if not name or len(name) > 255:
        raise BadRequest("Invalid input: a property's name has 1 to 255 characters")
    if value is None and name in ("kernel_id", "ramdisk_id"):
        return None
    if not isinstance(value, str):
        raise BadRequest(f"Invalid input for field/attribute {name}: {str(value)[:64]!r} is not a string")
    if len(value) > 65535:
        raise BadRequest(f"Invalid input for field/attribute {name}: a property has at most 65535 characters")
    return value


def writable(name: str) -> None:
    if name in READ_ONLY:
        raise Forbidden(f"Attribute '{name}' is read-only.")
    if name in RESERVED or name.startswith("os_glance"):
        raise Forbidden(f"Attribute '{name}' is reserved.")


def _imported(row: Row) -> dict[str, str]:
    """What is told of the last import."""
    if row.importing_to is None:
        return {}
    return {
        "os_glance_importing_to_stores": row.importing_to,
        "os_glance_failed_import": row.failed_import or "",
    }


def view(row: Row, properties: dict[str, str | None], tags: list[str]) -> dict[str, Any]:
    return {
        **properties,
        **_imported(row),
        "id": row.id,
        "name": row.name,
        "status": row.state,
        "visibility": row.visibility,
        "owner": row.project_id,
        "protected": row.protected,
        "os_hidden": row.hidden,
        "disk_format": row.disk_format,
        "container_format": row.container_format,
        "min_disk": row.min_disk,
        "min_ram": row.min_ram,
        "size": row.size,
        "virtual_size": row.virtual_size,
        "checksum": row.checksum,
        "os_hash_algo": row.os_hash_algo,
        "os_hash_value": row.os_hash_value,
        "tags": tags,
        "created_at": zulu(row.created_at),
        "updated_at": zulu(row.updated_at or row.created_at),
        "self": f"/v2/images/{row.id}",
        "file": f"/v2/images/{row.id}/file",
        "schema": "/v2/schemas/image",
    }


def shown(tx: Tx, cloud: Cloud, who: Caller, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Many images with their properties, tags and locations, in four statements altogether."""
    found = [r.id for r in rows]
    properties, tags = image.properties_of(tx, found), image.tags_of(tx, found)
    places, guard = location.of_many(tx, cloud, found), protection.of(cloud)
    made = []
    for row in rows:
        mine = places.get(row.id, [])
        one = view(row, guard.readable(who, properties.get(row.id, {})), tags.get(row.id, []))
        if mine:
            one["stores"] = ",".join(location.stores(mine))
        if cloud.config.image.show_multiple_locations and who.can(
            "get_image_location", image.target(row, who.project_id)
        ):
            one["locations"] = [{"url": location.url(r), "metadata": r.meta} for r in mine]
        made.append(one)
    return made


def wanted(given: Any) -> image.NewImage:
    """A new image as a body asks for it. Raises BadRequest, Forbidden (what only the cloud sets)."""
    if not isinstance(given, dict):
        raise BadRequest("Malformed request body: an image is an object")
    for name in given:
        if name not in BASE:
            writable(name)
    base = base_of({k: v for k, v in given.items() if k in BASE})
    return image.NewImage(
        id=_or(base.id, None),
        name=_or(base.name, None),
        visibility=_or(base.visibility, Visibility.SHARED),
        owner=_or(base.owner, None),
        protected=_or(base.protected, False),
        hidden=_or(base.os_hidden, False),
        disk_format=_or(base.disk_format, None),
        container_format=_or(base.container_format, None),
        min_disk=_or(base.min_disk, 0),
        min_ram=_or(base.min_ram, 0),
        tags=_or(base.tags, []),
        properties={k: property_of(k, v) for k, v in given.items() if k not in BASE},
    )


class Images:
    """/v2/images"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        want = query.search(req)
        with self.cloud.db.read() as tx:
            rows = listed(tx, caller(req), want)
            images = shown(tx, self.cloud, caller(req), rows)
        given = [(k, v) for k in req.params for v in req.get_param_as_list(k) or [] if k != "marker"]
        first = "/v2/images" + (f"?{urlencode(given)}" if given else "")
        media: dict[str, Any] = {"images": images, "first": first, "schema": "/v2/schemas/images"}
        if rows and len(rows) == want.limit:
            media["next"] = f"/v2/images?{urlencode([*given, ('marker', rows[-1].id)])}"
        resp.media = media

    def on_post(self, req: Request, resp: Response) -> None:
        want = wanted(json_body(req))
        with self.cloud.db.begin() as tx:
            row = image.create(tx, self.cloud, caller(req), want)
            made = shown(tx, self.cloud, caller(req), [row])[0]
        resp.status, resp.media = "201 Created", made
        resp.location = f"{base_url(req, self.cloud)}/image/v2/images/{row.id}"
        resp.set_header("OpenStack-image-import-methods", ",".join(METHODS))
        resp.set_header("OpenStack-image-store-ids", ",".join(store.of(self.cloud).names))


def _or(value: Any, default: Any) -> Any:
    return default if value is UNSET else value


class Image:
    """/v2/images/{image_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, image_id: str) -> None:
        with self.cloud.db.read() as tx:
            row = image.get(tx, caller(req), image_id)
            resp.media = shown(tx, self.cloud, caller(req), [row])[0]

    def on_delete(self, req: Request, resp: Response, image_id: str) -> None:
        with self.cloud.db.begin() as tx:
            image.delete(tx, self.cloud, caller(req), image_id)
        resp.status = "204 No Content"


class Activation:
    """/v2/images/{image_id}/actions/deactivate and …/reactivate"""

    def __init__(self, cloud: Cloud, *, active: bool) -> None:
        self.cloud, self.active = cloud, active

    def on_post(self, req: Request, resp: Response, image_id: str) -> None:
        with self.cloud.db.begin() as tx:
            image.set_active(tx, self.cloud, caller(req), image_id, self.active)
        resp.status = "204 No Content"
