"""Bodies of the network API: attributes checked by name, strings taken where Neutron takes them, errors in its words."""

import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import msgspec
from falcon import Request
from msgspec import UnsetType

from stackling.base import rest
from stackling.base.errors import BadRequest

T = TypeVar("T")

_LONGEST = {
    "name": 255, "description": 255, "device_id": 255, "device_owner": 255, "dns_name": 63, "dns_domain": 255, "host": 255,
}  # fmt: skip


def one(req: Request, key: str) -> Any:
    """What stands under `key`, the only key. Raises BadRequest."""
    whole = rest.json_body(req)
    if not isinstance(whole, dict) or set(whole) != {key} or not isinstance(whole[key], dict):
        raise BadRequest(f"Unable to find '{key}' in request body, or other keys stand beside it")
    return whole[key]


def convert(given: Any, kind: type[T], wire: Mapping[str, str], known: frozenset[str] = frozenset()) -> T:
    """The attributes `given` as `kind`. `wire` maps names on the wire to the struct's where they differ; an attribute
    that is `known` but not in the struct can be seen, not set.

    Raises BadRequest naming the attribute that is unknown, read-only, missing, or of a wrong type.
    """
    if not isinstance(given, dict):
        raise BadRequest(f"Invalid input for operation: {kind.__name__} is not an object.")
    fields = _fields(cast(Any, kind))
    hidden = set(wire.values())
    values: dict[str, Any] = {}
    for name, value in given.items():
        attr = wire.get(name, name)
        if attr not in fields or (name in hidden and name not in wire):
            if name in known:
                raise BadRequest(
                    f"Attribute '{name}' not allowed in {'PUT' if kind.__name__.endswith('Changes') else 'POST'}"
                )
            raise BadRequest(f"Unrecognized attribute(s) '{name[:64]}'")
        _check_length(name, attr, value)
        values[attr] = _boolean(name, value) if fields[attr] else value
    names = {attr: name for name, attr in wire.items()}
    try:
        return msgspec.convert(values, kind, strict=False, str_keys=True)
    except msgspec.ValidationError as e:
        raise BadRequest(_explain(str(e), names)) from None
    except (RecursionError, OverflowError, ValueError):
        raise BadRequest("Invalid input for operation: a value can't be kept.") from None


def _check_length(name: str, attr: str, value: Any) -> None:
    if isinstance(value, str) and len(value) > _LONGEST.get(attr, 1024):
        raise BadRequest(
            f"Invalid input for {name}. Reason: '{value[:32]}…' exceeds maximum length of {_LONGEST.get(attr, 1024)}."
        )
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**31) <= value < 2**31:
        raise BadRequest(f"Invalid input for {name}. Reason: {value} is out of range.")
    if isinstance(value, list) and len(value) > 1000:
        raise BadRequest(f"Invalid input for {name}. Reason: more than 1000 entries.")


def _boolean(name: str, value: Any) -> Any:
    if value is None or isinstance(value, (dict, list, float)):
        raise BadRequest(
            f"Invalid input for {name}. Reason: '{str(value)[:64]}' cannot be converted to boolean."
        )
    try:
        return rest.boolean(value, name)
    except BadRequest:
        raise BadRequest(
            f"Invalid input for {name}. Reason: '{str(value)[:64]}' cannot be converted to boolean."
        ) from None


@functools.cache
def _fields(kind: type) -> dict[str, bool]:
    """The struct's attributes; True for those that are booleans and nothing else."""
    hints = typing.get_type_hints(kind)
    return {name: _is_boolean(hint) for name, hint in hints.items()}


def _is_boolean(hint: Any) -> bool:
    if hint is bool:
        return True
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = set(typing.get_args(hint)) - {UnsetType}
        return parts == {bool}
    return False


def _explain(says: str, names: Mapping[str, str]) -> str:
    what, _, where = says.partition(" - at `$")
    path = where.rstrip("`").lstrip(".")
    if "missing required field" in what:
        attr = what.rpartition(" ")[2].strip("`")
        return f"Failed to parse request. Required attribute '{names.get(attr, attr)}' not specified"
    if "unknown field" in what:
        return f"Invalid input for {path}. Reason: {what}."
    first = path.partition(".")[0].partition("[")[0]
    return f"Invalid input for {names.get(first, first)}{path[len(first) :]}. Reason: {what}."


def words(given: Any, name: str) -> list[str]:
    """A list of strings. Raises BadRequest."""
    if not isinstance(given, list) or not all(isinstance(w, str) for w in given):
        raise BadRequest(f"Invalid input for {name}. Reason: not a list of strings.")
    return given


def struct_list(given: Any, kind: type[T], name: str) -> list[T]:
    """A list of `kind`. Raises BadRequest."""
    try:
        return msgspec.convert(given, list[kind])  # type: ignore[valid-type]
    except msgspec.ValidationError as e:
        raise BadRequest(f"Invalid input for {name}. Reason: {e}.") from None
