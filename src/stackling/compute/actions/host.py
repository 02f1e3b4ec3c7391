"""Hosts as admins see and manage them."""

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import Conflict, NotFound
from stackling.compute.state import host as state
from stackling.compute.state.aggregate import aggregate_host
from stackling.compute.state.host import host
from stackling.compute.state.server import live, server
from stackling.placement.actions import provider


def get(tx: Tx, id: str) -> Row:
    """By UUID or, as clients below 2.53 do, by number. Raises NotFound."""
    query = sa.select(host).where(
        host.c.number == int(id) if id.isascii() and id.isdigit() and len(id) < 10 else host.c.id == id
    )
    found = tx.execute(query).first()
    if found is None:
        raise NotFound(f"Compute host {id[:255]} could not be found.")
    return found


def named(tx: Tx, hostname: str) -> Row:
    """Raises NotFound."""
    found = state.by_name(tx, hostname)
    if found is None:
        raise NotFound(f"Compute host {hostname[:255]} could not be found.")
    return found


def update(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    row: Row,
    *,
    disabled: bool | None = None,
    reason: str | None = None,
    forced_down: bool | None = None,
) -> Row:
    """Let a host take new servers, or not; say that it is down although it may seem alive."""
    caller.may("os_compute_api:os-services:update")
    values: dict[str, object] = {"updated_at": cloud.clock.now()}
    if disabled is not None:
        values |= {"disabled": disabled, "disabled_reason": reason if disabled else None}
    if forced_down is not None:
        values["forced_down"] = forced_down
    return tx.execute(
        sa.update(host).where(host.c.number == row.number).values(**values).returning(host)
    ).one()


def delete(tx: Tx, caller: Caller, row: Row) -> None:
    """Forget a host that has left; one that is still plugged in comes back. Raises Conflict while it has servers."""
    caller.may("os_compute_api:os-services:delete")
    if tx.execute(sa.select(server.c.id).where(server.c.host == row.hostname, live)).first():
        raise Conflict(
            f"Unable to delete compute service that is hosting instances. Delete or migrate the servers on {row.hostname} first."
        )
    provider.forget(tx, row.hostname)
    tx.execute(sa.delete(aggregate_host).where(aggregate_host.c.hostname == row.hostname))
    tx.execute(sa.delete(host).where(host.c.number == row.number))


def servers_on(tx: Tx, hostname: str) -> list[Row]:
    return list(
        tx.execute(sa.select(server).where(server.c.host == hostname, live).order_by(server.c.created_at))
    )


def servers_per_host(tx: Tx) -> dict[str, int]:
    query = sa.select(server.c.host, sa.func.count().label("n")).where(live, server.c.host.isnot(None))
    return {r.host: r.n for r in tx.execute(query.group_by(server.c.host))}
