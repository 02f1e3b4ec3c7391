"""Changing an image by a JSON patch (RFC 6902, and the form of before it)."""

from typing import Any, NoReturn

import msgspec
from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, Forbidden, UnsupportedMediaType
from stackling.base.rest import caller, convert, json_body
from stackling.image.actions import image, location_change, protection, web
from stackling.image.actions.location_change import Place
from stackling.image.api import image as image_api
from stackling.image.api.image import BASE, base_of, property_of, shown, writable

PATCH_TYPES = ("application/openstack-images-v2.1-json-patch", "application/openstack-images-v2.0-json-patch")

Change = tuple[str, list[str], Any]


def changes_of(given: Any, *, old: bool) -> list[Change]:
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
        if len(parts) > (2 if parts[0] in ("tags", "locations") else 1):
            raise BadRequest(f"Invalid JSON pointer for this resource: {path[:64]!r}")
        made.append((op, parts, change.get("value")))
    return made


class _Patched:
    """An image while a patch is applied to it."""

    def __init__(self, properties: dict[str, str | None], tags: list[str]) -> None:
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
        writable(name)
        if op == "remove":
            if name not in self.properties:
                raise Conflict(f"Property {name} does not exist.")
            del self.properties[name]
        else:
            if op == "replace" and name not in self.properties:
                raise Conflict(f"Property {name} does not exist.")
            self.properties[name] = property_of(name, value)
        self.properties_changed = True

    def _set(self, name: str, value: Any) -> None:
        base = base_of({name: value})
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
            self.tags[at:at] = base_of({"tags": [value]}).tags or []
        self.tags_changed = True


def _bad_place(place: str) -> NoReturn:
    raise BadRequest(f"Invalid JSON pointer for this resource: '/tags/{place[:64]}'")


def place_of(value: Any) -> Place:
    """A location as users write it. Raises BadRequest."""
    if isinstance(value, dict) and value.get("validation_data") == {}:
        value = {k: v for k, v in value.items() if k != "validation_data"}
    return convert(value, Place)


class Patch:
    """Applies the patch of one request."""

    def __init__(self, cloud: Cloud, req: Request, image_id: str) -> None:
        kind = (req.content_type or "").partition(";")[0].strip()
        if kind not in PATCH_TYPES:
            raise UnsupportedMediaType(
                f"Images are changed with a patch of type {PATCH_TYPES[0]}.",
                headers={"Accept-Patch": ", ".join(PATCH_TYPES)},
            )
        self.cloud, self.caller, self.image_id = cloud, caller(req), image_id
        self.changes = changes_of(json_body(req), old=kind == PATCH_TYPES[1])
        self._sizes: dict[str, int | None] = {}

    def look(self) -> None:
        """Ask the web how much lies at the locations that are added; no transaction is open meanwhile."""
        added = [
            place_of(value).url
            for op, path, value in self.changes
            if op == "add" and path[0] == "locations" and len(path) == 2
        ]
        if not added:
            return
        with self.cloud.db.read() as tx:
            location_change.may_add(tx, self.cloud, self.caller, self.image_id)
        for url in added:
            location_change.check_url(self.cloud, url)
            self._sizes[url] = web.size(self.cloud, url)

    def apply(self, tx: Tx) -> Row:
        """All of it, or an error and nothing."""
        row = image.find(tx, self.caller, self.image_id)
        seen = protection.of(self.cloud).readable(self.caller, image.properties(tx, row.id))
        patched = _Patched(seen, image.tags_of(tx, [row.id]).get(row.id, []))
        for op, path, value in self.changes:
            if path[0] == "locations":
                row = self._locate(tx, row, op, path, value)
            else:
                patched.apply(op, path, value)
        return image.update(
            tx,
            self.cloud,
            self.caller,
            row,
            columns=patched.columns,
            properties=patched.properties if patched.properties_changed else None,
            tags=patched.tags if patched.tags_changed else None,
        )

    def _locate(self, tx: Tx, row: Row, op: str, path: list[str], value: Any) -> Row:
        if len(path) == 1:
            if op != "replace" or not isinstance(value, list):
                raise BadRequest(
                    "Locations are added at /locations/-, removed at /locations/N, and replaced with a list."
                )
            places = [place_of(v) for v in value]
            plain = [{"url": p.url, "metadata": p.metadata} for p in places]
            location_change.replace(tx, self.cloud, self.caller, row, plain)
            return row
        if op == "replace":
            raise BadRequest(
                "Invalid JSON pointer for this resource: a location is replaced with its whole list"
            )
        if op == "remove":
            location_change.remove(tx, self.cloud, self.caller, row, _index(path[1]))
            return row
        place = place_of(value)
        at = None if path[1] == "-" else _index(path[1])
        return location_change.add(tx, self.cloud, self.caller, row, place, self._sizes[place.url], at)


def _index(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 4:
        raise BadRequest(f"Invalid JSON pointer for this resource: '/locations/{text[:64]}'")
    return int(text)


class Image(image_api.Image):
    """/v2/images/{image_id}"""

    def on_patch(self, req: Request, resp: Response, image_id: str) -> None:
        patch = Patch(self.cloud, req, image_id)
        patch.look()
        with self.cloud.db.begin() as tx:
            resp.media = shown(tx, self.cloud, patch.caller, [patch.apply(tx)])[0]
