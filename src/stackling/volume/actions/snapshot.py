"""Snapshots of volumes."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from stackling.base import ids, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.volume.actions import quota, service, volume, volume_type
from stackling.volume.state import volume as volumes
from stackling.volume.state.snapshot import State, snapshot, snapshot_metadata

KIND = "volume.snapshot"


def get(tx: Tx, caller: Caller, id: str, rule: str = "volume:get_snapshot") -> Row:
    """One snapshot, for something that `rule` guards. Raises NotFound, Forbidden."""
    says = f"Snapshot {id[:64]} could not be found."
    row = tx.execute(sa.select(snapshot).where(snapshot.c.id == id)).first()
    if row is None:
        raise NotFound(says)
    caller.may_see(row.project_id, rule, says)
    return row


def create(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    *,
    volume_id: str,
    name: str | None,
    description: str | None,
    metadata: Mapping[str, str],
    force: bool,
) -> Row:
    """A snapshot of the volume as it is about now; `force` also while a server has it.

    Raises NotFound, Forbidden, BadRequest (the volume's state), QuotaExceeded.
    """
    row = volume.get(tx, caller, volume_id)
    caller.may("volume:create_snapshot", volume.target(row))
    service.check_thawed(tx, row.host)
    allowed = (volumes.State.AVAILABLE, volumes.State.IN_USE) if force else (volumes.State.AVAILABLE,)
    if row.state not in allowed:
        raise BadRequest(
            f"Invalid volume: Volume {volume_id} status must be {' or '.join(allowed)}, but current status is: {row.state}."
        )
    kind = volume_type.names(tx, [row.volume_type_id]).get(row.volume_type_id, "")
    quota.check(tx, cloud, row.project_id, kind, {"snapshots": 1, "gigabytes": row.size}, size=0)
    now = cloud.clock.now()
    values = {
        "id": ids.uuid4(),
        "project_id": row.project_id,
        "user_id": caller.user_id,
        "created_at": now,
        "state": State.CREATING,
        "name": name,
        "description": description,
        "volume_id": volume_id,
        "volume_type_id": row.volume_type_id,
        "size": row.size,
        "host": row.host,
        "request_id": caller.request_id or None,
    }
    made = tx.execute(sa.insert(snapshot).values(**values).returning(snapshot)).one()
    _write(tx, made.id, metadata)
    jobs.start(tx, KIND, made.id, now=now)
    return made


def update(tx: Tx, cloud: Cloud, caller: Caller, id: str, columns: Mapping[str, Any]) -> Row:
    get(tx, caller, id, "volume:update_snapshot")
    values = {**columns, "updated_at": cloud.clock.now()}
    return tx.execute(
        sa.update(snapshot).where(snapshot.c.id == id).values(**values).returning(snapshot)
    ).one()


def delete(tx: Tx, cloud: Cloud, caller: Caller, id: str, *, force: bool = False) -> None:
    """The snapshot is to go; volumes made from it stay whole. Raises BadRequest for its state."""
    rule = "volume_extension:snapshot_admin_actions:force_delete" if force else "volume:delete_snapshot"
    row = get(tx, caller, id, rule)
    if row.state not in (State.AVAILABLE, State.ERROR, State.ERROR_DELETING) and not force:
        raise BadRequest(
            f"Invalid snapshot: Snapshot status must be available or error, but it is {row.state}."
        )
    now = cloud.clock.now()
    tx.execute(sa.update(snapshot).where(snapshot.c.id == id).values(state=State.DELETING, updated_at=now))
    jobs.start(tx, KIND, id, now=now)


def reset(tx: Tx, cloud: Cloud, caller: Caller, id: str, state: State, rule: str) -> None:
    """Say by hand what state a snapshot is in."""
    get(tx, caller, id, rule)
    tx.execute(
        sa.update(snapshot).where(snapshot.c.id == id).values(state=state, updated_at=cloud.clock.now())
    )


def found(tx: Tx, id: str) -> Row | None:
    return tx.execute(sa.select(snapshot).where(snapshot.c.id == id)).first()


# -- metadata ----------------------------------------------------------------------------------------------------------


def metadata_of(tx: Tx, snapshot_ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """The metadata of many snapshots in one statement, by snapshot id."""
    made: dict[str, dict[str, str]] = {}
    query = sa.select(snapshot_metadata).where(snapshot_metadata.c.snapshot_id.in_(list(snapshot_ids)))
    for row in tx.execute(query.order_by(snapshot_metadata.c.key)):
        made.setdefault(row.snapshot_id, {})[row.key] = row.value
    return made


def metadata(tx: Tx, caller: Caller, id: str) -> dict[str, str]:
    get(tx, caller, id, "volume:get_snapshot_metadata")
    return metadata_of(tx, [id]).get(id, {})


def set_metadata(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, items: Mapping[str, str], *, replace: bool
) -> dict[str, str]:
    """Merge `items` into the snapshot's metadata, or put them in its place. Returns what it is then."""
    get(tx, caller, id, "volume:update_snapshot_metadata")
    made = {**({} if replace else metadata_of(tx, [id]).get(id, {})), **items}
    tx.execute(sa.delete(snapshot_metadata).where(snapshot_metadata.c.snapshot_id == id))
    _write(tx, id, made)
    tx.execute(sa.update(snapshot).where(snapshot.c.id == id).values(updated_at=cloud.clock.now()))
    return made


def remove_metadata(tx: Tx, cloud: Cloud, caller: Caller, id: str, key: str) -> None:
    get(tx, caller, id, "volume:delete_snapshot_metadata")
    this = sa.and_(snapshot_metadata.c.snapshot_id == id, snapshot_metadata.c.key == key)
    if not tx.execute(sa.delete(snapshot_metadata).where(this)).rowcount:
        raise NotFound("Metadata item was not found")
    tx.execute(sa.update(snapshot).where(snapshot.c.id == id).values(updated_at=cloud.clock.now()))


def _write(tx: Tx, id: str, items: Mapping[str, str]) -> None:
    if items:
        tx.execute(
            sa.insert(snapshot_metadata),
            [{"snapshot_id": id, "key": k, "value": v} for k, v in items.items()],
        )
