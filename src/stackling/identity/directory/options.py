"""A domain's `ldap` options as somebody wrote them, checked."""

import re
import typing
import urllib.parse
from typing import Any

import msgspec

from stackling.base.directory import Directory

_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]*(;[A-Za-z0-9-]+)*|[0-9]+(\.[0-9]+)*")
_LISTS = tuple(
    name for name, hint in typing.get_type_hints(Directory).items() if typing.get_origin(hint) is tuple
)


class Invalid(ValueError):
    """An option can't be used; the text names it."""


def read(options: dict[str, Any]) -> Directory:
    """The options with their defaults. Texts that stand for numbers and truths are taken. Raises Invalid."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in _LISTS:
        if isinstance(given.get(name), str):
            given[name] = [part.strip() for part in given[name].split(",") if part.strip()]
    try:
        made = msgspec.convert(given, Directory, strict=False)
    except msgspec.ValidationError as e:
        says, _, where = str(e).rpartition(" - at `$.")
        raise Invalid(f"ldap.{where.rstrip('`')}: {says}" if says else str(e)) from None
    return made


def check(made: Directory) -> None:
    """Raises Invalid for what a search or a connection can't be made with."""
    _check_address(made)
    check_names(made)


def _check_address(made: Directory) -> None:
    urls = [part for part in re.split(r"[\s,]+", made.url) if part]
    for url in urls:
        try:
            parts = urllib.parse.urlsplit(url)
            usable = parts.scheme in ("ldap", "ldaps") and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise Invalid("ldap.url: it is an ldap:// or ldaps:// URL")
        if parts.scheme == "ldaps" and made.use_tls:
            raise Invalid("ldap.use_tls: an ldaps:// URL has TLS already")
    if not urls:
        raise Invalid("ldap.url: it is an ldap:// or ldaps:// URL")


def check_names(made: Directory) -> None:
    """Raises Invalid for what a search can't be made of: names of attributes, filters, mappings."""
    for name in Directory.__struct_fields__:
        value = getattr(made, name)
        if (
            name.endswith(("_attribute", "_objectclass"))
            and value is not None
            and not _ATTRIBUTE.fullmatch(value)
        ):
            raise Invalid(f"ldap.{name}: {value[:64]!r} is not the name of an attribute or class")
        if name.endswith("_attribute_mapping"):
            for one in value:
                source, _, shown = one.partition(":")
                if not _ATTRIBUTE.fullmatch(source) or not shown or shown in _OWN:
                    raise Invalid(f"ldap.{name}: {one[:64]!r} is not `ldap_attribute:other_attribute`")
        if name in ("user_filter", "group_filter") and value and not _is_filter(value):
            raise Invalid(f"ldap.{name}: {value[:64]!r} is not one filter in parentheses")
    if made.user_enabled_mask and not str(made.user_enabled_default).isdigit():
        raise Invalid("ldap.user_enabled_default: with user_enabled_mask it is a number, such as 512")


# What an additional attribute can't pass itself off as.
_OWN = frozenset(
    ("id", "name", "domain_id", "enabled", "password", "options", "links", "federated", "password_expires_at",
     "default_project_id", "description", "email")
)  # fmt: skip


def _is_filter(text: str) -> bool:
    """Whether `text` is one filter, so that what is put beside it stays beside it."""
    if not (text.startswith("(") and text.endswith(")")) or "\0" in text:
        return False
    depth = 0
    for place, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0 and place != len(text) - 1:
            return False
    return depth == 0
