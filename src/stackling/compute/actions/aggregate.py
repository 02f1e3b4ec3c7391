"""Host aggregates."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, NotFound
from stackling.compute.state import aggregate as state
from stackling.compute.state.aggregate import aggregate, aggregate_host
from stackling.compute.state.host import by_name
from stackling.compute.state.server import live, server
from stackling.image.actions import cached

ZONE = "availability_zone"


def get(tx: Tx, id: str) -> Row:
    """Raises NotFound."""
    number = int(id) if id.isascii() and id.isdigit() and len(id) < 10 else -1
    found = tx.execute(sa.select(aggregate).where(aggregate.c.number == number)).first()
    if found is None:
        raise NotFound(f"Aggregate {id[:64]} could not be found.")
    return found


def create(tx: Tx, cloud: Cloud, name: str, zone: str | None) -> Row:
    """Raises Conflict when the name is taken."""
    if tx.execute(sa.select(aggregate.c.number).where(aggregate.c.name == name)).first():
        raise Conflict(f"Aggregate {name} already exists.")
    values = {
        "uuid": ids.uuid4(),
        "name": name,
        "meta": {ZONE: zone} if zone else {},
        "created_at": cloud.clock.now(),
    }
    return tx.execute(sa.insert(aggregate).values(**values).returning(aggregate)).one()


def update(tx: Tx, cloud: Cloud, id: str, *, name: str | None, zone: str | None, set_zone: bool) -> Row:
    row = get(tx, id)
    values: dict[str, Any] = {"updated_at": cloud.clock.now()}
    if name is not None:
        if tx.execute(
            sa.select(aggregate.c.number).where(aggregate.c.name == name, aggregate.c.number != row.number)
        ).first():
            raise Conflict(f"Aggregate {name} already exists.")
        values["name"] = name
    if set_zone:
        values["meta"] = _merged(tx, row, {ZONE: zone})
    return tx.execute(
        sa.update(aggregate).where(aggregate.c.number == row.number).values(**values).returning(aggregate)
    ).one()


def set_metadata(tx: Tx, cloud: Cloud, id: str, items: dict[str, str | None]) -> Row:
    """Add, change, and with null remove items."""
    row = get(tx, id)
    values = {"meta": _merged(tx, row, items), "updated_at": cloud.clock.now()}
    return tx.execute(
        sa.update(aggregate).where(aggregate.c.number == row.number).values(**values).returning(aggregate)
    ).one()


def _merged(tx: Tx, row: Row, items: dict[str, str | None]) -> dict[str, str]:
    merged = {k: v for k, v in {**row.meta, **items}.items() if v is not None}
    if ZONE in items:
        if items[ZONE] == "" or (items[ZONE] and ":" in str(items[ZONE])):
            raise BadRequest("Invalid input for field/attribute availability_zone: it is a name without ':'")
        if merged.get(ZONE) != row.meta.get(ZONE):
            _check_zone_change(tx, row, merged.get(ZONE))
    return merged


def _check_zone_change(tx: Tx, row: Row, zone: str | None) -> None:
    """A host is in one zone, and servers do not change theirs."""
    for hostname in state.hosts_of(tx).get(row.number, []):
        if tx.execute(sa.select(server.c.id).where(server.c.host == hostname, live)).first():
            raise BadRequest(
                f"Cannot update aggregate {row.name}. Reason: One or more hosts contain instances in this zone: {hostname}."
            )
        _check_one_zone(tx, row, hostname, zone)


def _check_one_zone(tx: Tx, row: Row, hostname: str, zone: str | None) -> None:
    for other in state.everyone(tx):
        has = other.meta.get(ZONE)
        if (
            other.number != row.number
            and zone
            and has
            and has != zone
            and hostname in state.hosts_of(tx).get(other.number, [])
        ):
            raise Conflict(
                f"Cannot add host to aggregate {row.name}. Reason: Host {hostname} already in availability zone {has}."
            )


def delete(tx: Tx, id: str) -> None:
    """Raises BadRequest while it has hosts."""
    row = get(tx, id)
    if state.hosts_of(tx).get(row.number):
        raise BadRequest(f"Cannot remove aggregate {row.name}: Host aggregate is not empty.")
    tx.execute(sa.delete(aggregate).where(aggregate.c.number == row.number))


def add_host(tx: Tx, id: str, hostname: str) -> Row:
    """Raises NotFound, Conflict (it is in already, or in another zone)."""
    row = get(tx, id)
    if by_name(tx, hostname) is None:
        raise NotFound(f"Compute host {hostname[:255]} could not be found.")
    if hostname in state.hosts_of(tx).get(row.number, []):
        raise Conflict(f"Aggregate {row.number} already has host {hostname}.")
    zone = row.meta.get(ZONE)
    _check_one_zone(tx, row, hostname, zone)
    if zone and tx.execute(sa.select(server.c.id).where(server.c.host == hostname, live)).first():
        raise Conflict(
            f"Cannot add host to aggregate {row.name}. Reason: Host {hostname} contains instances in another availability zone."
        )
    tx.execute(sa.insert(aggregate_host).values(aggregate_number=row.number, hostname=hostname))
    return row


def remove_host(tx: Tx, id: str, hostname: str) -> Row:
    """Raises NotFound."""
    row = get(tx, id)
    this = sa.and_(aggregate_host.c.aggregate_number == row.number, aggregate_host.c.hostname == hostname)
    if not tx.execute(sa.delete(aggregate_host).where(this)).rowcount:
        raise NotFound(f"Aggregate {row.number} has no host {hostname[:255]}.")
    return row


def cache_images(tx: Tx, cloud: Cloud, caller: Caller, id: str, image_ids: Iterable[str]) -> None:
    """Have the aggregate's hosts fetch images before servers need them. Raises NotFound, BadRequest (the image)."""
    row = get(tx, id)
    hosts = state.hosts_of(tx).get(row.number, [])
    for image_id in image_ids:
        try:
            cached.want(tx, cloud, caller, image_id, hosts)
        except NotFound as error:
            raise BadRequest(f"Image {image_id} could not be found.") from error
