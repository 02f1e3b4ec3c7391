"""What all resources of the network service have in common: owner, visibility, standard attributes, quota."""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET, Struct, UnsetType
from sqlalchemy import ColumnElement, Table

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden, NotFound
from stackling.base.statement import Statement, among
from stackling.identity.actions.quota import Projects, Quotas
from stackling.network.errors import AvailabilityZoneNotFound, InvalidInput, RevisionNumberConstraintFailed
from stackling.network.state.floating_ip import floating_ip
from stackling.network.state.network import network
from stackling.network.state.port import port
from stackling.network.state.rbac import rbac_policy
from stackling.network.state.router import router
from stackling.network.state.security_group import address_group, security_group, security_group_rule
from stackling.network.state.standard import tag
from stackling.network.state.subnet import subnet, subnetpool

Unset = UnsetType

# The resources that have a quota, by Neutron's names.
COUNTED: dict[str, tuple[Table, ColumnElement[bool] | None]] = {
    "network": (network, None),
    "subnet": (subnet, None),
    "subnetpool": (subnetpool, None),
    "port": (port, port.c.device_owner != "network:distributed"),
    "router": (router, None),
    "floatingip": (floating_ip, None),
    "security_group": (security_group, None),
    "security_group_rule": (security_group_rule, None),
    "address_group": (address_group, None),
    "rbac_policy": (rbac_policy, rbac_policy.c.target_project != "*"),
}


class New(Struct, kw_only=True):
    """What any resource can be created with."""

    name: str = ""
    description: str = ""
    project_id: str | Unset = UNSET
    tenant_id: str | Unset = UNSET


def owner(caller: Caller, want: Any) -> str:
    """The project that a new resource belongs to. Raises BadRequest when there is none, or two."""
    named = {p for p in (want.project_id, want.tenant_id) if p is not UNSET}
    if len(named) > 1:
        raise BadRequest("'project_id' and 'tenant_id' do not match")
    project_id = named.pop() if named else caller.project_id
    if not project_id:
        raise BadRequest("Running without a project: name one as 'project_id'")
    return str(project_id)


_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"({_LABEL}\.)*{_LABEL}\.?")
ZONE = "nova"


def check_names(want: Any, *names: str) -> None:
    """Whether those of the attributes that are set are DNS names. Raises InvalidInput."""
    for name in names:
        text = getattr(want, name)
        if isinstance(text, str) and text and not _DOMAIN.fullmatch(text):
            raise InvalidInput(f"Invalid input for {name}. Reason: '{text[:64]}' is not a valid DNS name.")


def check_zones(hints: Sequence[str]) -> None:
    """Raises AvailabilityZoneNotFound."""
    for hint in hints:
        if hint != ZONE:
            raise AvailabilityZoneNotFound(f"AvailabilityZone {hint[:64]} could not be found.")


def target(project_id: str | None, **attributes: Any) -> dict[str, Any]:
    return {"project_id": project_id, "tenant_id": project_id, **attributes}


_DEFAULTS = {"shared": False, "external": False, "is_default": False, "device_owner": "", "service_types": []}


def may_set(
    caller: Caller, rule: str, want: Struct, names: Mapping[str, str], whom: Mapping[str, Any]
) -> None:
    """Guard single attributes: for each of `names` (attribute → its name in the policy) that is set, `rule:name`.

    A new resource may say what would be so anyway. Raises Forbidden.
    """
    for attr, name in names.items():
        value = getattr(want, attr)
        said_anyway = rule.startswith("create_") and attr in _DEFAULTS and value == _DEFAULTS[attr]
        if value is not UNSET and not said_anyway:
            caller.may(f"{rule}:{name}", whom)


def guard(caller: Caller, verb: str, noun: str, whom: Mapping[str, Any], missing: NotFound) -> None:
    """Let `verb` (get, update, delete, or a rule of its own) through; who can't even see the target is told that it's missing."""
    if not caller.can(f"get_{noun}", whom):
        if whom.get("project_id") == caller.project_id and caller.project_id:
            raise Forbidden(f"Policy doesn't allow get_{noun} to be performed.")
        raise missing
    if verb != "get":
        caller.may(f"{verb}_{noun}" if verb in ("update", "delete") else verb, whom)


def sees_all(caller: Caller, noun: str) -> bool:
    """Whether the caller may see any project's resources of the kind."""
    return caller.can(f"get_{noun}", target("somebody else's"))


def fresh(cloud: Cloud, project_id: str, want: New) -> dict[str, Any]:
    """The standard columns of a new row."""
    now = cloud.clock.now()
    return {
        "id": ids.uuid4(),
        "project_id": project_id,
        "name": want.name,
        "description": want.description,
        "created_at": now,
        "updated_at": now,
        "revision_number": 1,
    }


def insert(tx: Tx, table: Table, values: Mapping[str, Any]) -> Row:
    return tx.execute(_insert(table), values).one()


@functools.cache
def _insert(table: Table) -> sa.Insert:
    return sa.insert(table).returning(*table.c)


def change(tx: Tx, cloud: Cloud, table: Table, id: str, values: Mapping[str, Any]) -> Row:
    """Set `values`, count the revision up, and return the row as it is now."""
    given = {**values, "updated_at": cloud.clock.now(), "this": id}
    return tx.execute(_change(table), given).one()


@functools.cache
def _change(table: Table) -> sa.Update:
    counted_up = sa.update(table).values(revision_number=table.c.revision_number + 1)
    return counted_up.where(table.c.id == sa.bindparam("this")).returning(*table.c)


def touch(tx: Tx, cloud: Cloud, table: Table, id: str) -> None:
    """Something that the resource consists of has changed."""
    tx.execute(_change(table), {"updated_at": cloud.clock.now(), "this": id})


def given(want: Struct, *names: str) -> dict[str, Any]:
    """Those of the attributes that were set."""
    return {n: v for n in names if (v := getattr(want, n)) is not UNSET}


def check_revision(row: Row, wanted: int | None) -> None:
    """Raises RevisionNumberConstraintFailed when the caller has looked at an older revision."""
    if wanted is not None and row.revision_number != wanted:
        raise RevisionNumberConstraintFailed(
            f"Constrained to {wanted}, but current revision is {row.revision_number}"
        )


def forget_tags(tx: Tx, ids: Sequence[str]) -> None:
    if ids:
        tx.execute(sa.delete(tag).where(tag.c.resource_id.in_(ids)))


# -- quota -------------------------------------------------------------------------------------------------------------


def default_limits(cloud: Cloud) -> dict[str, int]:
    c = cloud.config.network
    return {
        "network": c.networks,
        "subnet": c.subnets,
        "subnetpool": c.subnet_pools,
        "port": c.ports,
        "router": c.routers,
        "floatingip": c.floating_ips,
        "security_group": c.security_groups,
        "security_group_rule": c.security_group_rules,
        "address_group": c.address_groups,
        "rbac_policy": c.rbac_policies,
    }


def usage(tx: Tx, projects: Projects, names: Iterable[str] = tuple(COUNTED)) -> dict[str, int]:
    """How much of each resource projects have together."""
    listed = list(tx.execute(projects).scalars()) if isinstance(projects, sa.Select) else list(projects)
    used = {}
    for name in names:
        row = _COUNTS[name].first(tx, projects=listed)
        used[name] = row[0] if row is not None else 0
    return used


def _count(table: Table, only: ColumnElement[bool] | None) -> Statement:
    where = [among(table.c.project_id, "projects"), *([] if only is None else [only])]
    return Statement(sa.select(sa.func.count()).select_from(table).where(*where))


_COUNTS = {name: _count(*counted) for name, counted in COUNTED.items()}
QUOTAS = Quotas("network", default_limits, usage)


def check_quota(tx: Tx, cloud: Cloud, project_id: str, **adds: int) -> None:
    """Raises QuotaExceeded."""
    QUOTAS.check(tx, cloud, project_id, adds)
