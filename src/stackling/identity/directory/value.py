"""What a directory's entries say, as it is read, compared and looked for here."""

import re
import uuid
from collections.abc import Iterable

Attributes = dict[str, list[bytes]]

# Active Directory's attributes whose values are not text.
_GUIDS = ("objectguid", "ms-ds-consistencyguid")
_SIDS = ("objectsid",)
_SID = re.compile(r"S-[0-9]{1,3}-[0-9]{1,15}(-[0-9]{1,10}){0,15}")


def text(values: Attributes, attribute: str) -> str | None:
    """The attribute's first value: a GUID as the UUID that it is, a SID as `S-1-…`. None for what is no text."""
    found = values.get(attribute.lower())
    if not found:
        return None
    value, kind = found[0], attribute.lower()
    if kind in _GUIDS and len(value) == 16:
        return str(uuid.UUID(bytes_le=value))
    if kind in _SIDS and len(value) >= 8 and len(value) == 8 + 4 * value[1]:
        parts = (int.from_bytes(value[at : at + 4], "little") for at in range(8, len(value), 4))
        return "-".join(["S", str(value[0]), str(int.from_bytes(value[2:8])), *map(str, parts)])
    try:
        return value.decode().replace("\0", "")
    except UnicodeDecodeError:
        return None


def is_unique(attribute: str) -> bool:
    """Whether the server sees to it that no two entries have the same value."""
    return attribute.lower() in ("objectguid", "objectsid", "entryuuid")


def equals(attribute: str, value: str) -> str:
    """The filter that finds entries by what `text` makes of their attribute."""
    from ldap.filter import escape_filter_chars

    if attribute.lower() in (*_GUIDS, *_SIDS):
        raw = _guid(value) if attribute.lower() in _GUIDS else _sid(value)
        return f"({attribute}={''.join(f'{chr(92)}{byte:02x}' for byte in raw or bytes(1))})"
    return f"({attribute}={escape_filter_chars(value)})"


def _guid(said: str) -> bytes | None:
    try:
        return uuid.UUID(said).bytes_le
    except ValueError:
        return None


def _sid(said: str) -> bytes | None:
    if not _SID.fullmatch(said):
        return None
    revision, authority, *parts = map(int, said.split("-")[1:])
    try:
        head = bytes([revision, len(parts)]) + authority.to_bytes(6)
        return head + b"".join(part.to_bytes(4, "little") for part in parts)
    except (OverflowError, ValueError):
        return None


def one_spelling(dn: str) -> str:
    """A DN as it is compared: attributes and values in lower case, without spaces that don't count."""
    import ldap
    import ldap.dn

    try:
        parts = ldap.dn.str2dn(dn)
    except (ldap.LDAPError, ValueError):
        return dn.lower()
    return ",".join(
        "+".join(sorted(f"{a.lower()}={' '.join(v.lower().split())!r}" for a, v, _ in rdn)) for rdn in parts
    )


def naming_context(dn: str) -> str:
    """The root of the domain that `dn` is in: its last `dc` parts, or all of it where there are none."""
    import ldap
    import ldap.dn

    try:
        parts = ldap.dn.str2dn(dn)
    except (ldap.LDAPError, ValueError):
        return dn
    first = len(parts)
    while first and parts[first - 1][0][0].lower() == "dc":
        first -= 1
    return str(ldap.dn.dn2str(parts[first:])) or dn


def pairs(mapping: Iterable[str]) -> list[tuple[str, str]]:
    """Attributes of the directory with the names that they are shown by."""
    return [(source, shown) for source, _, shown in (one.partition(":") for one in mapping)]
