"""Pieces that request bodies of this API are made of."""

from typing import Annotated, Any, TypeVar

from falcon import Request
from msgspec import Meta, Struct
from msgspec.structs import fields

from stackling.base.errors import BadRequest
from stackling.base.rest import boolean, convert, json_body, version

T = TypeVar("T", bound=Struct)

Name = Annotated[str, Meta(max_length=255)]
Key = Annotated[str, Meta(min_length=1, max_length=255)]
Items = dict[Key, Annotated[str, Meta(max_length=255)]]
Lenient = bool | str | int  # what `boolean` understands


def flag(value: Lenient, name: str) -> bool:
    return boolean(value, name)


def gib(value: int | str, name: str) -> int:
    """A size in GiB, a number or its digits. Raises BadRequest naming the field."""
    try:
        size = int(value) if len(str(value)) < 10 else 0
    except ValueError:
        size = 0
    if size < 1:
        raise BadRequest(
            f"Invalid input for field/attribute {name}: {str(value)[:64]!r} is not a whole number of GiB from 1 on"
        )
    return size


def loose(req: Request, kind: type[T], key: str, *, strict_from: Any = None) -> tuple[T, dict[str, Any]]:
    """The object under `key` as `kind`, and what stands beside it.

    Below `strict_from` fields that nobody knows are ignored, which upstream did until then.
    """
    given = json_body(req)
    if not isinstance(given, dict) or not isinstance(given.get(key), dict):
        raise BadRequest(
            f"Invalid input for field/attribute {key}: '{key}' is a required property and an object"
        )
    inner = given[key]
    if strict_from is None or version(req) < strict_from:
        known = {f.encode_name for f in fields(kind)}
        inner = {k: v for k, v in inner.items() if k in known}
    return convert(inner, kind, version=version(req)), {k: v for k, v in given.items() if k != key}


def action(req: Request) -> tuple[str, Any]:
    """The one action that a body names, and its arguments."""
    given = json_body(req)
    if not isinstance(given, dict) or len(given) != 1:
        raise BadRequest("Malformed request body: it must name exactly one action")
    name, arguments = next(iter(given.items()))
    return name, arguments
