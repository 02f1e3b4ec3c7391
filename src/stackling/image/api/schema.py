"""JSON schemas of what this API sends."""

from typing import Any

from falcon import Request, Response

from stackling.image.actions.image import CONTAINER_FORMATS
from stackling.image.api.metadef_schema import METADEFS
from stackling.image.api.task_schema import TASKS
from stackling.image.inspection import DISK_FORMATS
from stackling.image.state.image import State, Visibility
from stackling.image.state.member import Status

_UUID = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"


def _text(
    says: str, *, null: bool = False, most: int | None = None, only: Any = None, read_only: bool = False
) -> dict[str, Any]:
    made: dict[str, Any] = {"type": ["null", "string"] if null else "string", "description": says}
    if most:
        made["maxLength"] = most
    if only:
        made["enum"] = [None, *only] if null else list(only)
    if read_only:
        made["readOnly"] = True
    return made


def _number(says: str, *, null: bool = False, read_only: bool = False) -> dict[str, Any]:
    made: dict[str, Any] = {"type": ["null", "integer"] if null else "integer", "description": says}
    if read_only:
        made["readOnly"] = True
    return made


_LOCATION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "url": _text("Where the data is", most=2048),
        "metadata": {"type": "object"},
        "validation_data": {
            "type": "object",
            "description": "What the data's hashes are; it must be what the image has if it has data already",
            "writeOnly": True,
            "additionalProperties": False,
            "properties": {
                "checksum": {"type": "string", "minLength": 32, "maxLength": 32},
                "os_hash_algo": {"type": "string", "maxLength": 64},
                "os_hash_value": {"type": "string", "maxLength": 128},
            },
            "required": ["os_hash_algo", "os_hash_value"],
        },
    },
    "required": ["url"],
}

IMAGE: dict[str, Any] = {
    "name": "image",
    "properties": {
        "id": {**_text("An identifier for the image"), "pattern": _UUID},
        "name": _text("Descriptive name for the image", null=True, most=255),
        "status": _text("Status of the image", only=State, read_only=True),
        "visibility": _text("Scope of image accessibility", only=Visibility),
        "owner": _text("Project that owns the image", null=True, most=255),
        "protected": {"type": "boolean", "description": "If true, image will not be deletable."},
        "os_hidden": {
            "type": "boolean",
            "description": "If true, image will not appear in default image list response.",
        },
        "disk_format": _text("Format of the disk", null=True, only=DISK_FORMATS),
        "container_format": _text("Format of the container", null=True, only=CONTAINER_FORMATS),
        "min_disk": _number("GiB of disk that the image needs"),
        "min_ram": _number("MiB of memory that the image needs"),
        "size": _number("Size of image file in bytes", null=True, read_only=True),
        "virtual_size": _number("Size of the disk in bytes", null=True, read_only=True),
        "checksum": _text("MD5 of the image's data", null=True, most=32, read_only=True),
        "os_hash_algo": _text("Algorithm of os_hash_value", null=True, most=64, read_only=True),
        "os_hash_value": _text("Hash of the image's data", null=True, most=128, read_only=True),
        "tags": {
            "type": "array",
            "items": {"type": "string", "maxLength": 255},
            "description": "List of strings related to the image",
        },
        "created_at": _text("Time of registration", read_only=True),
        "updated_at": _text("Time of the last change", read_only=True),
        "stores": _text("Stores in which the image's data is", read_only=True),
        "locations": {
            "type": "array",
            "items": _LOCATION,
            "description": "URLs at which the image's data is",
        },
        "self": _text("The image's path", read_only=True),
        "file": _text("The path of the image's data", read_only=True),
        "schema": _text("The path of this schema", read_only=True),
        "architecture": {**_text("Operating system architecture"), "is_base": False},
        "os_distro": {**_text("Common name of the operating system distribution"), "is_base": False},
        "os_version": {**_text("Operating system version"), "is_base": False},
        "instance_uuid": {**_text("Server that the image was made from"), "is_base": False},
        "kernel_id": {**_text("Image of the kernel", null=True), "is_base": False},
        "ramdisk_id": {**_text("Image of the ramdisk", null=True), "is_base": False},
    },
    "additionalProperties": {"type": "string"},
    "links": [
        {"rel": "self", "href": "{self}"},
        {"rel": "enclosure", "href": "{file}"},
        {"rel": "describedby", "href": "{schema}"},
    ],
}

MEMBER: dict[str, Any] = {
    "name": "member",
    "properties": {
        "image_id": {**_text("An identifier for the image"), "pattern": _UUID},
        "member_id": _text("Project that the image is shared with"),
        "status": _text("Whether the project accepted", only=Status),
        "created_at": _text("Time of sharing"),
        "updated_at": _text("Time of the last change"),
        "schema": _text("The path of this schema", read_only=True),
    },
}


def _many(one: dict[str, Any], name: str, links: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {name: {"type": "array", "items": one}, "schema": {"type": "string"}}
    made = {"name": name, "properties": properties, "links": [{"rel": "describedby", "href": "{schema}"}]}
    if links:
        properties |= {"first": {"type": "string"}, "next": {"type": "string"}}
        made["links"] = [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            *made["links"],
        ]
    return made


SCHEMAS = {
    **METADEFS,
    **TASKS,
    "image": IMAGE,
    "images": _many(IMAGE, "images", True),
    "member": MEMBER,
    "members": _many(MEMBER, "members", False),
}


class Schema:
    """/v2/schemas/{name}"""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_get(self, req: Request, resp: Response) -> None:
        resp.media = SCHEMAS[self.name]
