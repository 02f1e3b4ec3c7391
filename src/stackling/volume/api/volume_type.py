"""Volume types, their extra specs, and access to private ones."""

from collections.abc import Sequence
from typing import Annotated, Any

from falcon import Request, Response
from msgspec import UNSET, Meta, UnsetType, field

from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.base.microversion import Body, Version
from stackling.base.rest import body, boolean, caller, convert, json_body, one_param, version
from stackling.volume.actions import volume_type
from stackling.volume.api import listing
from stackling.volume.api.body import Key, Lenient, Name, action, flag
from stackling.volume.state.volume_type import volume_type as table

_SORT_KEYS = {
    "id": "id",
    "name": "name",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "is_public": "is_public",
}
TypeName = Annotated[str, Meta(min_length=1, max_length=255)]
SpecItems = dict[
    Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9-_:. ]+$")],
    Annotated[str, Meta(max_length=255)],
]


class CreateType(Body):
    name: TypeName
    description: Name | None = None
    is_public: Lenient = field(default=True, name="os-volume-type-access:is_public")
    extra_specs: SpecItems | None = None


class UpdateType(Body):
    name: TypeName | UnsetType | None = UNSET
    description: Name | UnsetType | None = UNSET
    is_public: Lenient | UnsetType = UNSET


class ProjectAccess(Body):
    project: Key


def shown(tx: Tx, req: Request, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Many types, with a fixed number of statements."""
    who = caller(req)
    specs = volume_type.specs_of(tx, [r.id for r in rows])
    made = []
    for row in rows:
        one: dict[str, Any] = {
            "id": row.id,
            "name": row.name,
            "description": row.description,
            "is_public": row.is_public,
            "os-volume-type-access:is_public": row.is_public,
        }
        seen = volume_type.shown_specs(who, specs.get(row.id, {}))
        if seen is not None:
            one["extra_specs"] = seen
        if who.can("volume_extension:access_types_qos_specs_id"):
            one["qos_specs_id"] = row.qos_specs_id
        made.append(one)
    return made


class Types:
    """/v3/types"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        want = listing.paging(req, _SORT_KEYS)
        word = (one_param(req, "is_public") or "true").lower()
        is_public = None if word == "none" else boolean(word, "is_public")
        specs = one_param(req, "extra_specs") if version(req) >= Version(3, 52) else None
        sort = [(table.c[key], down) for key, down in want.sort]
        if not any(key == "id" for key, _ in want.sort):
            sort.append((table.c.id, want.sort[-1][1]))
        with self.cloud.db.read() as tx:
            rows = volume_type.listed(
                tx,
                caller(req),
                is_public=is_public,
                sort=sort,
                name=one_param(req, "name"),
                specs=listing.literal(specs, "extra_specs") if specs else None,
                limit=want.limit + want.offset,
                marker=want.marker,
            )[want.offset :]
            made = shown(tx, req, rows)
        resp.media = listing.collection(req, self.cloud, "volume_types", made, rows, want)
        if "volume_types_links" in resp.media:
            resp.media["volume_type_links"] = resp.media.pop("volume_types_links")

    def on_post(self, req: Request, resp: Response) -> None:
        given = body(req, CreateType, key="volume_type")
        if not given.name.strip():
            raise BadRequest("Invalid input for field/attribute name: a type's name must not be blank")
        with self.cloud.db.begin() as tx:
            row = volume_type.create(
                tx,
                self.cloud,
                caller(req),
                name=given.name.strip(),
                description=given.description,
                is_public=flag(given.is_public, "os-volume-type-access:is_public"),
                specs=given.extra_specs or {},
            )
            made = shown(tx, req, [row])[0]
        made.pop("qos_specs_id", None)
        resp.media = {"volume_type": made}


class Type:
    """/v3/types/{type_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, type_id: str) -> None:
        with self.cloud.db.read() as tx:
            who = caller(req)
            row = (
                volume_type.default(tx, self.cloud)
                if type_id == "default"
                else volume_type.get(tx, who, type_id)
            )
            resp.media = {"volume_type": shown(tx, req, [row])[0]}

    def on_put(self, req: Request, resp: Response, type_id: str) -> None:
        given = body(req, UpdateType, key="volume_type")
        columns: dict[str, Any] = {}
        if given.name is not UNSET and given.name is not None:
            if not str(given.name).strip():
                raise BadRequest("Invalid input for field/attribute name: a type's name must not be blank")
            columns["name"] = str(given.name).strip()
        if given.description is not UNSET:
            columns["description"] = given.description
        if given.is_public is not UNSET:
            columns["is_public"] = flag(given.is_public, "is_public")
        if not columns:
            raise BadRequest("Specify volume type name, description, is_public or a combination thereof.")
        with self.cloud.db.begin() as tx:
            row = volume_type.update(tx, self.cloud, caller(req), type_id, columns)
            made = shown(tx, req, [row])[0]
        resp.media = {"volume_type": {k: v for k, v in made.items() if ":" not in k and k != "qos_specs_id"}}

    def on_delete(self, req: Request, resp: Response, type_id: str) -> None:
        with self.cloud.db.begin() as tx:
            volume_type.delete(tx, self.cloud, caller(req), type_id)
        resp.status = "202 Accepted"


class Actions:
    """/v3/types/{type_id}/action"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_post(self, req: Request, resp: Response, type_id: str) -> None:
        name, given = action(req)
        known = {"addProjectAccess": volume_type.add_access, "removeProjectAccess": volume_type.remove_access}
        if name not in known:
            raise BadRequest(f"There is no such action: {name[:64]}")
        project_id = convert(given, ProjectAccess).project
        if len(project_id) > 64:
            raise BadRequest(
                "Invalid input for field/attribute project: a project id has at most 64 characters"
            )
        with self.cloud.db.begin() as tx:
            known[name](tx, caller(req), type_id, project_id)
        resp.status = "202 Accepted"


class Access:
    """/v3/types/{type_id}/os-volume-type-access"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, type_id: str) -> None:
        with self.cloud.db.read() as tx:
            found = volume_type.access(tx, caller(req), type_id)
        resp.media = {"volume_type_access": [{"volume_type_id": type_id, "project_id": p} for p in found]}


class Specs:
    """/v3/types/{type_id}/extra_specs"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, type_id: str) -> None:
        with self.cloud.db.read() as tx:
            resp.media = {"extra_specs": volume_type.specs(tx, caller(req), type_id)}

    def on_post(self, req: Request, resp: Response, type_id: str) -> None:
        wanted: dict[str, str] = convert(json_body(req), SpecItems, key="extra_specs")
        with self.cloud.db.begin() as tx:
            volume_type.set_specs(tx, caller(req), type_id, wanted)
        resp.media = {"extra_specs": wanted}


class Spec:
    """/v3/types/{type_id}/extra_specs/{key}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, type_id: str, key: str) -> None:
        with self.cloud.db.read() as tx:
            found = volume_type.specs(tx, caller(req), type_id)
        if key not in found:
            raise NotFound(f"Volume Type {type_id} has no extra specs with key {key[:64]}.")
        resp.media = {key: found[key]}

    def on_put(self, req: Request, resp: Response, type_id: str, key: str) -> None:
        wanted: dict[str, str] = convert(json_body(req), SpecItems)
        if list(wanted) != [key]:
            raise BadRequest("Request body contains too many items or none that the URI names")
        with self.cloud.db.begin() as tx:
            volume_type.set_specs(tx, caller(req), type_id, wanted, "update")
        resp.media = wanted

    def on_delete(self, req: Request, resp: Response, type_id: str, key: str) -> None:
        with self.cloud.db.begin() as tx:
            volume_type.remove_spec(tx, caller(req), type_id, key)
        resp.status = "202 Accepted"
