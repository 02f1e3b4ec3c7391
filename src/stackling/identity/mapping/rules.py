"""What a mapping may hold: rules of remote conditions and local results, checked when the mapping is written.

The language is upstream's (mapping schemas 1.0 and 2.0). Checked beyond upstream's schema, as it would only fail at
somebody's login: regular expressions compile, and `{n}` refers to a remote entry that there is.
"""

import json
import re
from collections.abc import Iterator
from string import Formatter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

VERSIONS = ("1.0", "2.0")
MOST_RULES = 1000
Word = str | int | float | bool | None  # upstream takes any value; a claim is compared as text


class MappingInvalid(ValueError):
    """The rules are not a mapping; the text names the place and says why."""


class Domain(Struct, frozen=True, forbid_unknown_fields=True):
    id: str | None = None
    name: str | None = None


class LocalUser(Struct, frozen=True, forbid_unknown_fields=True):
    id: str | None = None
    name: str | None = None
    email: str | None = None
    domain: Domain | None = None
    type: Literal["ephemeral", "local"] | None = None


class LocalGroup(Struct, frozen=True, forbid_unknown_fields=True):
    id: str | None = None
    name: str | None = None
    domain: Domain | None = None


class LocalRole(Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class LocalProject(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    roles: list[LocalRole]
    domain: Domain | None = None


class Local(Struct, frozen=True, forbid_unknown_fields=True):
    """What comes of a rule. Texts may hold `{n}`, the values of the rule's n-th remote entry without a condition."""

    user: LocalUser | None = None
    group: LocalGroup | None = None
    groups: str | None = None
    group_ids: str | None = None
    projects: list[LocalProject] | None = None
    domain: Domain | None = None


class Remote(Struct, frozen=True, forbid_unknown_fields=True):
    """One attribute of the assertion, and what is wanted of its values.

    `any_one_of` and `not_any_of` are conditions; `whitelist` and `blacklist` choose among the values, which then can
    be substituted, as can those of an entry with none of the four.
    """

    type: str
    any_one_of: list[Word] | None = None
    not_any_of: list[Word] | None = None
    whitelist: list[Word] | None = None
    blacklist: list[Word] | None = None
    regex: bool | None = None

    @property
    def words(self) -> tuple[str, list[str]] | None:
        """The name and values of the one of the four that is there."""
        for name in ("any_one_of", "not_any_of", "whitelist", "blacklist"):
            values = getattr(self, name)
            if values is not None:
                return name, [w if isinstance(w, str) else json.dumps(w) for w in values]
        return None

    @property
    def is_condition(self) -> bool:
        """Whether the entry only decides, and gives no values to substitute."""
        return self.any_one_of is not None or self.not_any_of is not None


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    local: list[Local]
    remote: Annotated[list[Remote], Meta(min_length=1)]


def read(rules: Any) -> list[Rule]:
    """The rules of a mapping from plain JSON values. Raises MappingInvalid."""
    if isinstance(rules, dict) and "rules" in rules:
        rules = rules["rules"]
    try:
        made = msgspec.convert(rules, Annotated[list[Rule], Meta(min_length=1, max_length=MOST_RULES)])
    except (msgspec.ValidationError, RecursionError) as e:
        raise MappingInvalid(str(e).replace(" - at `$", " - at `rules")) from None
    for number, rule in enumerate(made):
        _check(rule, f"rules[{number}]")
    return made


def _check(rule: Rule, where: str) -> None:
    for number, remote in enumerate(rule.remote):
        here = f"{where}.remote[{number}]"
        named = [
            n
            for n in ("any_one_of", "not_any_of", "whitelist", "blacklist")
            if getattr(remote, n) is not None
        ]
        if len(named) > 1:
            raise MappingInvalid(f"{' and '.join(named)} exclude each other - at `{here}`")
        if remote.regex is not None and not named:
            raise MappingInvalid(f"regex needs any_one_of, not_any_of, whitelist or blacklist - at `{here}`")
        if remote.regex and remote.words is not None:
            for pattern in remote.words[1]:
                try:
                    re.compile(pattern)
                except (re.error, OverflowError, RecursionError):
                    raise MappingInvalid(
                        f"{pattern[:64]!r} is not a regular expression - at `{here}`"
                    ) from None
    values = sum(not remote.is_condition for remote in rule.remote)
    for number, local in enumerate(rule.local):
        here = f"{where}.local[{number}]"
        group = local.group
        if group is not None and (group.id is None) == (group.name is None):
            raise MappingInvalid(f"a group has either an id or a name - at `{here}.group`")
        if group is not None and group.name is not None and not _names(group.domain):
            raise MappingInvalid(f"a group's name needs its domain - at `{here}.group`")
        if local.groups is not None and not _names(local.domain) and not places(local.groups, here):
            raise MappingInvalid(
                f"groups needs a domain beside it, or values that name their own - at `{here}`"
            )
        for text in texts(local):
            for index in places(text, here):
                if index >= values:
                    raise MappingInvalid(
                        f"{{{index}}} refers to a value that the rule does not have: its remote list gives {values}"
                        f" - at `{here}`"
                    )


def _names(domain: Domain | None) -> bool:
    return domain is not None and (domain.id is not None or domain.name is not None)


def texts(value: Any) -> Iterator[str]:
    """Every text within what stands under `local`."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Struct):
        for name in value.__struct_fields__:
            yield from texts(getattr(value, name))
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)


def parts(text: str) -> Iterator[tuple[str, int | None]]:
    """`text` as pieces of (literal, index of the value that follows it). Raises ValueError for other braces.

    `{}` counts up by itself; `{{` and `}}` are braces.
    """
    counted = 0
    for literal, name, spec, conversion in Formatter().parse(text):
        if name is None:
            yield literal, None
            continue
        if spec or conversion or not (name == "" or (name.isascii() and name.isdigit() and len(name) < 5)):
            raise ValueError(f"{{{name}}} is not the number of a value")
        if name == "":
            name, counted = str(counted), counted + 1
        yield literal, int(name)


def places(text: str, where: str) -> list[int]:
    """The indices that `text` refers to. Raises MappingInvalid."""
    try:
        return [index for _, index in parts(text) if index is not None]
    except ValueError as e:
        raise MappingInvalid(f"{text[:64]!r}: {e} - at `{where}`") from None
