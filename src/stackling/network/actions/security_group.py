"""Security groups and their rules."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET, Struct
from sqlalchemy import ColumnElement

from stackling.base import db, ids, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.base.statement import Statement
from stackling.network.actions import address, address_group, sharing, standard
from stackling.network.actions.sharing import EVERYBODY
from stackling.network.actions.standard import New, Unset, given
from stackling.network.errors import (
    InvalidInput,
    SecurityGroupCannotRemoveDefault,
    SecurityGroupCannotUpdateDefault,
    SecurityGroupDefaultAlreadyExists,
    SecurityGroupInUse,
    SecurityGroupInvalidIcmpValue,
    SecurityGroupInvalidPortRange,
    SecurityGroupInvalidPortValue,
    SecurityGroupInvalidProtocolType,
    SecurityGroupMissingIcmpType,
    SecurityGroupNotFound,
    SecurityGroupProtocolRequiredWithPorts,
    SecurityGroupRemoteGroupAndRemoteIpPrefix,
    SecurityGroupRuleExists,
    SecurityGroupRuleNotFound,
    SecurityGroupRuleParameterConflict,
)
from stackling.network.state import security_group as groups
from stackling.network.state.port import port_security_group
from stackling.network.state.rbac import rbac_policy
from stackling.network.state.security_group import security_group, security_group_rule
from stackling.network.state.standard import State

KIND = "network.security_group"
# IANA's numbers for the names that Neutron knows.
PROTOCOLS = {
    "ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "hopopt": 0, "icmp": 1, "igmp": 2, "ip": 0, "ipip": 4,
    "ipv6-encap": 41, "ipv6-frag": 44, "ipv6-icmp": 58, "icmpv6": 58, "ipv6-nonxt": 59, "ipv6-opts": 60,
    "ipv6-route": 43, "ospf": 89, "pgm": 113, "rsvp": 46, "sctp": 132, "tcp": 6, "udp": 17, "udplite": 136, "vrrp": 112,
}  # fmt: skip
_WITH_PORTS = (6, 17, 33, 132, 136)
_ICMP = (1, 58)


class NewGroup(New, kw_only=True):
    stateful: bool = True


class GroupChanges(Struct, kw_only=True):
    name: str | Unset = UNSET
    description: str | Unset = UNSET
    stateful: bool | Unset = UNSET


class NewRule(New, kw_only=True):
    security_group_id: str
    direction: str
    ethertype: str | None = "IPv4"
    protocol: str | int | None = None
    port_range_min: int | str | None = None
    port_range_max: int | str | None = None
    remote_ip_prefix: str | None = None
    remote_group_id: str | None = None
    remote_address_group_id: str | None = None


# -- groups ------------------------------------------------------------------------------------------------------------


def find(tx: Tx, caller: Caller, id: str, verb: str = "get") -> Row:
    """Raises SecurityGroupNotFound, Forbidden."""
    row = groups.by_id(tx, id)
    missing = SecurityGroupNotFound(f"Security group {id} does not exist")
    if row is None:
        raise missing
    standard.guard(caller, verb, "security_group", _target(tx, caller, row), missing)
    return row


def _target(tx: Tx, caller: Caller, row: Any) -> dict[str, Any]:
    foreign = row.project_id != caller.project_id
    return standard.target(row.project_id, shared=foreign and bool(shared_ids(tx, caller, [row.id])))


def shared_ids(tx: Tx, caller: Caller, group_ids: Sequence[str]) -> set[str]:
    """Those of the groups that are shared with the caller's project, or with everybody."""
    query = sa.select(rbac_policy.c.object_id).where(
        rbac_policy.c.object_id.in_(group_ids),
        rbac_policy.c.target_project.in_([EVERYBODY, caller.project_id or ""]),
    )
    return set(tx.execute(query).scalars())


def visible(caller: Caller) -> ColumnElement[bool] | None:
    if standard.sees_all(caller, "security_group"):
        return None
    given_us = sa.select(rbac_policy.c.object_id).where(
        rbac_policy.c.object_type == "security_group",
        rbac_policy.c.target_project.in_([EVERYBODY, caller.project_id or ""]),
    )
    return sa.or_(security_group.c.project_id == caller.project_id, security_group.c.id.in_(given_us))


def ensure_default(tx: Tx, cloud: Cloud, project_id: str) -> str:
    """The id of the project's `default` group, made now if it is the first time that the project needs one."""
    found = _DEFAULT.first(tx, project_id=project_id)
    if found is None:
        db.lock(tx, f"default_security_group:{project_id}")
        found = _DEFAULT.first(tx, project_id=project_id)
    if found is not None:
        return str(found.id)
    want = NewGroup(name="default", description="Default security group")
    return str(_insert(tx, cloud, project_id, want, default_of=project_id).id)


_DEFAULT = Statement(
    sa.select(security_group.c.id).where(security_group.c.default_of == sa.bindparam("project_id"))
)


def _insert(tx: Tx, cloud: Cloud, project_id: str, want: NewGroup, *, default_of: str | None = None) -> Row:
    row = standard.insert(
        tx, security_group,
        {**standard.fresh(cloud, project_id, want), "state": State.BUILD, "stateful": want.stateful, "default_of": default_of},
    )  # fmt: skip
    plain = standard.fresh(cloud, project_id, New())
    rules = [
        {"direction": "egress", "ethertype": family, "remote_group_id": None} for family in ("IPv4", "IPv6")
    ]
    if default_of:
        rules += [
            {"direction": "ingress", "ethertype": family, "remote_group_id": row.id}
            for family in ("IPv4", "IPv6")
        ]
    tx.execute(
        sa.insert(security_group_rule),
        [{**plain, **rule, "id": ids.uuid4(), "security_group_id": row.id} for rule in rules],
    )
    jobs.start(tx, KIND, row.id, now=cloud.clock.now())
    return row


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewGroup) -> Row:
    """Raises Forbidden, QuotaExceeded, SecurityGroupDefaultAlreadyExists."""
    project_id = standard.owner(caller, want)
    caller.may("create_security_group", standard.target(project_id))
    if want.name.lower() == "default":
        raise SecurityGroupDefaultAlreadyExists("Default security group already exists.")
    ensure_default(tx, cloud, project_id)
    standard.check_quota(tx, cloud, project_id, security_group=1, security_group_rule=2)
    return _insert(tx, cloud, project_id, want)


def update(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, want: GroupChanges, *, revision: int | None = None
) -> Row:
    """Raises SecurityGroupNotFound, Forbidden, SecurityGroupCannotUpdateDefault, SecurityGroupInUse."""
    row = find(tx, caller, id, "update")
    standard.check_revision(row, revision)
    if row.default_of and want.name not in (UNSET, row.name):
        raise SecurityGroupCannotUpdateDefault("Updating default security group not allowed.")
    if not row.default_of and want.name is not UNSET and want.name.lower() == "default":
        raise SecurityGroupDefaultAlreadyExists("Default security group already exists.")
    if want.stateful not in (UNSET, row.stateful) and _used_by(tx, id):
        raise SecurityGroupInUse(f"Security Group {id} in use.")
    made = standard.change(tx, cloud, security_group, id, given(want, "name", "description", "stateful"))
    jobs.start(tx, KIND, id, now=cloud.clock.now())
    return made


def _used_by(tx: Tx, id: str) -> list[str]:
    query = (
        sa.select(port_security_group.c.port_id)
        .where(port_security_group.c.security_group_id == id)
        .limit(20)
    )
    return list(tx.execute(query).scalars())


def remove(tx: Tx, cloud: Cloud, caller: Caller, id: str, *, revision: int | None = None) -> None:
    """Raises SecurityGroupNotFound, Forbidden, SecurityGroupInUse, SecurityGroupCannotRemoveDefault."""
    row = find(tx, caller, id, "delete")
    standard.check_revision(row, revision)
    tx.execute(sa.select(security_group.c.id).where(security_group.c.id == id).with_for_update())
    if _used_by(tx, id):
        raise SecurityGroupInUse(f"Security Group {id} in use.")
    if row.default_of and not caller.is_admin:
        raise SecurityGroupCannotRemoveDefault("Insufficient rights for removing default security group.")
    referring = sa.select(security_group_rule.c.security_group_id).where(
        security_group_rule.c.remote_group_id == id, security_group_rule.c.security_group_id != id
    )
    others = set(tx.execute(referring).scalars())
    tx.execute(
        sa.delete(security_group).where(security_group.c.id == id)
    )  # rules that name it go as well, as upstream
    sharing.forget(tx, id)
    standard.forget_tags(tx, [id])
    for other in {id, *others}:
        jobs.start(tx, KIND, other, now=cloud.clock.now())


def resolve(tx: Tx, cloud: Cloud, caller: Caller, names_or_ids: Sequence[str]) -> list[str]:
    """The ids of groups of the caller's project given by name or id, each once, in order.

    Raises NotFound for one that is not there, BadRequest when a name fits several.
    """
    if not names_or_ids:
        return []
    if "default" in names_or_ids and caller.project_id:
        ensure_default(tx, cloud, caller.project_id)
    named = sa.or_(security_group.c.name.in_(names_or_ids), security_group.c.id.in_(names_or_ids))
    mine = sa.select(security_group.c.id, security_group.c.name).where(
        named, security_group.c.project_id == caller.project_id
    )
    rows = list(tx.execute(mine))
    by_id = {r.id: r.id for r in rows}
    found: list[str] = []
    for text in names_or_ids:
        fits = [by_id[text]] if text in by_id else [r.id for r in rows if r.name == text]
        if not fits:
            raise NotFound(f"Security group {text[:255]} not found.")
        if len(fits) > 1:
            raise BadRequest(
                f"Multiple security groups found matching '{text[:255]}'. Use an ID to be more specific."
            )
        if fits[0] not in found:
            found.append(fits[0])
    return found


def check_usable(tx: Tx, caller: Caller, group_ids: Sequence[str], project_id: str) -> None:
    """Whether a port of the project may be in these groups. Raises SecurityGroupNotFound."""
    if not group_ids:
        return
    rows = {
        r.id: r
        for r in tx.execute(
            sa.select(security_group.c.id, security_group.c.project_id).where(
                security_group.c.id.in_(group_ids)
            )
        )
    }
    for id in group_ids:
        row = rows.get(id)
        if row is None or (
            row.project_id != project_id and not caller.can("get_security_group", _target(tx, caller, row))
        ):
            raise SecurityGroupNotFound(f"Security group {id[:64]} does not exist")


def of_project(tx: Tx, project_id: str) -> list[Row]:
    """The groups of a project by name."""
    mine = sa.select(security_group).where(security_group.c.project_id == project_id)
    return list(tx.execute(mine.order_by(security_group.c.name, security_group.c.id)))


def by_id(tx: Tx, id: str) -> Row | None:
    """A group on behalf of nobody, for those who know its id from a port or rule of the caller's."""
    return groups.by_id(tx, id)


def rules_of(tx: Tx, group_ids: list[str]) -> dict[str, list[Row]]:
    """The rules of groups by group, in order of creation."""
    return groups.rules_of(tx, group_ids)


# -- rules -------------------------------------------------------------------------------------------------------------


def find_rule(tx: Tx, caller: Caller, id: str, verb: str = "get") -> Row:
    """Raises SecurityGroupRuleNotFound, Forbidden."""
    row = tx.execute(sa.select(security_group_rule).where(security_group_rule.c.id == id)).first()
    missing = SecurityGroupRuleNotFound(f"Security group rule {id} does not exist")
    if row is None:
        raise missing
    standard.guard(caller, verb, "security_group_rule", standard.target(row.project_id), missing)
    return row


def visible_rules(caller: Caller) -> ColumnElement[bool] | None:
    if standard.sees_all(caller, "security_group_rule"):
        return None
    return security_group_rule.c.project_id == caller.project_id


def number(protocol: str | None) -> int | None:
    """The IP protocol's number; None for all."""
    if protocol is None:
        return None
    return int(protocol) if protocol.isdigit() else PROTOCOLS[protocol]


def create_rule(tx: Tx, cloud: Cloud, caller: Caller, want: NewRule) -> Row:
    """Raises SecurityGroupNotFound, SecurityGroupRuleExists, QuotaExceeded, and a BadRequest that names what is wrong."""
    group = find(tx, caller, want.security_group_id)
    project_id = group.project_id
    if (
        UNSET not in (want.project_id, want.tenant_id)
        or want.project_id is not UNSET
        or want.tenant_id is not UNSET
    ):
        project_id = standard.owner(caller, want)
    caller.may("create_security_group_rule", standard.target(project_id))
    values = _checked(want)
    if values["remote_group_id"] is not None:
        find(tx, caller, values["remote_group_id"])
    if values["remote_address_group_id"] is not None:
        address_group.find(tx, caller, values["remote_address_group_id"])
    standard.check_quota(tx, cloud, project_id, security_group_rule=1)
    db.lock(tx, f"security_group:{group.id}")
    same = [security_group_rule.c[name].is_not_distinct_from(value) for name, value in values.items()]
    twin = sa.select(security_group_rule.c.id).where(
        security_group_rule.c.security_group_id == group.id, *same
    )
    already = tx.execute(twin).first()
    if already:
        raise SecurityGroupRuleExists(f"Security group rule already exists. Rule id is {already.id}.")
    row = standard.insert(
        tx,
        security_group_rule,
        {**standard.fresh(cloud, project_id, want), **values, "security_group_id": group.id},
    )
    standard.touch(tx, cloud, security_group, group.id)
    jobs.start(tx, KIND, group.id, now=cloud.clock.now())
    return row


def _checked(want: NewRule) -> dict[str, Any]:
    direction, family = (
        want.direction,
        {"ipv4": "IPv4", "ipv6": "IPv6"}.get((want.ethertype or "IPv4").lower()),
    )
    if direction not in ("ingress", "egress"):
        raise InvalidInput(
            f"Invalid input for direction. Reason: '{direction[:32]}' is not in ['ingress', 'egress']."
        )
    if family is None:
        raise InvalidInput(
            f"Invalid input for ethertype. Reason: '{str(want.ethertype)[:32]}' is not in ['IPv4', 'IPv6']."
        )
    protocol = _protocol(want.protocol)
    low, high = _port(want.port_range_min, "port_range_min"), _port(want.port_range_max, "port_range_max")
    _check_ports(number(protocol), protocol, low, high)
    if number(protocol) == 58 and family == "IPv4":
        raise SecurityGroupRuleParameterConflict(
            f"Conflicting value ethertype {family} for protocol {protocol}"
        )
    remotes = (want.remote_ip_prefix, want.remote_group_id, want.remote_address_group_id)
    if sum(r is not None for r in remotes) > 1:
        raise SecurityGroupRemoteGroupAndRemoteIpPrefix(
            "Only one of remote_ip_prefix, remote_group_id, remote_address_group_id may be provided."
        )
    remote = None
    if want.remote_ip_prefix is not None:
        net = address.prefix(want.remote_ip_prefix, "remote_ip_prefix")
        if f"IPv{net.version}" != family:
            raise SecurityGroupRuleParameterConflict(
                f"Conflicting value ethertype {family} for CIDR {want.remote_ip_prefix}"
            )
        # The user's own spelling is kept; `normalized_cidr` shows it without host bits.
        remote = want.remote_ip_prefix if "/" in want.remote_ip_prefix else str(net)
    return {
        "direction": direction,
        "ethertype": family,
        "protocol": protocol,
        "port_range_min": low,
        "port_range_max": high,
        "remote_ip_prefix": remote,
        "remote_group_id": want.remote_group_id,
        "remote_address_group_id": want.remote_address_group_id,
    }


def _protocol(given: str | int | None) -> str | None:
    text = str(given).lower() if given is not None and not isinstance(given, bool) else None
    if text in (None, "", "any", "none"):
        return None
    if text in PROTOCOLS or (text.isascii() and text.isdigit() and len(text) < 4 and int(text) <= 255):
        return text
    raise SecurityGroupInvalidProtocolType(
        f"Security group rule protocol {text[:32]} not supported. Only protocol values {sorted(PROTOCOLS)} and integer representations [0 to 255] are supported."
    )


def _port(given: int | str | None, field: str) -> int | None:
    if given is None or given == "":
        return None
    text = str(given)
    if (
        isinstance(given, bool)
        or not text.lstrip("-").isascii()
        or not text.lstrip("-").isdigit()
        or len(text) > 9
    ):
        raise SecurityGroupInvalidPortValue(f"Invalid value for port {text[:32]}")
    if not -1 <= int(text) <= 65535:
        raise SecurityGroupInvalidPortValue(f"Invalid value for port {text} ({field})")
    return int(text)


def _check_ports(protocol: int | None, name: str | None, low: int | None, high: int | None) -> None:
    if low is None and high is None:
        return
    if protocol is None:
        raise SecurityGroupProtocolRequiredWithPorts("Must also specify protocol if port range is given.")
    if protocol in _ICMP:
        for field, value in (("type", low), ("code", high)):
            if value is not None and not 0 <= value <= 255:
                raise SecurityGroupInvalidIcmpValue(
                    f"Invalid value for ICMP {field} (port_range_{'min' if field == 'type' else 'max'}) {value}. It must be 0 to 255."
                )
        if low is None:
            raise SecurityGroupMissingIcmpType(
                f"ICMP code (port-range-max) {high} is provided but ICMP type (port-range-min) is missing."
            )
        return
    if protocol not in _WITH_PORTS:
        raise SecurityGroupInvalidProtocolType(f"Port range cannot be specified for protocol {name}.")
    if low is None or high is None or not 0 <= low <= high:
        raise SecurityGroupInvalidPortRange("For TCP/UDP protocols, port_range_min must be <= port_range_max")
    if low < 1 and protocol in _WITH_PORTS:
        raise SecurityGroupInvalidPortValue(f"Invalid value for port {low}")


def remove_rule(tx: Tx, cloud: Cloud, caller: Caller, id: str, *, revision: int | None = None) -> None:
    """Raises SecurityGroupRuleNotFound, Forbidden."""
    row = find_rule(tx, caller, id, "delete")
    standard.check_revision(row, revision)
    tx.execute(sa.delete(security_group_rule).where(security_group_rule.c.id == id))
    standard.touch(tx, cloud, security_group, row.security_group_id)
    jobs.start(tx, KIND, row.security_group_id, now=cloud.clock.now())
