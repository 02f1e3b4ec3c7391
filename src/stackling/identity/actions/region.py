"""Regions: the places that endpoints stand in, as a tree."""

from typing import Any

import msgspec
import sqlalchemy as sa

from stackling.base import ids
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, Forbidden, NotFound
from stackling.identity.actions.permission import may
from stackling.identity.state import revision
from stackling.identity.state.catalog import endpoint, region
from stackling.identity.state.limit import registered_limit


class NewRegion(msgspec.Struct, kw_only=True):
    id: str | None = None
    description: str = ""
    parent_region_id: str | None = None
    extra: dict[str, Any] = {}


def _find(tx: Tx, region_id: str) -> Row | None:
    return tx.execute(sa.select(region).where(region.c.id == region_id)).one_or_none()


def create(tx: Tx, caller: Caller, want: NewRegion) -> Row:
    may(caller, "create_region")
    region_id = want.id or ids.hex32()
    if _find(tx, region_id):
        raise Conflict(f"Conflict occurred attempting to store region - Duplicate ID, {region_id}.")
    if want.parent_region_id and not _find(tx, want.parent_region_id):
        raise NotFound(f"Could not find region: {want.parent_region_id[:64]}.")
    values = {
        "description": want.description,
        "parent_region_id": want.parent_region_id or None,
        "extra": want.extra,
    }
    return tx.execute(region.insert().values(id=region_id, **values).returning(region)).one()


def get(tx: Tx, caller: Caller, region_id: str, rule: str = "get_region") -> Row:
    may(caller, rule)
    row = _find(tx, region_id)
    if row is None:
        raise NotFound(f"Could not find region: {region_id[:64]}.")
    return row


def listing(caller: Caller) -> sa.Select[Any]:
    may(caller, "list_regions")
    return sa.select(region)


def _below(tx: Tx, region_id: str) -> list[str]:
    """The region and all below it, those of each level after their parents."""
    found, level = [region_id], [region_id]
    while level:
        level = list(tx.execute(sa.select(region.c.id).where(region.c.parent_region_id.in_(level))).scalars())
        found += level
    return found


def update(tx: Tx, caller: Caller, region_id: str, change: dict[str, Any]) -> Row:
    row = get(tx, caller, region_id, "update_region")
    values = dict(change)
    parent = values.get("parent_region_id")
    if parent:
        if not _find(tx, parent):
            raise NotFound(f"Could not find region: {parent[:64]}.")
        if parent in _below(tx, region_id):
            raise BadRequest(
                f"Invalid input for field/attribute parent_region_id: {parent} stands below {region_id}."
            )
    if "extra" in values:
        values["extra"] = {**row.extra, **values["extra"]}
    if values:
        tx.execute(sa.update(region).where(region.c.id == region_id).values(**values))
    revision.bump(tx)
    return _find(tx, region_id) or row


def delete(tx: Tx, caller: Caller, region_id: str) -> None:
    get(tx, caller, region_id, "delete_region")
    tree = _below(tx, region_id)
    for table in (endpoint, registered_limit):
        if tx.execute(sa.select(table.c.id).where(table.c.region_id.in_(tree)).limit(1)).first():
            raise Forbidden(
                f"Unable to delete region {region_id} because it or its child regions have associated endpoints or limits."
            )
    for one in reversed(tree):
        tx.execute(sa.delete(region).where(region.c.id == one))
    revision.bump(tx)
