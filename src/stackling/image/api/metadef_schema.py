"""JSON schemas of metadata definitions."""

from typing import Any

_TYPES = ["array", "boolean", "integer", "number", "object", "string", "null"]
_NAME = {"type": "string", "maxLength": 80}
_WORDS = {"type": "array", "items": {"type": "string"}}
_COUNT = {"type": "integer", "minimum": 0}
_TIMES = {
    "created_at": {
        "type": "string",
        "readOnly": True,
        "format": "date-time",
        "description": "Time of creation",
    },
    "updated_at": {
        "type": "string",
        "readOnly": True,
        "format": "date-time",
        "description": "Time of the last change",
    },
}
_LINKS = {
    "self": {"type": "string", "readOnly": True, "description": "The path of this resource"},
    "schema": {"type": "string", "readOnly": True, "description": "The path of this schema"},
}

_DEFINITION: dict[str, Any] = {
    "name": _NAME,
    "title": {"type": "string"},
    "description": {"type": "string"},
    "type": {"type": "string", "enum": _TYPES},
    "operators": _WORDS,
    "default": {},
    "readonly": {"type": "boolean"},
    "minimum": {"type": "number"},
    "maximum": {"type": "number"},
    "enum": {"type": "array"},
    "pattern": {"type": "string", "format": "regex"},
    "minLength": _COUNT,
    "maxLength": _COUNT,
    "items": {
        "type": "object",
        "properties": {"type": {"type": "string", "enum": _TYPES}, "enum": {"type": "array"}},
    },
    "uniqueItems": {"type": "boolean", "default": False},
    "minItems": _COUNT,
    "maxItems": _COUNT,
    "additionalItems": {"type": "boolean"},
    "required": {**_WORDS, "uniqueItems": True},
}
_SCHEMAS_BY_NAME = {
    "type": "object",
    "additionalProperties": {"type": "object", "properties": _DEFINITION, "required": ["title", "type"]},
}


def _one(
    name: str, properties: dict[str, Any], required: list[str], *, links: bool = False
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": name,
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    if links:
        made["links"] = [{"rel": "self", "href": "{self}"}, {"rel": "describedby", "href": "{schema}"}]
    return made


def _many(name: str, one: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "properties": {
            name: {"type": "array", "items": one},
            "first": {"type": "string"},
            "next": {"type": "string"},
            "schema": {"type": "string"},
        },
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    }


_OBJECT = _one(
    "object",
    {
        "name": _NAME,
        "description": {"type": "string"},
        "required": {**_WORDS, "uniqueItems": True},
        "properties": _SCHEMAS_BY_NAME,
        **_TIMES,
        **_LINKS,
    },
    ["name"],
    links=True,
)
_PROPERTY = _one("property", _DEFINITION, ["name", "title", "type"])
_TAG = _one("tag", {"name": _NAME, **_TIMES}, ["name"])
_ASSOCIATION = _one(
    "resource_type_association",
    {
        "name": {**_NAME, "description": "Kind of resource, by its name in OS::Heat style"},
        "prefix": {**_NAME, "description": "What names of properties begin with on this kind of resource"},
        "properties_target": {**_NAME, "description": "Which properties of this kind of resource are meant"},
        **_TIMES,
    },
    ["name"],
)
_NAMESPACE = _one(
    "namespace",
    {
        "namespace": {**_NAME, "description": "The unique name"},
        "display_name": {**_NAME, "description": "The name shown to people"},
        "description": {"type": "string", "maxLength": 500},
        "visibility": {"type": "string", "enum": ["public", "private"]},
        "protected": {"type": "boolean", "description": "If true, namespace will not be deletable."},
        "owner": {"type": "string", "maxLength": 255},
        **_TIMES,
        **_LINKS,
        "resource_type_associations": {"type": "array", "items": _ASSOCIATION},
        "properties": _SCHEMAS_BY_NAME,
        "objects": {"type": "array", "items": _OBJECT},
        "tags": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
    },
    ["namespace"],
    links=True,
)

METADEFS: dict[str, dict[str, Any]] = {
    "metadefs/namespace": _NAMESPACE,
    "metadefs/namespaces": _many("namespaces", _NAMESPACE),
    "metadefs/resource_type": _ASSOCIATION,
    "metadefs/resource_types": _many("resource_type_associations", _ASSOCIATION),
    "metadefs/property": _PROPERTY,
    "metadefs/properties": {
        "name": "properties",
        "properties": {"properties": {"type": "object", "additionalProperties": _PROPERTY}},
        "links": _many("properties", {})["links"],
    },
    "metadefs/object": _OBJECT,
    "metadefs/objects": _many("objects", _OBJECT),
    "metadefs/tag": _TAG,
    "metadefs/tags": _many("tags", _TAG),
}
