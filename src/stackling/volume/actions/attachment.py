"""Attachments: a server takes a volume, uses it, and lets it go.

The volume's state follows its attachments: reserved or attaching while one is on its way, in-use while one stands,
detaching while one ends, available when none is left.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import ids, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, NotFound
from stackling.base.statement import Statement, among
from stackling.volume.actions import volume as volumes
from stackling.volume.state.attachment import State, attachment
from stackling.volume.state.volume import State as VolumeState
from stackling.volume.state.volume import volume

# States of a volume that its attachments decide; any other is left as it is.
_FOLLOWS = (
    VolumeState.AVAILABLE,
    VolumeState.RESERVED,
    VolumeState.ATTACHING,
    VolumeState.IN_USE,
    VolumeState.DETACHING,
)


def get(tx: Tx, caller: Caller, id: str, rule: str = "volume:get") -> Row:
    """One attachment, for something that `rule` guards. Raises NotFound, Forbidden."""
    says = f"Volume attachment could not be found with filter: attachment_id = {id[:64]}."
    row = tx.execute(sa.select(attachment).where(attachment.c.id == id)).first()
    if row is None:
        raise NotFound(says)
    caller.may_see(row.project_id, rule, says)
    return row


def found(tx: Tx, id: str) -> Row | None:
    """An attachment on behalf of nobody, for steps; None when it is gone."""
    return tx.execute(sa.select(attachment).where(attachment.c.id == id)).first()


def of_volumes(tx: Tx, volume_ids: Iterable[str]) -> dict[str, list[Row]]:
    """The attachments of many volumes in one statement, by volume id, oldest first."""
    return _by(tx, "volume_id", volume_ids)


def of_servers(tx: Tx, server_ids: Iterable[str]) -> dict[str, list[Row]]:
    """The attachments of many servers in one statement, by server id, oldest first."""
    return _by(tx, "server_id", server_ids)


def _by(tx: Tx, name: str, wanted: Iterable[str]) -> dict[str, list[Row]]:
    return _QUERIES[name].by(tx, name, ids=list(wanted))


def _of_many(column: sa.Column[Any]) -> Statement:
    query = sa.select(attachment).where(among(column, "ids"))
    return Statement(query.order_by(attachment.c.created_at, attachment.c.id))


_QUERIES = {name: _of_many(attachment.c[name]) for name in ("volume_id", "server_id")}


def backend_of(tx: Tx, volume_id: str) -> str:
    """The host whose backend has the volume; a server that uses it must run there.

    Raises NotFound, and BadRequest while no host was chosen yet.
    """
    row = volumes.found(tx, volume_id)
    if row is None:
        raise NotFound(f"Volume {volume_id} could not be found.")
    if row.host is None:
        raise BadRequest(f"Volume {volume_id} is not on any host yet: its status is {row.state}.")
    return str(row.host)


class Size(Struct, frozen=True):
    """A volume's size in GiB, and who extended it to that: user_id, project_id and request_id; nobody, if nobody did."""

    gib: int
    by: Mapping[str, Any]


def size_of(tx: Tx, volume_id: str) -> Size | None:
    """None when there is no such volume."""
    row = volumes.found(tx, volume_id)
    return None if row is None else Size(row.size, row.extended_by or {})


def wake_servers(tx: Tx, cloud: Cloud, volume_id: str) -> None:
    """Have the servers that use a volume look at it."""
    using = sa.select(attachment.c.server_id).where(
        attachment.c.volume_id == volume_id, attachment.c.by_compute, attachment.c.server_id.isnot(None)
    )
    for server_id in tx.execute(using).scalars():
        jobs.wake(tx, "compute.server", server_id, now=cloud.clock.now())


def is_shared(tx: Tx, volume_id: str) -> bool:
    """Whether several servers may have the volume at once."""
    row = volumes.found(tx, volume_id)
    return row is not None and row.multiattach


def reserve(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    volume_id: str,
    server_id: str | None,
    device: str | None = None,
    read_only: bool = False,
    *,
    by_compute: bool = True,
) -> Row:
    """Keep the volume for a server. Raises NotFound, Forbidden, BadRequest (its state), Conflict (it has it already)."""
    row = volumes.get(tx, caller, volume_id)
    caller.may("volume:attachment_create", volumes.target(row))
    if row.state != VolumeState.AVAILABLE and not (
        row.multiattach and row.state in (VolumeState.RESERVED, VolumeState.IN_USE)
    ):
        raise BadRequest(
            f"Invalid volume: Volume {volume_id} status must be available or downloading to reserve, but the current status is {row.state}."
        )
    same = sa.and_(attachment.c.volume_id == volume_id, attachment.c.server_id == server_id)
    if server_id is not None and tx.execute(sa.select(attachment.c.id).where(same)).first():
        raise Conflict(f"Volume {volume_id} is already attached to server {server_id}.")
    values = {
        "id": ids.uuid4(),
        "project_id": row.project_id,
        "created_at": cloud.clock.now(),
        "state": State.RESERVED,
        "volume_id": volume_id,
        "server_id": server_id,
        "by_compute": by_compute,
        "mode": "ro" if read_only or row.readonly else "rw",
        "device": device,
    }
    made = tx.execute(sa.insert(attachment).values(**values).returning(attachment)).one()
    settle(tx, cloud, volume_id)
    return made


def connect(
    tx: Tx,
    cloud: Cloud,
    attachment_id: str,
    *,
    host: str | None,
    device: str | None,
    connector: Mapping[str, Any] | None = None,
) -> None:
    """The attachment is being made on `host`: the volume is attaching."""
    values = {"state": State.ATTACHING, "host": host, "connector": connector, "updated_at": cloud.clock.now()}
    if device is not None:
        values["device"] = device
    _change(tx, cloud, attachment_id, values)


def complete(tx: Tx, cloud: Cloud, attachment_id: str, *, host: str | None, device: str | None) -> None:
    """The guest has the volume as `device` on `host`. Repeating it changes nothing; gone already: nothing happens."""
    row = found(tx, attachment_id)
    if (
        row is None
        or row.state == State.DETACHING
        or (row.state == State.ATTACHED and row.host == host and row.device == device)
    ):
        return
    now = cloud.clock.now()
    when = row.attached_at or now
    _change(
        tx,
        cloud,
        attachment_id,
        {"state": State.ATTACHED, "host": host, "device": device, "attached_at": when, "updated_at": now},
    )


def begin_detach(tx: Tx, cloud: Cloud, caller: Caller, attachment_id: str) -> Row:
    """The attachment is to end: the volume is detaching until `release`. Repeating it changes nothing.

    Raises NotFound, Forbidden, BadRequest (it is not attached yet).
    """
    row = get(tx, caller, attachment_id)
    caller.may("volume_extension:volume_actions:begin_detaching", {"project_id": row.project_id})
    if row.state not in (State.ATTACHED, State.DETACHING):
        raise BadRequest(
            f"Invalid volume: Unable to detach volume. Its attachment must be attached, but it is {row.state}."
        )
    if row.state != State.DETACHING:
        _change(tx, cloud, attachment_id, {"state": State.DETACHING, "updated_at": cloud.clock.now()})
    return row


def roll_detaching(tx: Tx, cloud: Cloud, attachment_id: str) -> None:
    """The attachment does not end after all."""
    row = found(tx, attachment_id)
    if row is not None and row.state == State.DETACHING:
        _change(tx, cloud, attachment_id, {"state": State.ATTACHED, "updated_at": cloud.clock.now()})


def release(tx: Tx, cloud: Cloud, attachment_id: str) -> None:
    """The attachment is over, however far it was. Gone already: nothing happens."""
    row = found(tx, attachment_id)
    if row is None:
        return
    tx.execute(sa.delete(attachment).where(attachment.c.id == attachment_id))
    settle(tx, cloud, row.volume_id)


def _change(tx: Tx, cloud: Cloud, attachment_id: str, values: Mapping[str, Any]) -> None:
    query = sa.update(attachment).where(attachment.c.id == attachment_id).values(**values)
    row = tx.execute(query.returning(attachment.c.volume_id)).first()
    if row is not None:
        settle(tx, cloud, row.volume_id)


def settle(tx: Tx, cloud: Cloud, volume_id: str) -> None:
    """Have the volume's state follow its attachments."""
    row = volumes.found(tx, volume_id)
    if row is None or row.state not in _FOLLOWS:
        return
    states = set(
        tx.execute(sa.select(attachment.c.state).where(attachment.c.volume_id == volume_id)).scalars()
    )
    wanted = state_of(states)
    if row.state != wanted:
        tx.execute(
            sa.update(volume)
            .where(volume.c.id == volume_id)
            .values(state=wanted, updated_at=cloud.clock.now())
        )


def state_of(states: set[str]) -> VolumeState:
    """The state of a volume whose attachments are in `states`."""
    for one, made in (
        (State.DETACHING, VolumeState.DETACHING),
        (State.ATTACHED, VolumeState.IN_USE),
        (State.ATTACHING, VolumeState.ATTACHING),
        (State.RESERVED, VolumeState.RESERVED),
    ):
        if one in states:
            return made
    return VolumeState.AVAILABLE


def forbid_compute(row: Row) -> None:
    """Raises Conflict for an attachment that compute made: ending it behind the server's back would lose data."""
    if row.by_compute and row.state in (State.ATTACHED, State.DETACHING, State.ATTACHING):
        raise Conflict(
            f"Volume {row.volume_id} is attached to server {row.server_id}: detach it with the compute API."
        )
