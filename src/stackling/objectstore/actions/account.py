"""Accounts. One a project, made at the first write; everything else about an account is its project's."""

from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import db, ids, jobs
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden, Gone, NotFound
from stackling.base.statement import Statement
from stackling.objectstore.actions import access, listing, metadata
from stackling.objectstore.actions.access import Standing, Visitor
from stackling.objectstore.actions.listing import Window
from stackling.objectstore.state.account import State, account
from stackling.objectstore.state.container import container

KIND = "objectstore.account"
MOST_NAME = 256  # bytes

_FIND = Statement(sa.select(account).where(account.c.name == sa.bindparam("name")))


class Usage(Struct, frozen=True):
    """What an account, or what of it lies in one storage policy, has."""

    containers: int = 0
    objects: int = 0
    bytes: int = 0


def find(tx: Tx, name: str) -> Row | None:
    """The account, being deleted or not; None when nothing was written to it yet."""
    return _FIND.first(tx, name=name)


def made(tx: Tx, cloud: Cloud, name: str) -> Row:
    """The account, made if it isn't there. Raises Forbidden while it is being deleted."""
    found = find(tx, name)
    if found is None:
        now = cloud.clock.now()
        values = {
            "id": ids.uuid4(),
            "state": State.ACTIVE,
            "name": name,
            "headers": {},
            "created_at": now,
            "updated_at": now,
        }
        db.upsert(tx, account, values, {}, key=("name",))
        found = find(tx, name)
    if found is None or found.state != State.ACTIVE:
        raise Forbidden("Recently deleted")
    return found


def usage(tx: Tx, account_id: str) -> dict[str, Usage]:
    """What an account has, by storage policy. The sum of its containers' counts, which each change keeps exact."""
    query = (
        sa.select(
            container.c.policy,
            sa.func.count(),
            sa.func.sum(container.c.object_count),
            sa.func.sum(container.c.bytes_used),
        )
        .where(container.c.account_id == account_id)
        .group_by(container.c.policy)
    )
    return {policy: Usage(n, int(objects), int(size)) for policy, n, objects, size in tx.execute(query)}


def look(tx: Tx, cloud: Cloud, visitor: Visitor, name: str) -> tuple[Row | None, dict[str, Usage], Standing]:
    """An account for its readers; None: nothing was written to it yet. Raises Gone while it is being deleted."""
    access.need(cloud, visitor, name, Standing.READER)
    found = find(tx, name)
    if found is not None and found.state != State.ACTIVE:
        raise Gone("The account is being deleted.")
    standing = access.standing(cloud, visitor, name)
    return found, usage(tx, found.id) if found is not None else {}, standing


def containers(tx: Tx, account_id: str, window: Window) -> list[Row | str]:
    """A part of the account's list of containers."""
    query = sa.select(container).where(container.c.account_id == account_id)
    return listing.walk(tx, query, container.c.name, window)


def update(tx: Tx, cloud: Cloud, visitor: Visitor, name: str, given: dict[str, str]) -> None:
    """Set metadata; what is given empty goes. Quotas are the resellers' to set. Raises Forbidden, BadRequest."""
    access.need(cloud, visitor, name, Standing.OPERATOR)
    quotas = [h for h in given if h.startswith(("X-Account-Quota-", "X-Account-Meta-Quota-"))]
    if quotas and access.standing(cloud, visitor, name) < Standing.RESELLER:
        raise Forbidden("Access was denied to this resource.", detail=f"sets {quotas[0]}")
    for quota in quotas:
        if given[quota] and not (given[quota].isdecimal() and len(given[quota]) < 19):
            raise BadRequest(f"Invalid quota: {quota} is not a whole number")
    row = made(tx, cloud, name)
    headers = metadata.merged("Account", row.headers, given)
    values: dict[str, Any] = {"headers": headers, "updated_at": cloud.clock.now()}
    tx.execute(sa.update(account).where(account.c.id == row.id).values(**values))


def create(tx: Tx, cloud: Cloud, visitor: Visitor, name: str, given: dict[str, str]) -> bool:
    """Make an account, or set metadata of one that is there; True: it is new. For resellers."""
    access.need(cloud, visitor, name, Standing.RESELLER)
    metadata.check_name("Account", name, MOST_NAME)
    new = find(tx, name) is None
    update(tx, cloud, visitor, name, given)
    return new


def delete(tx: Tx, cloud: Cloud, visitor: Visitor, name: str) -> None:
    """Delete an account with all that is in it; its job does the work. For resellers. Raises NotFound."""
    access.need(cloud, visitor, name, Standing.RESELLER)
    found = find(tx, name)
    if found is None or found.state != State.ACTIVE:
        raise NotFound("The resource could not be found.")
    going = sa.update(account).where(account.c.id == found.id)
    tx.execute(going.values(state=State.DELETING, headers={}, updated_at=cloud.clock.now()))
    jobs.start(tx, KIND, found.id, now=cloud.clock.now())
