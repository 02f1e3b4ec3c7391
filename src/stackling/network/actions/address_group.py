"""Address groups: named sets of addresses that security group rules can let through."""

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import ColumnElement

from stackling.base import db, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.network.actions import address, sharing, standard
from stackling.network.actions.standard import New, Unset, given
from stackling.network.errors import (
    AddressesAlreadyExist,
    AddressesNotFound,
    AddressGroupInUse,
    AddressGroupNotFound,
)
from stackling.network.state import rbac
from stackling.network.state.security_group import address_group, security_group_rule


class NewAddressGroup(New, kw_only=True):
    addresses: list[str] = []


class AddressGroupChanges(Struct, kw_only=True):
    name: str | Unset = standard.UNSET
    description: str | Unset = standard.UNSET


def find(tx: Tx, caller: Caller, id: str, verb: str = "get") -> Row:
    """Raises AddressGroupNotFound, Forbidden."""
    row = tx.execute(sa.select(address_group).where(address_group.c.id == id)).first()
    missing = AddressGroupNotFound(f"Address group {id} could not be found.")
    if row is None:
        raise missing
    shared = row.project_id != caller.project_id and bool(
        rbac.actions_for(tx, id, caller.project_id) or rbac.actions_for(tx, id, sharing.EVERYBODY)
    )
    standard.guard(caller, verb, "address_group", standard.target(row.project_id, shared=shared), missing)
    return row


def visible(caller: Caller) -> ColumnElement[bool] | None:
    if standard.sees_all(caller, "address_group"):
        return None
    return sa.or_(
        address_group.c.project_id == caller.project_id,
        rbac.among("address_group", address_group.c.id, caller.project_id),
        rbac.among("address_group", address_group.c.id, sharing.EVERYBODY),
    )


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewAddressGroup) -> Row:
    """Raises Forbidden, QuotaExceeded, InvalidInput."""
    project_id = standard.owner(caller, want)
    caller.may("create_address_group", standard.target(project_id))
    standard.check_quota(tx, cloud, project_id, address_group=1)
    values = {"addresses": list(dict.fromkeys(_checked(want.addresses)))}
    return standard.insert(tx, address_group, standard.fresh(cloud, project_id, want) | values)


def _checked(texts: list[str]) -> list[str]:
    return [str(address.prefix(text, "addresses")) for text in texts]


def update(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, want: AddressGroupChanges, *, revision: int | None = None
) -> Row:
    """Raises AddressGroupNotFound, Forbidden."""
    standard.check_revision(find(tx, caller, id, "update"), revision)
    return standard.change(tx, cloud, address_group, id, given(want, "name", "description"))


def change_addresses(tx: Tx, cloud: Cloud, caller: Caller, id: str, texts: list[str], *, add: bool) -> Row:
    """Add addresses, or take some away. Raises AddressGroupNotFound, Forbidden, AddressesAlreadyExist, AddressesNotFound."""
    row = find(tx, caller, id)
    caller.may("add_addresses" if add else "remove_addresses", standard.target(row.project_id))
    db.lock(tx, f"address_group:{id}")
    row = find(tx, caller, id)
    named = list(dict.fromkeys(_checked(texts)))
    if add:
        twice = [a for a in named if a in row.addresses]
        if twice:
            raise AddressesAlreadyExist(f"Addresses {twice[:20]} already exist in the address group {id}.")
        left = [*row.addresses, *named]
    else:
        strange = [a for a in named if a not in row.addresses]
        if strange:
            raise AddressesNotFound(f"Addresses {strange[:20]} not found in the address group {id}.")
        left = [a for a in row.addresses if a not in named]
    made = standard.change(tx, cloud, address_group, id, {"addresses": left})
    for group_id in _users(tx, id):
        jobs.start(tx, "network.security_group", group_id, now=cloud.clock.now())
    return made


def _users(tx: Tx, id: str) -> set[str]:
    """The security groups that have a rule with it."""
    rules = security_group_rule.c
    return set(
        tx.execute(sa.select(rules.security_group_id).where(rules.remote_address_group_id == id)).scalars()
    )


def remove(tx: Tx, cloud: Cloud, caller: Caller, id: str, *, revision: int | None = None) -> None:
    """Raises AddressGroupNotFound, Forbidden, AddressGroupInUse."""
    standard.check_revision(find(tx, caller, id, "delete"), revision)
    if _users(tx, id):
        raise AddressGroupInUse(f"Address group {id} is in use on one or more security group rules.")
    tx.execute(sa.delete(address_group).where(address_group.c.id == id))
    sharing.forget(tx, id)
    standard.forget_tags(tx, [id])
