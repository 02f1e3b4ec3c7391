"""What servers of projects used over a span of time."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from stackling.base.clock import bare_micros
from stackling.base.db import Row, Tx
from stackling.compute.state.server import State, server


def of(
    tx: Tx,
    project_id: str | None,
    start: datetime,
    stop: datetime,
    now: datetime,
    *,
    after: str | None = None,
    limit: int | None = None,
) -> list[Row]:
    """The servers that existed between `start` and `stop`, of one project or of all, in order of project and id."""
    c = server.c
    ended = sa.func.coalesce(c.terminated_at, now)
    query = sa.select(server).where(
        c.launched_at.isnot(None), c.launched_at <= stop, sa.or_(c.terminated_at.is_(None), ended >= start)
    )
    if project_id is not None:
        query = query.where(c.project_id == project_id)
    if after is not None:
        last = tx.execute(sa.select(c.project_id, c.id).where(c.id == after)).first()
        if last is not None:
            query = query.where(
                sa.or_(
                    c.project_id > last.project_id, sa.and_(c.project_id == last.project_id, c.id > last.id)
                )
            )
    query = query.order_by(c.project_id, c.id)
    return list(tx.execute(query if limit is None else query.limit(limit)))


def one(row: Row, start: datetime, stop: datetime, now: datetime) -> dict[str, Any]:
    """A server's part. Hours as a fraction, memory in MiB, disk in GiB, uptime in seconds."""
    ended = row.terminated_at or now
    begun, done = max(row.launched_at, start), min(ended, stop)
    flavor = row.flavor
    return {
        "instance_id": row.id,
        "name": row.name,
        "hours": max(0.0, (done - begun).total_seconds() / 3600),
        "flavor": flavor["name"],
        "vcpus": flavor["vcpus"],
        "memory_mb": flavor["ram"],
        "local_gb": flavor["disk"] + flavor["ephemeral"],
        "tenant_id": row.project_id,
        "started_at": bare_micros(row.launched_at),
        "ended_at": bare_micros(row.terminated_at),
        "state": "terminated" if row.state == State.DELETED else str(row.state),
        "uptime": max(0, int((ended - row.launched_at).total_seconds())),
    }


def total(project_id: str, parts: list[dict[str, Any]], start: datetime, stop: datetime) -> dict[str, Any]:
    return {
        "tenant_id": project_id,
        "total_hours": sum(p["hours"] for p in parts),
        "total_vcpus_usage": sum(p["hours"] * p["vcpus"] for p in parts),
        "total_memory_mb_usage": sum(p["hours"] * p["memory_mb"] for p in parts),
        "total_local_gb_usage": sum(p["hours"] * p["local_gb"] for p in parts),
        "start": bare_micros(start),
        "stop": bare_micros(stop),
    }
