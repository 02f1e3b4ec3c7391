"""Asking policy about identity's own targets.

A target is written the way upstream's rules name it: `target.user.domain_id`. What is null is left out, so that no
rule matches a caller without a domain with a target without one.
"""

from typing import Any

from stackling.base.context import Caller
from stackling.base.db import Row
from stackling.base.errors import Forbidden


def target(**rows: Row | dict[str, Any] | None) -> dict[str, Any]:
    """`target(user=row)` is `{"target.user.id": …, "target.user.domain_id": …, …}`."""
    made: dict[str, Any] = {}
    for noun, row in rows.items():
        if row is not None:
            values = row if isinstance(row, dict) else row._mapping
            made |= {f"target.{noun}.{k}": v for k, v in values.items() if v is not None}
    return made


def may(caller: Caller, rule: str, aim: dict[str, Any] | None = None) -> None:
    """Return if the caller may do `identity:<rule>` to `aim`. Raises Forbidden."""
    if not caller.can(f"identity:{rule}", aim or {}):
        raise Forbidden(f"You are not authorized to perform the requested action: identity:{rule}.")


def can(caller: Caller, rule: str, aim: dict[str, Any] | None = None) -> bool:
    return caller.can(f"identity:{rule}", aim or {})
