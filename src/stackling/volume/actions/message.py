"""Messages to a project: why something went wrong after its request was answered."""

from datetime import timedelta

import sqlalchemy as sa

from stackling.base import ids
from stackling.base.clock import Clock
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import NotFound
from stackling.base.listing import Sort, page
from stackling.volume.state.message import message

KEPT = timedelta(days=30)


def create(tx: Tx, about: Row, *, event_id: str, resource_type: str, says: str) -> None:
    """Tell the project of `about`, a volume or snapshot, what happened to it."""
    now = Clock().now()  # a step that fails is not told the cloud's clock
    values = {
        "id": ids.uuid4(),
        "project_id": about.project_id,
        "event_id": event_id,
        "resource_type": resource_type,
        "resource_id": about.id,
        "request_id": about.request_id,
        "says": says,
        "created_at": now,
        "until": now + KEPT,
    }
    tx.execute(sa.delete(message).where(message.c.until < now))
    tx.execute(sa.insert(message).values(**values))


def get(tx: Tx, caller: Caller, id: str, rule: str = "message:get") -> Row:
    says = f"Message {id[:64]} could not be found."
    row = tx.execute(sa.select(message).where(message.c.id == id)).first()
    if row is None:
        raise NotFound(says)
    caller.may_see(row.project_id, rule, says)
    return row


def listed(
    tx: Tx, caller: Caller, filters: dict[str, str], sort: Sort, *, limit: int, marker: str | None
) -> list[Row]:
    caller.may("message:get_all")
    query = sa.select(message).where(message.c.project_id == caller.project_id)
    for name, value in filters.items():
        query = query.where(message.c[name] == value)
    return page(tx, query, sort, limit=limit, after=get(tx, caller, marker) if marker else None)


def delete(tx: Tx, caller: Caller, id: str) -> None:
    get(tx, caller, id, "message:delete")
    tx.execute(sa.delete(message).where(message.c.id == id))
