"""Security groups as compute spoke of them before 2.36, and those of a server; all of it is the network's."""

from typing import Annotated, Any

from falcon import Request, Response
from msgspec import UNSET, Meta

from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, Forbidden, QuotaExceeded
from stackling.base.ids import is_uuid
from stackling.base.microversion import Body
from stackling.base.rest import body, caller
from stackling.compute.actions import interface
from stackling.compute.api.body import Name, Unset, Whole, or_none
from stackling.compute.api.version import only
from stackling.network.actions import security_group as groups
from stackling.network.actions.security_group import GroupChanges, NewGroup, NewRule
from stackling.network.errors import SecurityGroupRuleExists

LAST = "2.35"


class GroupBody(Body, kw_only=True):
    name: Name
    description: Annotated[str, Meta(max_length=255)] | Unset | None = UNSET


class RuleBody(Body, kw_only=True):
    parent_group_id: str | int
    ip_protocol: str | int | Unset | None = UNSET
    from_port: Whole | Unset | None = UNSET
    to_port: Whole | Unset | None = UNSET
    cidr: str | Unset | None = UNSET
    group_id: str | Unset | None = UNSET


class _Room:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud


def _rule(row: Row, names: dict[str, Row]) -> dict[str, Any]:
    """Compute's form: incoming only, -1 for all."""
    group = names.get(row.remote_group_id or "")
    every = row.protocol is None
    return {
        "id": row.id,
        "parent_group_id": row.security_group_id,
        "ip_protocol": row.protocol,
        "from_port": None if every else -1 if row.port_range_min is None else row.port_range_min,
        "to_port": None if every else -1 if row.port_range_max is None else row.port_range_max,
        "group": {"name": group.name, "tenant_id": group.project_id} if group is not None else {},
        "ip_range": {}
        if group is not None
        else {"cidr": row.remote_ip_prefix or ("::/0" if row.ethertype == "IPv6" else "0.0.0.0/0")},
    }


def shown(tx: Tx, rows: list[Row]) -> list[dict[str, Any]]:
    rules = groups.rules_of(tx, [r.id for r in rows])
    names = {r.id: r for r in rows}
    for listed in rules.values():
        for rule in listed:
            if rule.remote_group_id and rule.remote_group_id not in names:
                other = groups.by_id(tx, rule.remote_group_id)
                if other is not None:
                    names[other.id] = other
    return [
        {
            "id": r.id,
            "name": r.name,
            "description": r.description,
            "tenant_id": r.project_id,
            "rules": [_rule(rule, names) for rule in rules.get(r.id, []) if rule.direction == "ingress"],
        }
        for r in rows
    ]


class SecurityGroups(_Room):
    """/os-security-groups"""

    def on_get(self, req: Request, resp: Response) -> None:
        only(req, last=LAST)
        who = caller(req)
        who.may("os_compute_api:os-security-groups:get")
        with self.cloud.db.begin() as tx:
            if who.project_id:
                groups.ensure_default(tx, self.cloud, who.project_id)
            rows = groups.of_project(tx, who.project_id or "")
            resp.media = {"security_groups": shown(tx, rows)}

    def on_post(self, req: Request, resp: Response) -> None:
        only(req, last=LAST)
        caller(req).may("os_compute_api:os-security-groups:create")
        want = body(req, GroupBody, key="security_group")
        with self.cloud.db.begin() as tx:
            try:
                row = groups.create(
                    tx,
                    self.cloud,
                    caller(req),
                    NewGroup(name=want.name, description=or_none(want.description) or ""),
                )
            except QuotaExceeded as e:
                raise Forbidden(e.says) from None
            resp.media = {"security_group": shown(tx, [row])[0]}


class SecurityGroup(_Room):
    """/os-security-groups/{group_id}"""

    def on_get(self, req: Request, resp: Response, group_id: str) -> None:
        only(req, last=LAST)
        caller(req).may("os_compute_api:os-security-groups:show")
        with self.cloud.db.read() as tx:
            resp.media = {"security_group": shown(tx, [groups.find(tx, caller(req), group_id)])[0]}

    def on_put(self, req: Request, resp: Response, group_id: str) -> None:
        only(req, last=LAST)
        caller(req).may("os_compute_api:os-security-groups:update")
        want = body(req, GroupBody, key="security_group")
        changes = GroupChanges(name=want.name, description=or_none(want.description) or "")
        with self.cloud.db.begin() as tx:
            try:
                row = groups.update(tx, self.cloud, caller(req), group_id, changes)
            except Conflict as e:
                raise BadRequest(e.says) from None
            resp.media = {"security_group": shown(tx, [row])[0]}

    def on_delete(self, req: Request, resp: Response, group_id: str) -> None:
        only(req, last=LAST)
        caller(req).may("os_compute_api:os-security-groups:delete")
        with self.cloud.db.begin() as tx:
            try:
                groups.remove(tx, self.cloud, caller(req), group_id)
            except Conflict as e:
                raise BadRequest(e.says) from None
        resp.status = 202


class Rules(_Room):
    """/os-security-group-rules"""

    def on_post(self, req: Request, resp: Response) -> None:
        only(req, last=LAST)
        caller(req).may("os_compute_api:os-security-groups:rule:create")
        want = body(req, RuleBody, key="security_group_rule")
        protocol = or_none(want.ip_protocol)
        low, high = or_none(want.from_port), or_none(want.to_port)
        cidr = or_none(want.cidr)
        remote = or_none(want.group_id)
        for name, id in (("parent_group_id", str(want.parent_group_id)), ("group_id", remote)):
            if id is not None and not is_uuid(id):
                raise BadRequest(f"Security group id in {name} should be uuid: {id[:64]!r}")
        if protocol is None and remote is None:
            raise BadRequest("IP protocol is missing: give ip_protocol, from_port and to_port")
        rule = NewRule(
            security_group_id=str(want.parent_group_id),
            direction="ingress",
            ethertype="IPv6" if cidr and ":" in cidr else "IPv4",
            protocol=None if str(protocol) in ("-1", "None") else protocol,
            port_range_min=None if low is None or int(low) < 0 else int(low),
            port_range_max=None if high is None or int(high) < 0 else int(high),
            remote_ip_prefix=None if remote else cidr or "0.0.0.0/0",
            remote_group_id=remote,
        )
        with self.cloud.db.begin() as tx:
            try:
                row = groups.create_rule(tx, self.cloud, caller(req), rule)
            except SecurityGroupRuleExists as e:
                raise BadRequest(e.says) from None
            except QuotaExceeded as e:
                raise Forbidden(e.says) from None
            made = [
                r
                for r in shown(tx, [groups.find(tx, caller(req), row.security_group_id)])[0]["rules"]
                if r["id"] == row.id
            ]
        resp.media = {"security_group_rule": made[0]}


class Rule(_Room):
    """/os-security-group-rules/{rule_id}"""

    def on_delete(self, req: Request, resp: Response, rule_id: str) -> None:
        only(req, last=LAST)
        caller(req).may("os_compute_api:os-security-groups:rule:delete")
        with self.cloud.db.begin() as tx:
            groups.remove_rule(tx, self.cloud, caller(req), rule_id)
        resp.status = 202


class OfServer(_Room):
    """/servers/{server_id}/os-security-groups"""

    def on_get(self, req: Request, resp: Response, server_id: str) -> None:
        with self.cloud.db.read() as tx:
            ids = interface.groups_of(tx, caller(req), server_id)
            rows = [r for r in (groups.by_id(tx, id) for id in ids) if r is not None]
            resp.media = {"security_groups": shown(tx, rows)}
