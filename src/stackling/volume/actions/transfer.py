"""Handing a volume over to another project: whoever has the offer's key may take it."""

import hashlib
import hmac
import secrets
from typing import Any

import sqlalchemy as sa

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden, NotFound
from stackling.base.listing import Sort, page
from stackling.volume.actions import quota, volume, volume_type
from stackling.volume.state import volume as volumes
from stackling.volume.state.snapshot import snapshot
from stackling.volume.state.transfer import transfer


def _digest(id: str, key: str) -> str:
    return hashlib.sha256(f"{id}:{key}".encode()).hexdigest()


def create(
    tx: Tx, cloud: Cloud, caller: Caller, volume_id: str, name: str | None, *, no_snapshots: bool
) -> tuple[Row, str]:
    """Offer a volume; returns the offer and its key, which is told this once. Raises BadRequest for its state."""
    row = volume.get(tx, caller, volume_id, "volume:create_transfer")
    if row.state != volumes.State.AVAILABLE:
        raise BadRequest(f"Invalid volume: status must be available, but it is {row.state}.")
    id, key = ids.uuid4(), secrets.token_hex(8)
    values = {
        "id": id,
        "project_id": row.project_id,
        "volume_id": volume_id,
        "name": name,
        "key_digest": _digest(id, key),
        "no_snapshots": no_snapshots,
        "created_at": cloud.clock.now(),
    }
    made = tx.execute(sa.insert(transfer).values(**values).returning(transfer)).one()
    _set(tx, cloud, volume_id, {"state": volumes.State.AWAITING_TRANSFER})
    return made, key


def _set(tx: Tx, cloud: Cloud, volume_id: str, values: dict[str, Any]) -> None:
    waiting = sa.and_(
        volumes.volume.c.id == volume_id,
        volumes.volume.c.state.in_((volumes.State.AVAILABLE, volumes.State.AWAITING_TRANSFER)),
    )
    tx.execute(sa.update(volumes.volume).where(waiting).values(**values, updated_at=cloud.clock.now()))


def get(tx: Tx, caller: Caller, id: str, rule: str = "volume:get_transfer") -> Row:
    row = _find(tx, id)
    caller.may_see(row.project_id, rule, f"Transfer {id[:64]} could not be found.")
    return row


def _find(tx: Tx, id: str) -> Row:
    row = tx.execute(sa.select(transfer).where(transfer.c.id == id)).first()
    if row is None:
        raise NotFound(f"Transfer {id[:64]} could not be found.")
    return row


def listed(
    tx: Tx, caller: Caller, sort: Sort, *, all_tenants: bool, limit: int, marker: str | None
) -> list[Row]:
    caller.may("volume:get_all_transfers")
    query = sa.select(transfer)
    if not (all_tenants and caller.is_admin):
        query = query.where(transfer.c.project_id == caller.project_id)
    return page(tx, query, sort, limit=limit, after=get(tx, caller, marker) if marker else None)


def delete(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> None:
    """Take an offer back."""
    row = get(tx, caller, id, "volume:delete_transfer")
    tx.execute(sa.delete(transfer).where(transfer.c.id == id))
    _set(tx, cloud, row.volume_id, {"state": volumes.State.AVAILABLE})


def accept(tx: Tx, cloud: Cloud, caller: Caller, id: str, key: str) -> Row:
    """Take what is offered into the caller's project. Raises NotFound, Forbidden (the key), QuotaExceeded."""
    caller.may("volume:accept_transfer")
    row = _find(tx, id)
    if not hmac.compare_digest(row.key_digest, _digest(id, key)):
        raise Forbidden(f"Attempt to transfer {id} with invalid auth key.")
    given = volume.found(tx, row.volume_id)
    if given is None or caller.project_id is None or given.state != volumes.State.AWAITING_TRANSFER:
        raise BadRequest(f"Volume {row.volume_id} can't be taken over now.")
    along = (
        []
        if row.no_snapshots
        else list(tx.execute(sa.select(snapshot).where(snapshot.c.volume_id == row.volume_id)))
    )
    name = volume_type.names(tx, [given.volume_type_id]).get(given.volume_type_id, "")
    adds = {"volumes": 1, "gigabytes": given.size + sum(s.size for s in along)}
    if along:
        adds["snapshots"] = len(along)
    quota.check(tx, cloud, caller.project_id, name, adds, size=given.size)
    owner = {"project_id": caller.project_id, "user_id": caller.user_id}
    _set(tx, cloud, row.volume_id, {"state": volumes.State.AVAILABLE, **owner})
    if along:
        tx.execute(sa.update(snapshot).where(snapshot.c.volume_id == row.volume_id).values(**owner))
    tx.execute(sa.delete(transfer).where(transfer.c.id == id))
    return row
