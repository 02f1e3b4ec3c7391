"""Images: bodies, filters and changes on the wire."""

from collections.abc import Sequence
from typing import Annotated, Any, NoReturn
from urllib.parse import urlencode

import msgspec
from falcon import Request, Response
from msgspec import UNSET, Meta, Struct, UnsetType

from stackling.base import ids
from stackling.base.clock import zulu
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, Forbidden, UnsupportedMediaType
from stackling.base.rest import base_url, caller, convert, json_body
from stackling.image.actions import image
from stackling.image.actions.image_import import METHODS, STORES
from stackling.image.actions.search import listed
from stackling.image.api import query
from stackling.image.inspection import DISK_FORMATS
from stackling.image.state.image import State, Visibility

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
PATCH_TYPES = ("application/openstack-images-v2.1-json-patch", "application/openstack-images-v2.0-json-patch")

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


def _base(values: dict[str, Any]) -> Base:
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


def _property(name: str, value: Any) -> str | None:
    if not name or len(name) > 255:
        raise BadRequest("Invalid input: a property's name has 1 to 255 characters")
    if value is None and name in ("kernel_id", "ramdisk_id"):
        return None
    if not isinstance(value, str):
        raise BadRequest(f"Invalid input for field/attribute {name}: {str(value)[:64]!r} is not a string")
    if len(value) > 65535:
        raise BadRequest(f"Invalid input for field/attribute {name}: a property has at most 65535 characters")
    return value


def _writable(name: str) -> None:
    if name in READ_ONLY:
        raise Forbidden(f"Attribute '{name}' is read-only.")
    if name in RESERVED or name.startswith("os_glance"):
        raise Forbidden(f"Attribute '{name}' is reserved.")


# What is told of the last import; there is one store, `file`.
_IMPORTED: dict[str | None, dict[str, str]] = {
    "running": {"os_glance_importing_to_stores": "file", "os_glance_failed_import": ""},
    "done": {"os_glance_importing_to_stores": "", "os_glance_failed_import": ""},
    "failed": {"os_glance_importing_to_stores": "", "os_glance_failed_import": "file"},
}


def view(row: Row, properties: dict[str, str | None], tags: list[str]) -> dict[str, Any]:
    return {
        **properties,
        **_IMPORTED.get(row.imported, {}),
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
        "os_hash_algo": "sha512" if row.os_hash_value else None,
        "os_hash_value": row.os_hash_value,
        "tags": tags,
        "created_at": zulu(row.created_at),
        "updated_at": zulu(row.updated_at or row.created_at),
        **({"stores": "file"} if row.state in (State.ACTIVE, State.DEACTIVATED) else {}),
        "self": f"/v2/images/{row.id}",
        "file": f"/v2/images/{row.id}/file",
        "schema": "/v2/schemas/image",
    }


def shown(tx: Tx, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Many images with their properties and tags, in three statements altogether."""
    found = [r.id for r in rows]
    properties, tags = image.properties_of(tx, found), image.tags_of(tx, found)
    return [view(r, properties.get(r.id, {}), tags.get(r.id, [])) for r in rows]


def wanted(given: Any) -> image.NewImage:
    """A new image as a body asks for it. Raises BadRequest, Forbidden (what only the cloud sets)."""
    if not isinstance(given, dict):
        raise BadRequest("Malformed request body: an image is an object")
    for name in given:
        if name not in BASE:
            _writable(name)
    base = _base({k: v for k, v in given.items() if k in BASE})
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
        properties={k: _property(k, v) for k, v in given.items() if k not in BASE},
    )


class Images:
    """/v2/images"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        want = query.search(req)
        with self.cloud.db.read() as tx:
            rows = listed(tx, caller(req), want)
            images = shown(tx, rows)
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
            made = shown(tx, [row])[0]
        resp.status, resp.media = "201 Created", made
        resp.location = f"{base_url(req, self.cloud)}/image/v2/images/{row.id}"
        resp.set_header("OpenStack-image-import-methods", ",".join(METHODS))
        resp.set_header("OpenStack-image-store-ids", ",".join(STORES))


def _or(value: Any, default: Any) -> Any:
    return default if value is UNSET else value


class Image:
    """/v2/images/{image_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, image_id: str) -> None:
        with self.cloud.db.read() as tx:
            row = image.get(tx, caller(req), image_id)
            resp.media = shown(tx, [row])[0]

    def on_delete(self, req: Request, resp: Response, image_id: str) -> None:
        with self.cloud.db.begin() as tx:
            image.delete(tx, self.cloud, caller(req), image_id)
        resp.status = "204 No Content"

    def on_patch(self, req: Request, resp: Response, image_id: str) -> None:
        kind = (req.content_type or "").partition(";")[0].strip()
        if kind not in PATCH_TYPES:
            raise UnsupportedMediaType(
                f"Images are changed with a patch of type {PATCH_TYPES[0]}.",
                headers={"Accept-Patch": ", ".join(PATCH_TYPES)},
            )
        changes = _changes(json_body(req), old=kind == PATCH_TYPES[1])
        with self.cloud.db.begin() as tx:
            row = image.find(tx, caller(req), image_id)
            patched = _Patched(
                row, image.properties(tx, image_id), image.tags_of(tx, [image_id]).get(image_id, [])
            )
            for op, path, value in changes:
                patched.apply(op, path, value)
            row = image.update(
                tx,
                self.cloud,
                caller(req),
                row,
                columns=patched.columns,
                properties=patched.properties if patched.properties_changed else None,
                tags=patched.tags if patched.tags_changed else None,
            )
            resp.media = shown(tx, [row])[0]


Change = tuple[str, list[str], Any]


def _changes(given: Any, *, old: bool) -> list[Change]:
    """The operations of a patch as (operation, path, value). `old`: the form of before RFC 6902 is understood too."""
    if not isinstance(given, list):
        raise BadRequest("Request body must be a JSON array of operation objects.")
    made = []
    for change in given:
        if not isinstance(change, dict):
            raise BadRequest("Operations must be JSON objects.")
        op, path = change.get("op"), change.get("path")
        if old and op is None:
            named = [k for k in ("add", "replace", "remove") if k in change]
            if len(named) != 1:
                raise BadRequest(
                    "Operation objects must contain exactly one member named 'add', 'replace' or 'remove'."
                )
            op, path = named[0], change[named[0]]
        if op not in ("add", "replace", "remove"):
            raise BadRequest(f"Operations must be 'add', 'replace' or 'remove', not {str(op)[:64]!r}.")
        if not isinstance(path, str) or not path.startswith("/") or path.endswith("/") or "//" in path:
            raise BadRequest(f"Invalid JSON pointer for this resource: {str(path)[:64]!r}")
        if op != "remove" and "value" not in change:
            raise BadRequest("Operation objects of 'add' and 'replace' must contain a member named 'value'.")
        parts = [p.replace("~1", "/").replace("~0", "~") for p in path[1:].split("/")]
        if len(parts) > (2 if parts[0] == "tags" else 1) and parts[0] != "locations":
            raise BadRequest(f"Invalid JSON pointer for this resource: {path[:64]!r}")
        made.append((op, parts, change.get("value")))
    return made


class _Patched:
    """An image while a patch is applied to it."""

    def __init__(self, row: Row, properties: dict[str, str | None], tags: list[str]) -> None:
        self.row = row
        self.columns: dict[str, Any] = {}
        self.properties, self.properties_changed = dict(properties), False
        self.tags, self.tags_changed = list(tags), False

    def apply(self, op: str, path: list[str], value: Any) -> None:
        name = path[0]
        if name in BASE and name != "id":
            if op == "remove" and len(path) == 1:
                raise Forbidden(f"Property {name} may not be removed.")
            if len(path) == 2:
                self._tag(op, path[1], value)
                return
            self._set(name, value)
            return
        if name == "id":
            raise Forbidden("Attribute 'id' is read-only.")
        _writable(name)
        if op == "remove":
            if name not in self.properties:
                raise Conflict(f"Property {name} does not exist.")
            del self.properties[name]
        else:
            if op == "replace" and name not in self.properties:
                raise Conflict(f"Property {name} does not exist.")
            self.properties[name] = _property(name, value)
        self.properties_changed = True

    def _set(self, name: str, value: Any) -> None:
        base = _base({name: value})
        if name == "tags":
            self.tags, self.tags_changed = list(base.tags or []), True
            return
        column = {"owner": "project_id", "os_hidden": "hidden"}.get(name, name)
        if name == "owner" and value is None:
            raise BadRequest("Invalid input for field/attribute owner: an image has an owner")
        self.columns[column] = msgspec.to_builtins(getattr(base, name))

    def _tag(self, op: str, place: str, value: Any) -> None:
        if op == "add" and place == "-":
            place = str(len(self.tags))
        if not (place.isascii() and place.isdigit()) or len(place) > 4:
            _bad_place(place)
        at = int(place)
        if at > len(self.tags) - (op != "add"):
            _bad_place(place)
        if op != "add":
            self.tags.pop(at)
        if op != "remove":
            self.tags.insert(at, _base({"tags": [value]}).tags[0])  # type: ignore[index]
        self.tags_changed = True


def _bad_place(place: str) -> NoReturn:
    raise BadRequest(f"Invalid JSON pointer for this resource: '/tags/{place[:64]}'")


class Activation:
    """/v2/images/{image_id}/actions/deactivate and …/reactivate"""

    def __init__(self, cloud: Cloud, *, active: bool) -> None:
        self.cloud, self.active = cloud, active

    def on_post(self, req: Request, resp: Response, image_id: str) -> None:
        with self.cloud.db.begin() as tx:
            image.set_active(tx, self.cloud, caller(req), image_id, self.active)
        resp.status = "204 No Content"
