"""RBAC policies: what a project shares with another, or an administrator with everybody."""

from typing import Any, NamedTuple

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import ColumnElement, Table

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import NotFound
from stackling.network.actions import standard
from stackling.network.actions.sharing import COLUMNS, EVERYBODY
from stackling.network.actions.standard import Unset
from stackling.network.errors import InvalidInput, RbacPolicyExists, RbacPolicyInUse, RbacPolicyNotFound
from stackling.network.state.network import network
from stackling.network.state.port import port, port_security_group
from stackling.network.state.rbac import EXTERNAL, SHARED, rbac_policy
from stackling.network.state.router import GATEWAY, router
from stackling.network.state.security_group import address_group, security_group
from stackling.network.state.subnet import address_scope, subnetpool


class NewPolicy(Struct, kw_only=True):
    object_type: str
    object_id: str
    action: str
    target_project: str
    project_id: str | Unset = standard.UNSET
    tenant_id: str | Unset = standard.UNSET


class PolicyChanges(Struct, kw_only=True):
    target_project: str


class Shareable(NamedTuple):
    table: Table
    actions: tuple[str, ...]


OBJECTS = {
    "network": Shareable(network, (SHARED, EXTERNAL)),
    "subnetpool": Shareable(subnetpool, (SHARED,)),
    "address_scope": Shareable(address_scope, (SHARED,)),
    "address_group": Shareable(address_group, (SHARED,)),
    "security_group": Shareable(security_group, (SHARED,)),
}


def find(tx: Tx, caller: Caller, id: str, verb: str = "get") -> Row:
    """Raises RbacPolicyNotFound, Forbidden."""
    row = tx.execute(sa.select(rbac_policy).where(rbac_policy.c.id == id)).first()
    missing = RbacPolicyNotFound(f"RBAC policy with ID {id} not found")
    if row is None:
        raise missing
    standard.guard(caller, verb, "rbac_policy", standard.target(row.project_id), missing)
    return row


def visible(caller: Caller) -> ColumnElement[bool] | None:
    if standard.sees_all(caller, "rbac_policy"):
        return None
    return rbac_policy.c.project_id == caller.project_id


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewPolicy) -> Row:
    """Raises NotFound for an object that isn't the caller's, Forbidden, InvalidInput, RbacPolicyExists, QuotaExceeded."""
    project_id = standard.owner(caller, want)
    caller.may("create_rbac_policy", standard.target(project_id))
    caller.may(
        "create_rbac_policy:target_tenant", standard.target(project_id, target_tenant=want.target_project)
    )
    kind = OBJECTS.get(want.object_type)
    if kind is None:
        raise InvalidInput(
            f"Invalid input for object_type. Reason: '{want.object_type[:32]}' is not in {sorted(OBJECTS)}."
        )
    if want.action not in kind.actions:
        raise InvalidInput(
            f"Invalid input for action. Reason: '{want.action[:32]}' is not in {sorted(kind.actions)}."
        )
    if not want.target_project or len(want.target_project) > 64:
        raise InvalidInput("Invalid input for target_tenant. Reason: names no project.")
    thing = tx.execute(sa.select(kind.table).where(kind.table.c.id == want.object_id)).first()
    if thing is None or (thing.project_id != project_id and not caller.is_admin):
        raise NotFound(f"{want.object_type} {want.object_id[:64]} could not be found.")
    standard.check_quota(tx, cloud, project_id, rbac_policy=1)
    _check_new(tx, want.object_id, want.action, want.target_project)
    values = {
        "id": ids.uuid4(),
        "project_id": project_id,
        "created_at": cloud.clock.now(),
        "object_type": want.object_type,
        "object_id": want.object_id,
        "action": want.action,
        "target_project": want.target_project,
    }
    row = standard.insert(tx, rbac_policy, values)
    _show(tx, cloud, row, want.target_project == EVERYBODY)
    return row


def _check_new(tx: Tx, object_id: str, action: str, target: str) -> None:
    same = sa.select(rbac_policy.c.id).where(
        rbac_policy.c.object_id == object_id,
        rbac_policy.c.action == action,
        rbac_policy.c.target_project == target,
    )
    if tx.execute(same).first():
        raise RbacPolicyExists("An RBAC policy already exists with those values.")


def _show(tx: Tx, cloud: Cloud, row: Row, everybody: bool) -> None:
    """Have the object's own column say whether everybody may use it."""
    table, column = OBJECTS[row.object_type].table, COLUMNS[row.action]
    if column in table.c and (everybody or row.target_project == EVERYBODY):
        standard.change(tx, cloud, table, row.object_id, {column: everybody})


def update(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, want: PolicyChanges, *, revision: int | None = None
) -> Row:
    """Share it with another project instead. Raises RbacPolicyNotFound, Forbidden, RbacPolicyInUse, RbacPolicyExists."""
    row = find(tx, caller, id, "update")
    caller.may(
        "update_rbac_policy:target_tenant", standard.target(row.project_id, target_tenant=want.target_project)
    )
    if want.target_project == row.target_project:
        return row
    _check_unused(tx, row, but=want.target_project)
    _check_new(tx, row.object_id, row.action, want.target_project)
    _show(tx, cloud, row, want.target_project == EVERYBODY)
    query = sa.update(rbac_policy).where(rbac_policy.c.id == id).values(target_project=want.target_project)
    return tx.execute(query.returning(*rbac_policy.c)).one()


def remove(tx: Tx, cloud: Cloud, caller: Caller, id: str, *, revision: int | None = None) -> None:
    """Raises RbacPolicyNotFound, Forbidden, RbacPolicyInUse while the other project uses the object."""
    row = find(tx, caller, id, "delete")
    _check_unused(tx, row)
    tx.execute(sa.delete(rbac_policy).where(rbac_policy.c.id == id))
    if row.target_project == EVERYBODY:
        _show(tx, cloud, row, False)


def _check_unused(tx: Tx, row: Row, but: str | None = None) -> None:
    query: Any
    if row.object_type == "network" and row.action == SHARED:
        query = sa.select(port.c.project_id).where(
            port.c.network_id == row.object_id, ~port.c.device_owner.like("network:%")
        )
    elif row.object_type == "network":
        query = (
            sa.select(router.c.project_id)
            .join(port, sa.and_(port.c.id == router.c.gateway_port_id, port.c.device_owner == GATEWAY))
            .where(port.c.network_id == row.object_id)
        )
    elif row.object_type == "security_group":
        query = (
            sa.select(port.c.project_id)
            .join(port_security_group, port_security_group.c.port_id == port.c.id)
            .where(port_security_group.c.security_group_id == row.object_id)
        )
    else:
        return
    users = set(tx.execute(query.distinct()).scalars()) - {row.project_id, ""}
    others = sa.select(rbac_policy.c.target_project).where(
        rbac_policy.c.object_id == row.object_id,
        rbac_policy.c.action == row.action,
        rbac_policy.c.id != row.id,
    )
    still = {*tx.execute(others).scalars(), but}
    lost = users if row.target_project == EVERYBODY else users & {row.target_project}
    if EVERYBODY not in still and lost - still:
        raise RbacPolicyInUse(
            f"RBAC policy on object {row.object_id} cannot be removed because other objects depend on it."
        )
