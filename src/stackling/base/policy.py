"""Who may do what: rules under their upstream names, upstream defaults, evaluated by oslo.policy.

An operator's `policy.yaml` overrides any rule; it is read again when it changes.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from oslo_config import cfg
from oslo_policy import opts, policy


class Rule(msgspec.Struct, frozen=True):
    """One rule. `check` is in oslo.policy's language; `scopes` are the token scopes that may use it at all."""

    name: str
    check: str
    says: str = ""
    scopes: tuple[str, ...] = ("project",)


class Policy:
    """All rules of one cloud, with the operator's overrides from `overrides` (a YAML file, may be absent)."""

    def __init__(self, rules: Iterable[Rule], overrides: Path | None = None) -> None:
        conf = cfg.ConfigOpts()
        conf([], project="stackling", default_config_files=[], default_config_dirs=[])
        opts._register(conf)
        conf.set_override("policy_dirs", [], group="oslo_policy")  # scopes are checked in `allows`
        self._overrides = overrides
        self._enforcer = policy.Enforcer(conf, policy_file=str(overrides or ""), use_conf=False)
        self.rules: dict[str, Rule] = {}
        for rule in rules:
            self.rules[rule.name] = rule
            self._enforcer.register_default(policy.RuleDefault(rule.name, rule.check, rule.says))
        self._stamp: float | None = None
        self._load()

    def _load(self) -> None:
        stamp = self._overrides.stat().st_mtime if self._overrides and self._overrides.exists() else 0.0
        if stamp == self._stamp:
            return
        loaded = {}
        if stamp and self._overrides:
            loaded = policy.Rules.load(self._overrides.read_text(), None)
        merged = policy.Rules({name: d.check for name, d in self._enforcer.registered_rules.items()} | dict(loaded))
        self._enforcer.set_rules(merged, overwrite=True, use_conf=False)
        self._stamp = stamp

    def reload(self) -> None:
        """Read the operator's file again if it has changed."""
        self._load()

    def allows(self, rule: str, target: Mapping[str, Any], creds: Mapping[str, Any], scope: str) -> bool:
        """Whether `creds` may do `rule` to `target`. Raises KeyError for a rule nobody declared."""
        declared = self.rules[rule]
        if scope not in declared.scopes and scope != "any":
            return False
        check = self._enforcer.rules[rule]
        return bool(check(target, creds, self._enforcer, rule))
