"""QoS specs and their association with volume types."""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, NotFound
from stackling.base.listing import Sort, page
from stackling.volume.actions import volume_type
from stackling.volume.state.qos import Consumer, qos_specs
from stackling.volume.state.volume_type import volume_type as types

_RULE = "volume_extension:qos_specs_manage:"


def get(tx: Tx, caller: Caller, id: str, rule: str = "get") -> Row:
    caller.may(_RULE + rule)
    row = tx.execute(sa.select(qos_specs).where(qos_specs.c.id == id)).first()
    if row is None:
        raise NotFound(f"No such QoS spec {id[:64]}.")
    return row


def listed(tx: Tx, caller: Caller, sort: Sort, *, limit: int, marker: str | None) -> list[Row]:
    caller.may(_RULE + "get_all")
    return page(
        tx, sa.select(qos_specs), sort, limit=limit, after=get(tx, caller, marker) if marker else None
    )


def create(
    tx: Tx, cloud: Cloud, caller: Caller, name: str, consumer: Consumer, specs: Mapping[str, str]
) -> Row:
    """Raises Conflict when the name is taken."""
    caller.may(_RULE + "create")
    if tx.execute(sa.select(qos_specs.c.id).where(qos_specs.c.name == name)).first():
        raise Conflict(f"QoS Specs {name} already exists.")
    values = {
        "id": ids.uuid4(),
        "name": name,
        "consumer": consumer,
        "specs": dict(specs),
        "created_at": cloud.clock.now(),
    }
    return tx.execute(sa.insert(qos_specs).values(**values).returning(qos_specs)).one()


def update(tx: Tx, caller: Caller, id: str, consumer: Consumer | None, specs: Mapping[str, str]) -> Row:
    row = get(tx, caller, id, "update")
    values = {"consumer": consumer or row.consumer, "specs": {**row.specs, **specs}}
    return tx.execute(
        sa.update(qos_specs).where(qos_specs.c.id == id).values(**values).returning(qos_specs)
    ).one()


def remove_keys(tx: Tx, caller: Caller, id: str, keys: Iterable[str]) -> None:
    row = get(tx, caller, id, "update")
    wanted = list(keys)
    for key in wanted:
        if key not in row.specs:
            raise BadRequest(f"QoS spec {id} has no spec with key {key[:64]}.")
    left = {k: v for k, v in row.specs.items() if k not in wanted}
    tx.execute(sa.update(qos_specs).where(qos_specs.c.id == id).values(specs=left))


def delete(tx: Tx, caller: Caller, id: str, *, force: bool) -> None:
    """Raises BadRequest while types use it, unless `force`."""
    get(tx, caller, id, "delete")
    if associations(tx, caller, id) and not force:
        raise BadRequest(f"QoS Specs {id} is still associated with entities.")
    tx.execute(sa.update(types).where(types.c.qos_specs_id == id).values(qos_specs_id=None))
    tx.execute(sa.delete(qos_specs).where(qos_specs.c.id == id))


def associations(tx: Tx, caller: Caller, id: str) -> list[Row]:
    """The volume types that use it."""
    get(tx, caller, id)
    return list(tx.execute(sa.select(types).where(types.c.qos_specs_id == id).order_by(types.c.name)))


def associate(tx: Tx, caller: Caller, id: str, type_id: str) -> None:
    get(tx, caller, id, "update")
    row = volume_type.find(tx, caller, type_id)
    if row.qos_specs_id not in (None, id):
        raise BadRequest(f"Type {type_id} is already associated with another qos specs: {row.qos_specs_id}.")
    tx.execute(sa.update(types).where(types.c.id == type_id).values(qos_specs_id=id))


def disassociate(tx: Tx, caller: Caller, id: str, type_id: str | None) -> None:
    """From one type, or from all."""
    get(tx, caller, id, "update")
    query = sa.update(types).where(types.c.qos_specs_id == id)
    if type_id is not None:
        volume_type.find(tx, caller, type_id)
        query = query.where(types.c.id == type_id)
    tx.execute(query.values(qos_specs_id=None))
