"""Values as clients write them: numbers and booleans that may be texts, names, addresses."""

import base64
import binascii
import ipaddress
import re
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from stackling.base.errors import BadRequest
from stackling.base.rest import boolean

Unset = UnsetType
Name = Annotated[str, Meta(min_length=1, max_length=255)]
Whole = int | Annotated[str, Meta(pattern=r"^-?[0-9]+$", max_length=12)]
Flag = bool | str
Id = Annotated[
    str, Meta(pattern=r"^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$")
]
Key = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9\-_:. ]{1,255}$")]
Items = dict[Key, Annotated[str, Meta(max_length=255)]]
Tag = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[^,/]*$")]
Hostname = Annotated[
    str, Meta(min_length=2, max_length=63, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]\Z")
]
DeviceTag = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[^,/]*$")]


def present(value: Any) -> bool:
    return value is not UNSET and value is not None


def or_none(value: Any) -> Any:
    return None if value is UNSET else value


def first(*values: Any) -> Any:
    """The first that was sent (fields of different versions that share a name)."""
    return next((v for v in values if v is not UNSET), None)


def whole(value: Any, name: str, *, least: int = 0, most: int = 2**31 - 1) -> int:
    """A number, or a text of digits. Raises BadRequest naming the field."""
    number = int(value)
    if isinstance(value, bool) or not least <= number <= most:
        raise BadRequest(
            f"Invalid input for field/attribute {name}. Value: {str(value)[:32]}. It must be from {least} to {most}"
        )
    return number


def flag(value: Any, name: str) -> bool:
    """A boolean, or a text that means one; unset is False. Raises BadRequest."""
    return present(value) and boolean(value, name)


def name_of(text: str, field: str = "name") -> str:
    """A name without blanks around it that can be printed. Raises BadRequest."""
    if text != text.strip() or not text or not text.isprintable():
        raise BadRequest(
            f"Invalid input for field/attribute {field}. Value: {text[:64]!r}. It must have printable characters and no blanks at either end"
        )
    return text


def address_of(value: Any, version: int, name: str) -> str:
    """An IP address in its usual form, "" for none. Raises BadRequest."""
    if not present(value) or value == "":
        return ""
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        found = None
    if found is None or found.version != version:
        raise BadRequest(
            f"Invalid input for field/attribute {name}. Value: {str(value)[:64]}. '{str(value)[:64]}' is not a 'ipv{version}'"
        )
    return str(found)


def user_data_of(value: Any) -> str | None:
    """Base64 as it came. Raises BadRequest when it is none, or too long."""
    if not present(value):
        return None
    if len(value) > 65535:
        raise BadRequest("Invalid input for field/attribute user_data: it is longer than 65535 characters")
    try:
        base64.b64decode(re.sub(r"\s", "", value), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("Invalid input for field/attribute user_data: it is not 'base64'") from None
    return re.sub(r"\s", "", str(value))
