"""The rows of users and groups that are in a directory: kept as the directory has them."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import log
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.directory import Directory
from stackling.identity.directory import Group, User
from stackling.identity.state import directory as state
from stackling.identity.state import revision
from stackling.identity.state import user as users
from stackling.identity.state.directory import GROUP, USER, directory_entry

LONG_AGO = datetime(1970, 1, 1)


class Home(Struct, frozen=True):
    """A domain with the directory that holds its users."""

    domain_id: str
    domain_name: str
    enabled: bool
    options: Directory


def public_id(domain_id: str, kind: str, local_id: str) -> str:
    """The id of somebody in a directory: always the same, and the one that Keystone's `sha256` generator gives."""
    return hashlib.sha256(f"{domain_id}{kind}{local_id}".encode()).hexdigest()


def take_users(tx: Tx, cloud: Cloud, home: Home, found: Sequence[User]) -> dict[str, str]:
    """Have a row for each, as the directory has it. Their ids by local id, without those whose name is not free."""
    wanted = {
        one.local_id: {
            "name": one.name,
            "enabled": one.enabled,
            "default_project_id": (one.default_project_id or None) and str(one.default_project_id)[:64],
            "extra": one.extra,
        }
        for one in found
    }
    fresh = {"options": {}, "generation": 0, "created_at": cloud.clock.now()}
    return _take(tx, cloud, home, USER, users.user, wanted, fresh)


def take_groups(tx: Tx, cloud: Cloud, home: Home, found: Sequence[Group]) -> dict[str, str]:
    wanted = {
        one.local_id: {"name": one.name, "description": one.description, "extra": one.extra} for one in found
    }
    return _take(tx, cloud, home, GROUP, users.group, wanted, {})


def _take(
    tx: Tx,
    cloud: Cloud,
    home: Home,
    kind: str,
    table: sa.Table,
    wanted: dict[str, dict[str, Any]],
    fresh: dict[str, Any],
) -> dict[str, str]:
    made = {local_id: public_id(home.domain_id, kind, local_id) for local_id in wanted}
    mine = set(made.values())
    rows = {row.id: row for row in _by_id(tx, table, mine)}
    entries = {row.id: row for row in _by_id(tx, directory_entry, mine)}
    names = _names(tx, table, home.domain_id, {values["name"] for values in wanted.values()})
    now, changed = cloud.clock.now(), False
    nameless: set[str | None] = set()
    seen: set[str] = set()
    for local_id in sorted(wanted):
        id, values = made[local_id], wanted[local_id]
        holder = names.get(values["name"])
        if holder is not None and holder != id and not _give_way(tx, table, holder):
            # A user of the cloud's own, or the one of two in the directory that comes first, keeps the name.
            log.get("identity").warning(
                "directory.name", domain=home.domain_name, kind=kind, name=values["name"]
            )
            if id in entries and not entries[id].gone:
                lose(tx, entries[id])
            del made[local_id]
            continue
        nameless.add(holder if holder != id else None)
        seen.discard(holder or "")  # who gave way is to be looked at again
        names[values["name"]] = id
        row, entry = rows.get(id), entries.get(id)
        if row is not None and row.name != values["name"] and names.get(row.name) == id:
            del names[row.name]
        if row is None:
            tx.execute(table.insert().values(id=id, domain_id=home.domain_id, **fresh, **values))
        else:
            differ = {
                k: v for k, v in values.items() if getattr(row, k) != v or (k == "name" and id in nameless)
            }
            if differ.get("enabled") is False:
                differ["generation"] = row.generation + 1
            if differ:
                tx.execute(sa.update(table).where(table.c.id == id).values(**differ))
                changed = True
        if entry is None:
            values = {"kind": kind, "domain_id": home.domain_id, "local_id": local_id}
            tx.execute(directory_entry.insert().values(id=id, checked_at=now, gone=False, **values))
        else:
            changed = changed or entry.gone
            seen.add(id)
    for some in _parts(seen):
        query = sa.update(directory_entry).where(directory_entry.c.id.in_(some))
        tx.execute(query.values(checked_at=now, gone=False))
    if changed:
        revision.bump(tx)
    return made


def _by_id(tx: Tx, table: sa.Table, wanted: Iterable[str]) -> list[Row]:
    return _in_parts(tx, sa.select(table), table.c.id, wanted)


def _names(tx: Tx, table: sa.Table, domain_id: str, wanted: Iterable[str]) -> dict[str, str]:
    """Who has which of the names in the domain."""
    query = sa.select(table.c.name, table.c.id).where(table.c.domain_id == domain_id)
    return {row.name: row.id for row in _in_parts(tx, query, table.c.name, wanted)}


def _in_parts(
    tx: Tx, query: sa.Select[Any], column: sa.ColumnElement[Any], wanted: Iterable[str]
) -> list[Row]:
    """The rows whose column is one of many values."""
    return [row for some in _parts(wanted) for row in tx.execute(query.where(column.in_(some)))]


def _parts(values: Iterable[str]) -> Iterator[list[str]]:
    """So many as a statement takes."""
    every = sorted(values)
    for start in range(0, len(every), 500):
        yield every[start : start + 500]


def _give_way(tx: Tx, table: sa.Table, id: str) -> bool:
    """Take the name from one who came from the directory and is called so no more; his own next look gives him his."""
    entry = state.find(tx, id)
    if entry is None:
        return False
    tx.execute(sa.update(table).where(table.c.id == id).values(name=id))
    if not entry.gone:
        tx.execute(sa.update(directory_entry).where(directory_entry.c.id == id).values(checked_at=LONG_AGO))
    return True


def lose(tx: Tx, entry: Row) -> None:
    """The directory has it no more: nobody finds it, its tokens end, and what it was given rests."""
    tx.execute(sa.update(directory_entry).where(directory_entry.c.id == entry.id).values(gone=True))
    if entry.kind == USER:
        table = users.user
        tx.execute(
            sa.update(table)
            .where(table.c.id == entry.id)
            .values(enabled=False, generation=table.c.generation + 1)
        )
        tx.execute(sa.delete(users.membership).where(users.membership.c.user_id == entry.id))
    else:
        tx.execute(sa.delete(users.membership).where(users.membership.c.group_id == entry.id))
    revision.bump(tx)


def put_groups(tx: Tx, cloud: Cloud, home: Home, user_id: str, groups: list[Group]) -> None:
    """The user is in these groups of his directory, and in no others of it."""
    made = take_groups(tx, cloud, home, groups)
    put_memberships(tx, None, user_id, {(user_id, id) for id in made.values()})


def put_memberships(
    tx: Tx, group_ids: list[str] | None, user_id: str | None, wanted: set[tuple[str, str]]
) -> None:
    """The memberships of one user, or of all these groups, are those that are wanted."""
    table = users.membership.c
    query = sa.select(table.user_id, table.group_id)
    if user_id is not None:
        before: list[Row] = list(tx.execute(query.where(table.user_id == user_id)))
    else:
        before = _in_parts(tx, query, table.group_id, group_ids or [])
    have = {(row.user_id, row.group_id) for row in before}
    for who, where in have - wanted:
        tx.execute(sa.delete(users.membership).where(table.user_id == who, table.group_id == where))
    if wanted - have:
        tx.execute(
            users.membership.insert(), [{"user_id": u, "group_id": g} for u, g in sorted(wanted - have)]
        )
    if have != wanted:
        revision.bump(tx)
