"""Who may do what: rules under their upstream names, upstream defaults, in oslo.policy's language.

An operator's `policy.yaml` overrides any rule; it is read again when it changes. oslo.policy reads the rules; they are
evaluated as plain functions that are made of its checks once, because it inspects every check's signature anew each
time it is asked (80 µs a rule, against 1 µs).
"""

import ast
import functools
import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from oslo_config import cfg
from oslo_policy import _checks as checks
from oslo_policy import _parser, opts, policy

from stackling.base import log, policy_file

_LOOK_AGAIN = 1.0  # seconds between looks at the operator's file

Test = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]  # (target, creds)


class Rule(msgspec.Struct, frozen=True):
    """One rule. `check` is in oslo.policy's language; `scopes` are the token scopes that may use it at all."""

    name: str
    check: str
    says: str = ""
    scopes: tuple[str, ...] = ("project",)


class Policy:
    """All rules of one cloud, with the operator's overrides from `overrides` (a YAML file, may be absent).

    Raises ConfigError for a file that can't be used.
    """

    def __init__(self, rules: Iterable[Rule], overrides: Path | None = None) -> None:
        conf = cfg.ConfigOpts()
        conf([], project="stackling", default_config_files=[], default_config_dirs=[])
        opts._register(conf)
        conf.set_override("policy_dirs", [], group="oslo_policy")  # scopes are checked in `allows`
        self._overrides = overrides
        self._enforcer = policy.Enforcer(conf, policy_file=str(overrides or ""), use_conf=False)
        self.rules: dict[str, Rule] = {rule.name: rule for rule in rules}
        self.overridden: frozenset[str] = frozenset()  # the rules that the operator's file names
        self._tests: dict[str, Test] = {}
        self._stamp: tuple[int, ...] | None = None
        self._load()
        self._look_again = time.monotonic() + _LOOK_AGAIN

    def _load(self) -> None:
        stamp: tuple[int, ...] = ()
        if self._overrides and self._overrides.exists():
            seen = self._overrides.stat()
            stamp = seen.st_mtime_ns, seen.st_size, seen.st_ino
        if stamp == self._stamp:
            return
        self._stamp = stamp
        defaults = {name: _parsed(rule.check) for name, rule in self.rules.items()}
        loaded = policy_file.read(self._overrides, defaults) if stamp and self._overrides else {}
        self.overridden = frozenset(loaded)
        merged = policy.Rules(defaults | loaded)
        self._enforcer.set_rules(merged, overwrite=True, use_conf=False)
        self._tests = {name: self._test(check, name) for name, check in merged.items()}

    def reload(self) -> None:
        """Read the operator's file again if it has changed; one that can't be read changes nothing, and is logged."""
        self._look_again = time.monotonic() + _LOOK_AGAIN
        try:
            self._load()
        except Exception as e:  # noqa: BLE001 (the rules that are in force stay in force)
            log.get("policy").error("policy.unreadable", file=str(self._overrides), says=str(e))

    def allows(self, rule: str, target: Mapping[str, Any], creds: Mapping[str, Any], scope: str) -> bool:
        """Whether `creds` may do `rule` to `target`. Raises KeyError for a rule nobody declared."""
        declared = self.rules[rule]
        if scope not in declared.scopes and scope != "any":
            return False
        if time.monotonic() > self._look_again:
            self.reload()
        return self._tests[rule](target, creds)

    def check(self, rule: str) -> Any:
        """The check in force for a rule, as oslo.policy reads it; None for a rule that is nowhere."""
        return self._enforcer.rules.get(rule)

    def holds(self, check: Any, target: Mapping[str, Any], creds: Mapping[str, Any]) -> bool:
        """Whether a check, or a part of one, holds."""
        return self._test(check, "")(target, creds)

    def fulfils(self, rule: str, creds: Mapping[str, Any]) -> bool:
        """Whether `creds` alone fulfil a rule that an operator named; one that is nowhere nobody fulfils."""
        if time.monotonic() > self._look_again:
            self.reload()
        test = self._tests.get(rule)
        return test is not None and test(creds, creds)

    # -- checks as functions ---------------------------------------------------------------------------------------

    def _test(self, check: Any, rule: str) -> Test:
        """`check` of the rule named `rule` as a function that answers as oslo.policy does."""
        kind = type(check)
        if kind is checks.OrCheck:
            return _any([self._test(c, rule) for c in check.rules])
        if kind is checks.AndCheck:
            return _all([self._test(c, rule) for c in check.rules])
        if kind is checks.NotCheck:
            inner = self._test(check.rule, rule)
            return lambda target, creds: not inner(target, creds)
        if kind is checks.RuleCheck:
            return self._other(check.match)
        if kind is checks.RoleCheck:
            return _role(check.match)
        if kind is checks.GenericCheck:
            return _same(check.kind, check.match)
        named = (rule,) if len(inspect.getfullargspec(check.__call__).args) > 4 else ()
        return lambda target, creds: bool(check(target, creds, self._enforcer, *named))

    def _other(self, name: str) -> Test:
        def other(target: Mapping[str, Any], creds: Mapping[str, Any]) -> bool:
            found = self._tests.get(name)
            return found is not None and found(target, creds)  # a rule that is nowhere allows nothing

        return other


@functools.cache  # many rules have the same check
def _parsed(check: str) -> Any:
    return _parser.parse_rule(check)


def _any(tests: list[Test]) -> Test:
    def one(target: Mapping[str, Any], creds: Mapping[str, Any]) -> bool:
        for test in tests:  # noqa: SIM110 (a generator costs more than the tests)
            if test(target, creds):
                return True
        return False

    return one


def _all(tests: list[Test]) -> Test:
    def each(target: Mapping[str, Any], creds: Mapping[str, Any]) -> bool:
        for test in tests:  # noqa: SIM110 (as above)
            if not test(target, creds):
                return False
        return True

    return each


@functools.cache
def _role(name: str) -> Test:
    def role(target: Mapping[str, Any], creds: Mapping[str, Any]) -> bool:
        try:
            wanted = (name % target if "%" in name else name).lower()
        except KeyError:
            return False
        return wanted in [r.lower() for r in creds.get("roles", ())]

    return role


@functools.cache
def _same(left: str, right: str) -> Test:
    """`left:right`: a literal, or what stands at a path in the caller's credentials, is the same text as `right`."""
    literal: str | None = None
    try:
        literal = str(ast.literal_eval(left))
    except ValueError:
        path = left.split(".")

    def same(target: Mapping[str, Any], creds: Mapping[str, Any]) -> bool:
        try:
            wanted = right % target
        except KeyError:
            return False
        return literal == wanted if literal is not None else _stands(creds, path, wanted)

    return same


def _stands(value: Any, path: list[str], wanted: str) -> bool:
    """Whether `wanted` stands at `path` below `value`; in a list, below any of its items."""
    for i, key in enumerate(path):
        try:
            value = value[key]
        except KeyError:
            return False
        if isinstance(value, list):
            return any(_stands(one, path[i + 1 :], wanted) for one in value)
    return bool(wanted == str(value))
