"""What metadata definitions look like on the wire, coming in and going out."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

import msgspec
from falcon import Request
from msgspec import UNSET, Meta, Struct, UnsetType, field

from stackling.base.clock import zulu
from stackling.base.db import Row
from stackling.base.errors import BadRequest, Forbidden
from stackling.base.rest import convert, integer, json_body
from stackling.image.actions import metadef_definition
from stackling.image.state.metadef import Visibility

T = TypeVar("T")

ROOT = "/v2/metadefs/namespaces"
MOST = 1000
READ_ONLY = ("self", "schema", "created_at", "updated_at")

# A name is one segment of a path.
Name = Annotated[str, Meta(min_length=1, max_length=80, pattern=r"^[^/]*$")]
Short = Annotated[str, Meta(max_length=80)]
Text = Annotated[str, Meta(max_length=65535)]
Count = Annotated[int, Meta(ge=0)]
Type = Literal["array", "boolean", "integer", "number", "object", "string", "null"]


class Items(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What the members of an array are."""

    type: Type | UnsetType = UNSET
    enum: list[Any] | UnsetType = UNSET


class Schema(Struct, kw_only=True, forbid_unknown_fields=True):
    """The definition of a property: a piece of JSON schema."""

    title: Text
    type: Type
    name: Name | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    operators: list[str] | UnsetType = UNSET
    default: Any = UNSET
    readonly: bool | UnsetType = UNSET
    minimum: int | float | UnsetType = UNSET
    maximum: int | float | UnsetType = UNSET
    enum: list[Any] | UnsetType = UNSET
    pattern: Text | UnsetType = UNSET
    min_length: Count | UnsetType = field(default=UNSET, name="minLength")
    max_length: Count | UnsetType = field(default=UNSET, name="maxLength")
    items: Items | UnsetType = UNSET
    unique_items: bool | UnsetType = field(default=UNSET, name="uniqueItems")
    min_items: Count | UnsetType = field(default=UNSET, name="minItems")
    max_items: Count | UnsetType = field(default=UNSET, name="maxItems")
    additional_items: bool | UnsetType = field(default=UNSET, name="additionalItems")
    required: list[str] | UnsetType = UNSET


class NamedSchema(Schema, kw_only=True, forbid_unknown_fields=True):
    """A property that stands by itself."""

    name: Name


class Object(Struct, kw_only=True, forbid_unknown_fields=True):
    """A group of properties."""

    name: Name
    description: Text | None = None
    required: list[str] = []
    properties: dict[Name, Schema] = {}


class Tag(Struct, forbid_unknown_fields=True):
    """A tag."""

    name: Name


class Tags(Struct, forbid_unknown_fields=True):
    """Several tags."""

    tags: list[Tag]


class Association(Struct, kw_only=True, forbid_unknown_fields=True):
    """A kind of resource that a namespace is about."""

    name: Name
    prefix: Short | None = None
    properties_target: Short | None = None


class Namespace(Struct, kw_only=True, forbid_unknown_fields=True):
    """A namespace, on creation with what it defines."""

    namespace: Name
    display_name: Short | None = None
    description: Annotated[str, Meta(max_length=500)] | None = None
    visibility: Visibility = Visibility.PRIVATE
    protected: bool = False
    owner: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    resource_type_associations: list[Association] = []
    objects: list[Object] = []
    properties: dict[Name, Schema] = {}
    tags: list[Tag] = []


def sent(req: Request, kind: type[T]) -> T:
    """The body as `kind`. Raises Forbidden when it sets what only the cloud sets, BadRequest naming a wrong field."""
    given = json_body(req)
    if isinstance(given, dict):
        for name in READ_ONLY:
            if name in given:
                raise Forbidden(f"Attribute '{name}' is read-only.")
    return convert(given, kind)


# -- columns -----------------------------------------------------------------------------------------------------------


def schema_columns(name: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "schema": _plain(schema)}


def _plain(schema: Schema) -> dict[str, Any]:
    if (
        schema.min_length is not UNSET
        and schema.max_length is not UNSET
        and schema.min_length > schema.max_length
    ):
        raise BadRequest("Invalid input for field/attribute minLength: it is more than maxLength")
    made: dict[str, Any] = msgspec.to_builtins(schema)
    made.pop("name", None)
    return made


def object_columns(given: Object) -> dict[str, Any]:
    properties = {name: _plain(schema) for name, schema in given.properties.items()}
    return {
        "name": given.name,
        "description": given.description,
        "required": given.required,
        "properties": properties,
    }


# -- views -------------------------------------------------------------------------------------------------------------


def path(namespace: str, *more: str) -> str:
    return "/".join([ROOT, *(quote(part, safe=":") for part in (namespace, *more))])


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    """Only what is set: the schemas know no null."""
    return {k: v for k, v in values.items() if v is not None}


def _times(row: Row) -> dict[str, Any]:
    return {"created_at": zulu(row.created_at), "updated_at": zulu(row.updated_at or row.created_at)}


def association_view(row: Row) -> dict[str, Any]:
    return _filled(
        {
            "name": row.resource_type,
            "prefix": row.prefix,
            "properties_target": row.properties_target,
            **_times(row),
        }
    )


def object_view(namespace: str, row: Row, prefix: str = "") -> dict[str, Any]:
    return _filled(
        {
            "name": row.name,
            "description": row.description,
            "required": [prefix + name for name in row.required],
            "properties": {prefix + name: schema for name, schema in row.properties.items()},
            **_times(row),
            "self": path(namespace, "objects", row.name),
            "schema": "/v2/schemas/metadefs/object",
        }
    )


def property_view(row: Row) -> dict[str, Any]:
    return {"name": row.name, **row.schema}


def tag_view(row: Row) -> dict[str, Any]:
    return {"name": row.name, **_times(row)}


def namespace_view(row: Row, associations: Sequence[Row] = ()) -> dict[str, Any]:
    made = {
        "namespace": row.name,
        "display_name": row.display_name,
        "description": row.description,
        "visibility": row.visibility,
        "protected": row.protected,
        "owner": row.project_id,
        **_times(row),
        "self": path(row.name),
        "schema": "/v2/schemas/metadefs/namespace",
    }
    if associations:
        made["resource_type_associations"] = [association_view(a) for a in associations]
    return _filled(made)


# -- queries -----------------------------------------------------------------------------------------------------------


def last(req: Request, name: str) -> str | None:
    values = req.get_param_as_list(name)
    return values[-1] if values else None


def sorting(req: Request, keys: Sequence[str]) -> tuple[str, bool]:
    """The sort key and whether it falls. Raises BadRequest."""
    key, way = last(req, "sort_key") or "created_at", last(req, "sort_dir") or "desc"
    if key not in keys:
        raise BadRequest(f"Invalid sort key: {key[:64]!r}. It must be one of {', '.join(keys)}.")
    if way not in ("asc", "desc"):
        raise BadRequest(f"Invalid sort direction: {way[:64]!r}")
    return key, way == "desc"


def limit(req: Request, default: int | None) -> int | None:
    text = last(req, "limit")
    return default if text is None else min(integer(text, "limit"), MOST)


def search(req: Request) -> metadef_definition.Search:
    key, falling = sorting(req, metadef_definition.SORT_KEYS)
    return metadef_definition.Search(
        sort_key=key, falling=falling, limit=limit(req, None), marker=last(req, "marker")
    )
