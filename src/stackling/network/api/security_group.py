"""`/v2.0/security-groups`, `/v2.0/security-group-rules`"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from stackling.base import rest
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.network.actions import address, security_group
from stackling.network.actions.security_group import GroupChanges, NewGroup, NewRule
from stackling.network.api.resource import STANDARD, Kind, standard_view, tags_for
from stackling.network.state import security_group as groups
from stackling.network.state.rbac import rbac_policy

_RULE = (
    "security_group_id", "direction", "ethertype", "protocol", "port_range_min", "port_range_max", "remote_ip_prefix", "remote_group_id",
)  # fmt: skip


def view(tx: Tx, cloud: Cloud, caller: Caller, rows: Sequence[Row]) -> list[dict[str, Any]]:
    tags, rules = tags_for(tx, rows), groups.rules_of(tx, [r.id for r in rows])
    shared = security_group.shared_ids(tx, caller, [r.id for r in rows])
    return [
        {
            **standard_view(row, tags),
            "stateful": row.stateful,
            "shared": row.id in shared,
            "security_group_rules": [_rule(r) for r in rules.get(row.id, [])],
        }
        for row in rows
    ]


def rule_view(tx: Tx, cloud: Cloud, caller: Caller, rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [_rule(r) for r in rows]


def _rule(row: Row) -> dict[str, Any]:
    made = {
        **standard_view(row, {}),
        **{name: getattr(row, name) for name in _RULE},
        "normalized_cidr": str(address.prefix(row.remote_ip_prefix, "remote_ip_prefix")) if row.remote_ip_prefix else None,
    }
    del made["name"], made["tags"]
    return made


def _before_list(cloud: Cloud, caller: Caller) -> None:
    """A project sees its default group from the first look on."""
    project_id = caller.project_id
    if project_id is None:
        return
    with cloud.db.read() as tx:
        present = tx.execute(
            groups.security_group.select().where(groups.security_group.c.default_of == project_id)
        ).first()
    if present is None:
        with cloud.db.begin() as tx:
            security_group.ensure_default(tx, cloud, project_id)


def _shared(texts: list[str]) -> ColumnElement[bool]:
    among = groups.security_group.c.id.in_(sa.select(rbac_policy.c.object_id).where(rbac_policy.c.object_type == "security_group"))
    wanted = {rest.boolean(t, "shared") for t in texts}
    return sa.or_(sa.false(), *(among if flag else ~among for flag in wanted))


KIND = Kind(
    singular="security_group",
    plural="security_groups",
    paths=("security-groups", "security_groups"),
    noun="Security group",
    table=groups.security_group,
    new=NewGroup,
    changes=GroupChanges,
    attributes=STANDARD | {"stateful", "shared", "security_group_rules"},
    find=security_group.find,
    create=security_group.create,
    update=security_group.update,
    remove=security_group.remove,
    visible=security_group.visible,
    view=view,
    conditions={"shared": _shared},
    tags="security_groups",
    before_list=_before_list,
)

RULES = Kind(
    singular="security_group_rule",
    plural="security_group_rules",
    paths=("security-group-rules", "security_group_rules"),
    noun="Security group rule",
    table=groups.security_group_rule,
    new=NewRule,
    changes=None,
    attributes=(STANDARD - {"name", "tags"}) | {*_RULE, "normalized_cidr"},
    find=security_group.find_rule,
    create=security_group.create_rule,
    update=None,
    remove=security_group.remove_rule,
    visible=security_group.visible_rules,
    view=rule_view,
)
