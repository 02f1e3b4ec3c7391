"""What all of identity's things have in common: options, names that are taken, and what may not be touched."""

from typing import Any

import sqlalchemy as sa

from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, Forbidden


def options(
    known: dict[str, type], given: dict[str, Any] | None, before: dict[str, Any] | None = None
) -> dict[str, Any]:
    """`before` with `given` laid over it; null takes an option away. Raises BadRequest naming a wrong one."""
    made = dict(before or {})
    for name, value in (given or {}).items():
        if name not in known:
            raise BadRequest(f"Invalid input for field/attribute options: '{name[:64]}' is not an option")
        if value is None:
            made.pop(name, None)
        elif not isinstance(value, known[name]) or (known[name] is not bool and isinstance(value, bool)):
            raise BadRequest(
                f"Invalid input for field/attribute options.{name}: {str(value)[:64]!r} is not a {known[name].__name__}"
            )
        else:
            made[name] = value
    return made


def mutable(kind: str, row: Row, change: dict[str, Any] | None = None) -> None:
    """Return unless the option `immutable` forbids it. The one change allowed takes that option away."""
    if not row.options.get("immutable"):
        return
    if (
        change is not None
        and set(change) == {"options"}
        and change["options"].get("immutable", True) in (False, None)
    ):
        return
    verb = "update" if change is not None else "delete"
    raise Forbidden(
        f"Unable to {verb} immutable {kind} resource: `{row.id}`. Set resource option 'immutable' to false first."
    )


def free(tx: Tx, query: sa.Select[Any], says: str) -> None:
    """Raise Conflict(`says`) if `query` finds anything."""
    if tx.execute(query.limit(1)).first() is not None:
        raise Conflict(says)
