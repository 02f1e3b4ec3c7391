"""`/v2.0/security-groups`, `/v2.0/security-group-rules`"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from falcon import Request, Response
from sqlalchemy import ColumnElement

from stackling.base import rest
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest
from stackling.network.actions import address, address_group, security_group
from stackling.network.actions.address_group import AddressGroupChanges, NewAddressGroup
from stackling.network.actions.security_group import GroupChanges, NewGroup, NewRule
from stackling.network.api import body
from stackling.network.api.resource import STANDARD, Kind, standard_view, tags_for
from stackling.network.state import security_group as groups
from stackling.network.state.rbac import rbac_policy

_RULE = (
    "security_group_id", "direction", "ethertype", "protocol", "port_range_min", "port_range_max", "remote_ip_prefix", "remote_group_id",
    "remote_address_group_id",
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
        "normalized_cidr": str(address.prefix(row.remote_ip_prefix, "remote_ip_prefix"))
        if row.remote_ip_prefix
        else None,
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
    among = groups.security_group.c.id.in_(
        sa.select(rbac_policy.c.object_id).where(rbac_policy.c.object_type == "security_group")
    )
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


def address_group_view(tx: Tx, cloud: Cloud, caller: Caller, rows: Sequence[Row]) -> list[dict[str, Any]]:
    tags = tags_for(tx, rows)
    shared = security_group.shared_ids(tx, caller, [r.id for r in rows])
    return [
        {**standard_view(row, tags), "addresses": row.addresses, "shared": row.id in shared} for row in rows
    ]


class Addresses:
    """`/v2.0/address-groups/{id}/add_addresses` and `remove_addresses`"""

    def __init__(self, cloud: Cloud, *, add: bool) -> None:
        self.cloud, self.add = cloud, add

    def on_put(self, req: Request, resp: Response, id: str) -> None:
        whole = rest.json_body(req)
        given = whole.get("address_group", whole) if isinstance(whole, dict) else None
        if not isinstance(given, dict) or set(given) != {"addresses"}:
            raise BadRequest("Unable to find 'addresses' in request body")
        texts, caller = body.words(given["addresses"], "addresses"), rest.caller(req)
        with self.cloud.db.begin() as tx:
            row = address_group.change_addresses(tx, self.cloud, caller, id, texts, add=self.add)
            resp.media = {"address_group": address_group_view(tx, self.cloud, caller, [row])[0]}


ADDRESS_GROUPS = Kind(
    singular="address_group",
    plural="address_groups",
    paths=("address-groups", "address_groups"),
    noun="Address group",
    table=groups.address_group,
    new=NewAddressGroup,
    changes=AddressGroupChanges,
    attributes=STANDARD | {"addresses", "shared"},
    find=address_group.find,
    create=address_group.create,
    update=address_group.update,
    remove=address_group.remove,
    visible=address_group.visible,
    view=address_group_view,
    tags="address_groups",
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
