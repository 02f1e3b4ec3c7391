"""Policy documents that others keep in identity (legacy), and which endpoint each is for."""

from typing import Any

import sqlalchemy as sa

from stackling.base import ids
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import NotFound
from stackling.identity.actions.permission import may
from stackling.identity.state.catalog import endpoint, region, service
from stackling.identity.state.policy import policy, policy_association


def create(tx: Tx, caller: Caller, type: str, blob: str, extra: dict[str, Any]) -> Row:
    may(caller, "create_policy")
    return tx.execute(
        policy.insert().values(id=ids.hex32(), type=type, blob=blob, extra=extra).returning(policy)
    ).one()


def get(tx: Tx, caller: Caller, policy_id: str, rule: str = "get_policy") -> Row:
    may(caller, rule)
    row = tx.execute(sa.select(policy).where(policy.c.id == policy_id)).one_or_none()
    if row is None:
        raise NotFound(f"Could not find policy: {policy_id[:64]}.")
    return row


def listing(caller: Caller) -> sa.Select[Any]:
    may(caller, "list_policies")
    return sa.select(policy)


def update(tx: Tx, caller: Caller, policy_id: str, change: dict[str, Any]) -> Row:
    row = get(tx, caller, policy_id, "update_policy")
    values = dict(change)
    if "extra" in values:
        values["extra"] = {**row.extra, **values["extra"]}
    if values:
        tx.execute(sa.update(policy).where(policy.c.id == policy_id).values(**values))
    return tx.execute(sa.select(policy).where(policy.c.id == policy_id)).one()


def delete(tx: Tx, caller: Caller, policy_id: str) -> None:
    get(tx, caller, policy_id, "delete_policy")
    tx.execute(sa.delete(policy).where(policy.c.id == policy_id))


# -- associations ------------------------------------------------------------------------------------------------------

Aim = tuple[str | None, str | None, str | None]  # ids of endpoint, service, region


def _aim(tx: Tx, caller: Caller, policy_id: str, aim: Aim, verb: str) -> list[sa.ColumnElement[bool]]:
    endpoint_id, service_id, region_id = aim
    kind = "endpoint" if endpoint_id else "region_and_service" if region_id else "service"
    get(tx, caller, policy_id, f"{verb}_policy_association_for_{kind}")
    for table, id, noun in (
        (endpoint, endpoint_id, "endpoint"),
        (service, service_id, "service"),
        (region, region_id, "region"),
    ):
        if id is not None and tx.execute(sa.select(table.c.id).where(table.c.id == id)).first() is None:
            raise NotFound(f"Could not find {noun}: {id[:64]}.")
    link = policy_association.c
    columns = ((link.endpoint_id, endpoint_id), (link.service_id, service_id), (link.region_id, region_id))
    return [column.is_(None) if id is None else column == id for column, id in columns]


def associate(tx: Tx, caller: Caller, policy_id: str, aim: Aim) -> None:
    """The policy is the one for `aim`; any other is no longer."""
    where = _aim(tx, caller, policy_id, aim, "create")
    tx.execute(sa.delete(policy_association).where(*where))
    values = dict(zip(("endpoint_id", "service_id", "region_id"), aim, strict=True))
    tx.execute(policy_association.insert().values(id=ids.hex32(), policy_id=policy_id, **values))


def check(tx: Tx, caller: Caller, policy_id: str, aim: Aim) -> None:
    where = _aim(tx, caller, policy_id, aim, "check")
    query = sa.select(policy_association.c.id).where(policy_association.c.policy_id == policy_id, *where)
    if tx.execute(query).first() is None:
        raise NotFound("No policy is associated with that.")


def dissociate(tx: Tx, caller: Caller, policy_id: str, aim: Aim) -> None:
    where = _aim(tx, caller, policy_id, aim, "delete")
    tx.execute(sa.delete(policy_association).where(policy_association.c.policy_id == policy_id, *where))


def for_endpoint(tx: Tx, caller: Caller, endpoint_id: str) -> Row:
    """The policy of an endpoint: its own, else that of its service in its region or one above, else its service's."""
    may(caller, "get_policy_for_endpoint")
    return _for_endpoint(tx, endpoint_id)


def _for_endpoint(tx: Tx, endpoint_id: str) -> Row:
    row = tx.execute(sa.select(endpoint).where(endpoint.c.id == endpoint_id)).one_or_none()
    if row is None:
        raise NotFound(f"Could not find endpoint: {endpoint_id[:64]}.")
    table = policy_association.c
    ways = [[table.endpoint_id == endpoint_id]]
    place = row.region_id
    while place is not None:
        ways.append([table.service_id == row.service_id, table.region_id == place])
        place = tx.execute(sa.select(region.c.parent_region_id).where(region.c.id == place)).scalar()
    ways.append([table.service_id == row.service_id, table.region_id.is_(None)])
    for way in ways:
        found = tx.execute(
            sa.select(policy).join(policy_association, table.policy_id == policy.c.id).where(*way)
        ).first()
        if found is not None:
            return found
    raise NotFound(f"No policy is associated with endpoint {endpoint_id}.")


def endpoints(tx: Tx, caller: Caller, policy_id: str) -> list[Row]:
    """The endpoints for which this is the policy."""
    get(tx, caller, policy_id, "list_endpoints_for_policy")
    made = []
    for row in tx.execute(sa.select(endpoint).order_by(endpoint.c.id)).all():
        try:
            if _for_endpoint(tx, row.id).id == policy_id:
                made.append(row)
        except NotFound:
            continue
    return made
