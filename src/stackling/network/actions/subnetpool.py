"""Subnet pools and address scopes: where subnets get their CIDRs when none is named."""

from typing import Any

import netaddr
import sqlalchemy as sa
from msgspec import UNSET, Struct
from sqlalchemy import ColumnElement

from stackling.base import db
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.network.actions import address, sharing, standard
from stackling.network.actions.standard import New, Unset, given
from stackling.network.errors import (
    AddressScopeInUse,
    AddressScopeNotFound,
    IllegalSubnetPoolPrefixUpdate,
    InvalidInput,
    MaxPrefixSubnetAllocationError,
    MinPrefixSubnetAllocationError,
    MissingMinSubnetPoolPrefix,
    SubnetAllocationError,
    SubnetPoolInUse,
    SubnetPoolNotFound,
    SubnetPoolQuotaExceeded,
)
from stackling.network.state import rbac
from stackling.network.state.subnet import address_scope, subnet, subnetpool


class NewPool(New, kw_only=True):
    prefixes: list[str]
    default_prefixlen: int | Unset | None = UNSET
    min_prefixlen: int | Unset | None = UNSET
    max_prefixlen: int | Unset | None = UNSET
    default_quota: int | None = None
    shared: bool | Unset = UNSET
    is_default: bool | Unset = UNSET
    address_scope_id: str | None = None


class PoolChanges(Struct, kw_only=True):
    name: str | Unset = UNSET
    description: str | Unset = UNSET
    prefixes: list[str] | Unset = UNSET
    default_prefixlen: int | Unset = UNSET
    min_prefixlen: int | Unset = UNSET
    max_prefixlen: int | Unset = UNSET
    default_quota: int | Unset | None = UNSET
    is_default: bool | Unset = UNSET
    address_scope_id: str | Unset | None = UNSET


class NewScope(New, kw_only=True):
    ip_version: int
    shared: bool | Unset = UNSET


class ScopeChanges(Struct, kw_only=True):
    name: str | Unset = UNSET
    shared: bool | Unset = UNSET


def _target(tx: Tx, caller: Caller, row: Row) -> dict[str, Any]:
    """A pool or scope as the policy sees it for this caller."""
    shared = row.shared or (
        row.project_id != caller.project_id and bool(rbac.actions_for(tx, row.id, caller.project_id))
    )
    return standard.target(row.project_id, shared=shared)


# -- pools -------------------------------------------------------------------------------------------------------------


def find(tx: Tx, caller: Caller, id: str, verb: str = "get") -> Row:
    """Raises SubnetPoolNotFound, Forbidden."""
    row = tx.execute(sa.select(subnetpool).where(subnetpool.c.id == id)).first()
    missing = SubnetPoolNotFound(f"Subnet pool {id} could not be found.")
    if row is None:
        raise missing
    standard.guard(caller, verb, "subnetpool", _target(tx, caller, row), missing)
    return row


def visible(caller: Caller) -> ColumnElement[bool] | None:
    if standard.sees_all(caller, "subnetpool"):
        return None
    by_name = rbac.among("subnetpool", subnetpool.c.id, caller.project_id)
    return sa.or_(subnetpool.c.project_id == caller.project_id, subnetpool.c.shared, by_name)


def default(tx: Tx, caller: Caller, ip_version: int) -> Row | None:
    """The pool that serves subnets which ask for the default one."""
    return tx.execute(
        sa.select(subnetpool).where(subnetpool.c.is_default, subnetpool.c.ip_version == ip_version)
    ).first()


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewPool) -> Row:
    """Raises Forbidden, QuotaExceeded, and a BadRequest that says what is wrong with the prefixes."""
    project_id = standard.owner(caller, want)
    whom = standard.target(project_id)
    caller.may("create_subnetpool", whom)
    standard.may_set(
        caller, "create_subnetpool", want, {"shared": "shared", "is_default": "is_default"}, whom
    )
    standard.check_quota(tx, cloud, project_id, subnetpool=1)
    version, prefixes = _prefixes(want.prefixes)
    values = standard.fresh(cloud, project_id, want) | {
        "ip_version": version,
        "prefixes": prefixes,
        **_lengths(
            version, want.min_prefixlen or UNSET, want.default_prefixlen or UNSET, want.max_prefixlen or UNSET
        ),
        "default_quota": want.default_quota,
        "shared": want.shared is True,
        "is_default": want.is_default is True,
        "address_scope_id": _scope(tx, caller, want.address_scope_id, version, prefixes, None),
    }
    if values["is_default"]:
        _only_default(tx, version)
    row = standard.insert(tx, subnetpool, values)
    sharing.follow(tx, cloud, "subnetpool", row, {"shared": row.shared})
    return row


def _only_default(tx: Tx, version: int) -> None:
    if tx.execute(
        sa.select(subnetpool.c.id).where(subnetpool.c.is_default, subnetpool.c.ip_version == version)
    ).first():
        raise InvalidInput(
            f"Invalid input for operation: A default subnetpool for IPv{version} has already been set."
        )


def _prefixes(texts: list[str]) -> tuple[int, list[str]]:
    nets = [address.prefix(t, "prefixes") for t in texts]
    if not nets:
        raise MissingMinSubnetPoolPrefix("Unspecified minimum subnet pool prefix.")
    if len({n.version for n in nets}) > 1:
        raise InvalidInput("Invalid input for prefixes. Reason: a subnet pool holds one IP version only.")
    merged = netaddr.cidr_merge([netaddr.IPNetwork(str(n)) for n in nets])
    return nets[0].version, [str(m) for m in merged]


def _lengths(version: int, least: int | Unset, usual: int | Unset, most: int | Unset) -> dict[str, int]:
    bits = 32 if version == 4 else 128
    low = least if least is not UNSET else (8 if version == 4 else 64)
    high = most if most is not UNSET else bits
    middle = usual if usual is not UNSET else low
    for name, value in (("min_prefixlen", low), ("max_prefixlen", high), ("default_prefixlen", middle)):
        if not 0 <= value <= bits:
            raise InvalidInput(f"Invalid input for {name}. Reason: {value} is not from 0 to {bits}.")
    if not low <= middle <= high:
        raise InvalidInput(
            f"Illegal prefix bounds: min_prefixlen={low}, default_prefixlen={middle}, max_prefixlen={high} are not in this order."
        )
    return {"min_prefixlen": low, "default_prefixlen": middle, "max_prefixlen": high}


def _scope(
    tx: Tx, caller: Caller, scope_id: str | None, version: int, prefixes: list[str], pool_id: str | None
) -> str | None:
    if scope_id is None:
        return None
    scope = find_scope(tx, caller, scope_id)
    if scope.ip_version != version:
        raise InvalidInput(
            f"Illegal subnetpool association: subnetpool cannot associate with address scope {scope_id} because ip_version differs."
        )
    others = sa.select(subnetpool).where(
        subnetpool.c.address_scope_id == scope_id, subnetpool.c.id != (pool_id or "")
    )
    mine = netaddr.IPSet(prefixes)
    for other in tx.execute(others):
        if mine & netaddr.IPSet(other.prefixes):
            raise InvalidInput(
                f"Illegal subnetpool association: prefixes overlap those of subnet pool {other.id} in the address scope."
            )
    return scope_id


def update(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, want: PoolChanges, *, revision: int | None = None
) -> Row:
    """Raises SubnetPoolNotFound, Forbidden, IllegalSubnetPoolPrefixUpdate, InvalidInput."""
    row = find(tx, caller, id, "update")
    standard.check_revision(row, revision)
    standard.may_set(
        caller, "update_subnetpool", want, {"is_default": "is_default"}, standard.target(row.project_id)
    )
    db.lock(tx, f"subnetpool:{id}")
    values = given(want, "name", "description", "default_quota", "is_default", "address_scope_id")
    if want.prefixes is not UNSET:
        version, prefixes = _prefixes(want.prefixes)
        if version != row.ip_version:
            raise InvalidInput(
                "Invalid input for prefixes. Reason: the IP version of a subnet pool can't change."
            )
        if not netaddr.IPSet(row.prefixes) <= netaddr.IPSet(prefixes):
            raise IllegalSubnetPoolPrefixUpdate(
                "Illegal update to prefixes: existing prefixes must be a subset of the new ones."
            )
        values["prefixes"] = prefixes
    values |= _lengths(
        row.ip_version,
        want.min_prefixlen if want.min_prefixlen is not UNSET else row.min_prefixlen,
        want.default_prefixlen if want.default_prefixlen is not UNSET else row.default_prefixlen,
        want.max_prefixlen if want.max_prefixlen is not UNSET else row.max_prefixlen,
    )
    if want.is_default is True and not row.is_default:
        _only_default(tx, row.ip_version)
    if want.address_scope_id is not UNSET and want.address_scope_id != row.address_scope_id:
        _scope(tx, caller, want.address_scope_id, row.ip_version, values.get("prefixes", row.prefixes), id)
    return standard.change(tx, cloud, subnetpool, id, values)


def change_prefixes(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, texts: list[str], *, add: bool
) -> list[str]:
    """Add prefixes to a pool, or take them away; returns what it then has.

    Raises SubnetPoolNotFound, Forbidden, IllegalSubnetPoolPrefixUpdate when a subnet stands in what goes.
    """
    row = find(tx, caller, id)
    caller.may("add_prefixes" if add else "remove_prefixes", standard.target(row.project_id))
    db.lock(tx, f"subnetpool:{id}")
    version, prefixes = _prefixes(texts)
    if version != row.ip_version:
        raise InvalidInput("Invalid input for prefixes. Reason: the IP version is not the subnet pool's.")
    had, more = netaddr.IPSet(row.prefixes), netaddr.IPSet(prefixes)
    left = had | more if add else had - more
    if not add:
        cidrs = tx.execute(sa.select(subnet.c.cidr).where(subnet.c.subnetpool_id == id)).scalars()
        if any(netaddr.IPSet([c]) & more for c in cidrs):
            raise IllegalSubnetPoolPrefixUpdate(
                "Illegal update to prefixes: a subnet is allocated from the prefixes to remove."
            )
    made = [str(c) for c in left.iter_cidrs()]
    standard.change(tx, cloud, subnetpool, id, {"prefixes": made})
    return made


def remove(tx: Tx, cloud: Cloud, caller: Caller, id: str, *, revision: int | None = None) -> None:
    """Raises SubnetPoolNotFound, Forbidden, SubnetPoolInUse."""
    row = find(tx, caller, id, "delete")
    standard.check_revision(row, revision)
    db.lock(tx, f"subnetpool:{id}")
    if tx.execute(sa.select(subnet.c.id).where(subnet.c.subnetpool_id == id).limit(1)).first():
        raise SubnetPoolInUse(
            f"Unable to complete operation on subnet pool {id}. Subnet pool has existing allocations."
        )
    tx.execute(sa.delete(subnetpool).where(subnetpool.c.id == id))
    sharing.forget(tx, id)
    standard.forget_tags(tx, [id])


def allocate(
    tx: Tx, pool: Row, project_id: str, *, cidr: address.Prefix | None, prefixlen: int | None
) -> str:
    """A CIDR of the pool that no subnet has; `cidr` when that one is wanted.

    Raises SubnetAllocationError, Min/MaxPrefixSubnetAllocationError, SubnetPoolQuotaExceeded.
    """
    db.lock(tx, f"subnetpool:{pool.id}")
    length = (
        cidr.prefixlen if cidr is not None else prefixlen if prefixlen is not None else pool.default_prefixlen
    )
    if length < pool.min_prefixlen:
        raise MinPrefixSubnetAllocationError(
            f"Unable to allocate subnet with prefix length {length}, minimum allowed prefix is {pool.min_prefixlen}."
        )
    if length > pool.max_prefixlen:
        raise MaxPrefixSubnetAllocationError(
            f"Unable to allocate subnet with prefix length {length}, maximum allowed prefix is {pool.max_prefixlen}."
        )
    rows = list(
        tx.execute(sa.select(subnet.c.cidr, subnet.c.project_id).where(subnet.c.subnetpool_id == pool.id))
    )
    _check_pool_quota(pool, project_id, length, [r.cidr for r in rows if r.project_id == project_id])
    free = netaddr.IPSet(pool.prefixes) - netaddr.IPSet([r.cidr for r in rows])
    if cidr is not None:
        if netaddr.IPSet([str(cidr)]) <= free:
            return str(cidr)
        raise SubnetAllocationError(
            f"Failed to allocate subnet: Cannot allocate requested subnet {cidr} from the available set of prefixes."
        )
    for block in sorted(free.iter_cidrs(), key=lambda b: (-b.prefixlen, b.first)):
        if block.prefixlen <= length:
            return str(next(iter(block.subnet(length))))
    raise SubnetAllocationError(
        f"Failed to allocate subnet: Insufficient prefix space to allocate subnet size /{length}."
    )


def _check_pool_quota(pool: Row, project_id: str, length: int, cidrs: list[str]) -> None:
    if pool.default_quota is None:
        return
    unit = 32 if pool.ip_version == 4 else 64

    def cost(n: int) -> int:
        return int(2 ** max(0, unit - n))

    if sum(cost(address.prefixlen(c)) for c in cidrs) + cost(length) > pool.default_quota:
        raise SubnetPoolQuotaExceeded("Per-tenant subnet pool prefix quota exceeded.")


# -- address scopes ----------------------------------------------------------------------------------------------------


def find_scope(tx: Tx, caller: Caller, id: str, verb: str = "get") -> Row:
    """Raises AddressScopeNotFound, Forbidden."""
    row = tx.execute(sa.select(address_scope).where(address_scope.c.id == id)).first()
    missing = AddressScopeNotFound(f"Address scope {id} could not be found.")
    if row is None:
        raise missing
    standard.guard(caller, verb, "address_scope", _target(tx, caller, row), missing)
    return row


def visible_scopes(caller: Caller) -> ColumnElement[bool] | None:
    if standard.sees_all(caller, "address_scope"):
        return None
    by_name = rbac.among("address_scope", address_scope.c.id, caller.project_id)
    return sa.or_(address_scope.c.project_id == caller.project_id, address_scope.c.shared, by_name)


def create_scope(tx: Tx, cloud: Cloud, caller: Caller, want: NewScope) -> Row:
    """Raises Forbidden, InvalidInput."""
    project_id = standard.owner(caller, want)
    caller.may("create_address_scope", standard.target(project_id))
    standard.may_set(caller, "create_address_scope", want, {"shared": "shared"}, standard.target(project_id))
    if want.ip_version not in (4, 6):
        raise InvalidInput("Invalid input for ip_version. Reason: not 4 or 6.")
    values: dict[str, Any] = {"ip_version": want.ip_version, "shared": want.shared is True}
    row = standard.insert(tx, address_scope, standard.fresh(cloud, project_id, want) | values)
    sharing.follow(tx, cloud, "address_scope", row, {"shared": row.shared})
    return row


def update_scope(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, want: ScopeChanges, *, revision: int | None = None
) -> Row:
    """Raises AddressScopeNotFound, Forbidden."""
    row = find_scope(tx, caller, id, "update")
    standard.check_revision(row, revision)
    standard.may_set(
        caller, "update_address_scope", want, {"shared": "shared"}, standard.target(row.project_id)
    )
    if want.shared is False and row.shared:
        raise InvalidInput(f"Unable to update address scope {id}: shared can't be taken back.")
    made = standard.change(tx, cloud, address_scope, id, given(want, "name", "shared"))
    sharing.follow(tx, cloud, "address_scope", made, given(want, "shared"))
    return made


def remove_scope(tx: Tx, cloud: Cloud, caller: Caller, id: str, *, revision: int | None = None) -> None:
    """Raises AddressScopeNotFound, Forbidden, AddressScopeInUse."""
    row = find_scope(tx, caller, id, "delete")
    standard.check_revision(row, revision)
    if tx.execute(sa.select(subnetpool.c.id).where(subnetpool.c.address_scope_id == id).limit(1)).first():
        raise AddressScopeInUse(
            f"Unable to complete operation on address scope {id}. There are one or more subnet pools in use on it."
        )
    tx.execute(sa.delete(address_scope).where(address_scope.c.id == id))
    sharing.forget(tx, id)
