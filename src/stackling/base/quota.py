"""How much a project may hold. A limit is a number; -1 is no limit.

Usage is counted from the tables of the service that owns the resource, in the transaction that adds to it.
"""

from collections.abc import Callable, Mapping

import sqlalchemy as sa
from sqlalchemy import Column, Integer, String, Table

from stackling.base import db
from stackling.base.db import Tx, metadata
from stackling.base.errors import QuotaExceeded
from stackling.base.statement import Statement

quota = Table(
    "quota",
    metadata,
    Column("service", String(32), primary_key=True),
    Column("project_id", String(64), primary_key=True),
    Column("resource", String(128), primary_key=True),
    Column("hard_limit", Integer, nullable=False),
)


def limits(tx: Tx, service: str, project_id: str, defaults: Mapping[str, int]) -> dict[str, int]:
    """The limits in force for a project: its own where set, else `defaults`."""
    rows = _LIMITS.all(tx, service=service, project_id=project_id)
    return {**defaults, **{r.resource: r.hard_limit for r in rows}}


_LIMITS = Statement(
    sa.select(quota.c.resource, quota.c.hard_limit).where(
        quota.c.service == sa.bindparam("service"), quota.c.project_id == sa.bindparam("project_id")
    )
)


def set_limits(tx: Tx, service: str, project_id: str, wanted: Mapping[str, int]) -> None:
    for name, limit in wanted.items():
        values = {"service": service, "project_id": project_id, "resource": name, "hard_limit": limit}
        db.upsert(tx, quota, values, {"hard_limit": limit}, key=("service", "project_id", "resource"))


def forget(tx: Tx, service: str, project_id: str) -> None:
    """Back to the defaults."""
    tx.execute(sa.delete(quota).where(quota.c.service == service, quota.c.project_id == project_id))


def check(
    tx: Tx,
    service: str,
    project_id: str,
    adds: Mapping[str, int],
    *,
    defaults: Mapping[str, int],
    usage: Callable[[Tx, str], Mapping[str, int]],
) -> None:
    """Let `adds` more of each resource through, or raise QuotaExceeded naming what is over.

    Two requests at once cannot both take the last one: the project's quota of the service is locked until the
    transaction ends.
    """
    db.lock(tx, f"quota:{service}:{project_id}")
    most = limits(tx, service, project_id, defaults)
    used = usage(tx, project_id)
    over = [n for n, more in adds.items() if more > 0 and 0 <= most[n] < used.get(n, 0) + more]
    if over:
        wants = ", ".join(str(adds[n]) for n in over)
        has = ", ".join(str(used.get(n, 0)) for n in over)
        limit = ", ".join(str(most[n]) for n in over)
        raise QuotaExceeded(
            f"Quota exceeded for {', '.join(over)}: Requested {wants}, but already used {has} of {limit} {', '.join(over)}"
        )
