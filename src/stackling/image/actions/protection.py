"""Which properties of images who may create, read, update and delete: an operator's file of rules.

    [^x_billing_.*]
    create = admin
    read = admin,member
    update = admin
    delete = !

A section's name is a regular expression; the first that a property's name matches decides. A rule names roles (or one
policy rule, with `property_protection_rule_format = "policies"`), `@` for everybody or `!` for nobody. With a file, a
property that no section matches is nobody's.
"""

import configparser
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from stackling.base import log
from stackling.base.cloud import Cloud
from stackling.base.config import ConfigError
from stackling.base.context import Caller
from stackling.base.errors import Forbidden

VERBS = ("create", "read", "update", "delete")
V = TypeVar("V")


class Protection:
    """The rules of one file; none allows everything."""

    def __init__(
        self, rules: list[tuple[re.Pattern[str], dict[str, list[str]]]] | None, policies: bool
    ) -> None:
        self._rules, self._policies = rules, policies

    def _may(self, caller: Caller, name: str, verb: str) -> bool:
        if self._rules is None:
            return True
        named = next((verbs[verb] for pattern, verbs in self._rules if pattern.search(name)), [])
        if "!" in named:
            return False
        if "@" in named:
            return True
        if self._policies:
            return any(caller.policy.fulfils(rule, caller.creds) for rule in named)
        roles = {r.lower() for r in caller.roles}
        return any(role.lower() in roles for role in named)

    def _all(self, caller: Caller, names: Iterable[str], verb: str) -> None:
        for name in names:
            if not self._may(caller, name, verb):
                raise Forbidden(f"Property '{name}' is protected")

    def readable(self, caller: Caller, properties: Mapping[str, V]) -> dict[str, V]:
        """The properties that the caller sees."""
        if self._rules is None:
            return dict(properties)
        return {n: v for n, v in properties.items() if self._may(caller, n, "read")}

    def may_create(self, caller: Caller, names: Iterable[str]) -> None:
        """Raises Forbidden."""
        self._all(caller, names, "create")

    def may_update(self, caller: Caller, names: Iterable[str]) -> None:
        """Raises Forbidden."""
        self._all(caller, names, "update")

    def may_delete(self, caller: Caller, names: Iterable[str]) -> None:
        """Raises Forbidden."""
        self._all(caller, names, "delete")


_OPEN = Protection(None, policies=False)
_read: dict[tuple[str, str], tuple[float, Protection]] = {}


def of(cloud: Cloud) -> Protection:
    """The rules in force; the file is read again when it changes. One that can't be read lets nobody at any property."""
    path, style = (
        cloud.config.image.property_protection_file,
        cloud.config.image.property_protection_rule_format,
    )
    if not path:
        return _OPEN
    try:
        stamp = Path(path).stat().st_mtime
        known = _read.get((path, style))
        if known is None or known[0] != stamp:
            known = _read[path, style] = (stamp, Protection(_parse(path, style), style == "policies"))
        return known[1]
    except (OSError, ConfigError) as error:
        log.get("image").error("image.property_protection", says=str(error))
        return Protection([], policies=False)


def _parse(path: str, style: str) -> list[tuple[re.Pattern[str], dict[str, list[str]]]]:
    read = configparser.ConfigParser(interpolation=None)
    rules = []
    try:
        with open(path) as file:
            read.read_file(file)
        for section in read.sections():
            verbs = {v: [w.strip() for w in read[section].get(v, "").split(",") if w.strip()] for v in VERBS}
            missing = [v for v in VERBS if not verbs[v]]
            if missing:
                raise ConfigError(f"{path}: [{section}] says nothing of {missing[0]}")
            if style == "policies" and any(len(named) > 1 for named in verbs.values()):
                raise ConfigError(f"{path}: [{section}] names more than one policy rule for an operation")
            rules.append((re.compile(section), verbs))
    except (configparser.Error, re.error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    return rules
