"""Server groups."""

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from falcon import Request, Response
from msgspec import UNSET, Meta

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import BadRequest
from stackling.base.microversion import Body, since, until
from stackling.base.rest import body, boolean, caller, integer, one_param, version, view
from stackling.compute.actions import server_group as actions
from stackling.compute.api.body import Name, Unset, name_of, present, whole
from stackling.compute.api.link import MOST, known_queries
from stackling.compute.api.version import since as at_least
from stackling.compute.state.server_group import server_group

Policy = Literal["affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"]


class Rules(Body, kw_only=True):
    max_server_per_host: int | str | Unset = UNSET


class CreateGroup(Body, kw_only=True):
    name: Name
    policies: Annotated[Annotated[list[Policy], Meta(min_length=1, max_length=1)], until("2.63")]
    policy: Annotated[Policy, since("2.64")]
    rules: Annotated[Rules | Unset, since("2.64")] = UNSET


class GroupView(Body, kw_only=True):
    id: str
    name: str
    policies: Annotated[list[str], until("2.63")]
    metadata: Annotated[dict[str, str], until("2.63")]
    policy: Annotated[str, since("2.64")]
    rules: Annotated[dict[str, Any], since("2.64")]
    members: list[str]
    project_id: Annotated[str, since("2.13")]
    user_id: Annotated[str, since("2.13")]


def _shown(req: Request, row: Row, members: list[str]) -> dict[str, Any]:
    made = GroupView(
        id=row.id,
        name=row.name,
        policies=[row.policy],
        metadata={},
        policy=row.policy,
        rules=row.rules,
        members=members,
        project_id=row.project_id,
        user_id=row.user_id,
    )
    return dict(view(req, made))


class Groups:
    """/os-server-groups"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        who = caller(req)
        who.may("os_compute_api:os-server-groups:index")
        if at_least(req, "2.75"):
            known_queries(req, "all_projects", "limit", "offset")
        query = sa.select(server_group).order_by(server_group.c.created_at, server_group.c.id)
        if one_param(req, "all_projects") is not None and who.can(
            "os_compute_api:os-server-groups:index:all_projects"
        ):
            boolean(one_param(req, "all_projects") or "true", "all_projects")
        else:
            query = query.where(server_group.c.project_id == who.project_id)
        limit = min(integer(one_param(req, "limit") or str(MOST), "limit", most=2**62), MOST)
        query = query.limit(limit).offset(integer(one_param(req, "offset") or "0", "offset"))
        with self.cloud.db.read() as tx:
            rows = list(tx.execute(query))
            members = actions.members(tx, [r.id for r in rows])
        resp.media = {"server_groups": [_shown(req, r, members.get(r.id, [])) for r in rows]}

    def on_post(self, req: Request, resp: Response) -> None:
        caller(req).may("os_compute_api:os-server-groups:create")
        want = body(req, CreateGroup, key="server_group")
        policy = want.policy if present(want.policy) else want.policies[0]
        if policy.startswith("soft-") and version(req) < (2, 15):
            raise BadRequest(
                f"Invalid input for field/attribute policies. Value: {policy}. It is one of affinity, anti-affinity"
            )
        rules = {}
        sent = want.rules.max_server_per_host if want.rules is not UNSET else UNSET
        if present(sent):
            if policy != "anti-affinity":
                raise BadRequest("Only anti-affinity policy supports rules.")
            text = str(sent)
            if not text.isdigit():
                raise BadRequest(
                    "Invalid input for field/attribute max_server_per_host: it is a whole number from 1"
                )
            rules = {"max_server_per_host": whole(text, "max_server_per_host", least=1)}
        with self.cloud.db.begin() as tx:
            row = actions.create(
                tx, self.cloud, caller(req), name=name_of(want.name), policy=policy, rules=rules
            )
        resp.media = {"server_group": _shown(req, row, [])}


class Group:
    """/os-server-groups/{id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        with self.cloud.db.read() as tx:
            row = actions.get(tx, caller(req), id, "os_compute_api:os-server-groups:show")
            members = actions.members(tx, [row.id]).get(row.id, [])
        resp.media = {"server_group": _shown(req, row, members)}

    def on_delete(self, req: Request, resp: Response, id: str) -> None:
        with self.cloud.db.begin() as tx:
            actions.delete(tx, caller(req), id)
        resp.status = 204
