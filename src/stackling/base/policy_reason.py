"""Why a rule lets a caller do something, or doesn't: its check walked part by part."""

from collections.abc import Mapping
from typing import Any

import msgspec
from oslo_policy import _checks as checks

from stackling.base.policy import Policy


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part of a check: whether it holds, why in words, and what it consists of."""

    check: str
    holds: bool
    says: str = ""
    parts: tuple["Reason", ...] = ()


def of(
    policy: Policy, rule: str, target: Mapping[str, Any], creds: Mapping[str, Any], scope: str
) -> tuple[bool, str, Reason]:
    """Whether `rule` allows it, the answer in a sentence, and the reason.

    Raises KeyError for a rule nobody declared.
    """
    declared = policy.rules[rule]
    reason = _walk(policy, policy.check(rule), target, creds)
    if scope not in declared.scopes:
        return (
            False,
            f"{rule} is not for tokens of a {scope}, only of a {' or a '.join(declared.scopes)}",
            reason,
        )
    return reason.holds, f"{rule} is {'allowed' if reason.holds else 'refused'}", reason


def _walk(policy: Policy, check: Any, target: Mapping[str, Any], creds: Mapping[str, Any]) -> Reason:
    def inner(one: Any) -> Reason:
        return _walk(policy, one, target, creds)

    text = str(check)
    if isinstance(check, checks.OrCheck):
        parts = tuple(inner(c) for c in check.rules)
        return Reason(text, any(p.holds for p in parts), "one of these is enough", parts)
    if isinstance(check, checks.AndCheck):
        parts = tuple(inner(c) for c in check.rules)
        return Reason(text, all(p.holds for p in parts), "all of these are needed", parts)
    if isinstance(check, checks.NotCheck):
        part = inner(check.rule)
        return Reason(text, not part.holds, "the opposite of this", (part,))
    if isinstance(check, checks.RuleCheck):
        named = policy.check(check.match)
        if named is None:
            return Reason(text, False, "there is no such rule")
        part = inner(named)
        return Reason(text, part.holds, "", (part,))
    if isinstance(check, checks.TrueCheck):
        return Reason(text, True, "everybody")
    if isinstance(check, checks.FalseCheck):
        return Reason(text, False, "nobody")
    holds = bool(policy.holds(check, target, creds))
    return Reason(text, holds, _says(check, holds, target, creds))


def _says(check: Any, holds: bool, target: Mapping[str, Any], creds: Mapping[str, Any]) -> str:
    try:
        wanted = check.match % target
    except KeyError as e:
        return f"the target has no {e.args[0]}"
    if isinstance(check, checks.RoleCheck):
        return f"the caller's roles are {', '.join(creds.get('roles') or ()) or 'none'}"
    if isinstance(check, checks.GenericCheck):
        has = "is" if holds else "is not"
        if check.kind[:1] in "'\"" or check.kind in ("None", "True", "False"):
            return f"{check.kind} {has} {wanted}"
        value: Any = creds
        for key in check.kind.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None and not holds:
            return f"the caller has no {check.kind}"
        return f"the caller's {check.kind} {value} {has} {wanted}"
    return ""
