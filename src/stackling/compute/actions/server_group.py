"""Server groups."""

from typing import Any

import sqlalchemy as sa

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import Forbidden, NotFound
from stackling.compute.actions import limits
from stackling.compute.state.server import live, server
from stackling.compute.state.server_group import server_group


def get(tx: Tx, caller: Caller, id: str, rule: str) -> Row:
    """Raises NotFound, Forbidden."""
    says = f"Instance group {id[:64]} could not be found."
    found = tx.execute(sa.select(server_group).where(server_group.c.id == id)).first()
    if found is None:
        raise NotFound(says)
    caller.may_see(found.project_id, rule, says)
    return found


def create(tx: Tx, cloud: Cloud, caller: Caller, *, name: str, policy: str, rules: dict[str, Any]) -> Row:
    """Raises QuotaExceeded."""
    caller.may("os_compute_api:os-server-groups:create")
    if caller.project_id is None:
        raise Forbidden("A server group needs a project: use a token of a project.")
    limits.check(tx, cloud, caller.project_id, {"server_groups": 1})
    values = {
        "id": ids.uuid4(),
        "project_id": caller.project_id,
        "user_id": caller.user_id,
        "name": name,
        "policy": policy,
        "rules": rules,
    }
    return tx.execute(
        sa.insert(server_group).values(**values, created_at=cloud.clock.now()).returning(server_group)
    ).one()


def delete(tx: Tx, caller: Caller, id: str) -> None:
    row = get(tx, caller, id, "os_compute_api:os-server-groups:delete")
    tx.execute(sa.delete(server_group).where(server_group.c.id == row.id))
    tx.execute(sa.update(server).where(server.c.group_id == row.id).values(group_id=None))


def members(tx: Tx, group_ids: list[str]) -> dict[str, list[str]]:
    """The ids of the servers in each group."""
    made: dict[str, list[str]] = {}
    query = (
        sa.select(server.c.group_id, server.c.id)
        .where(server.c.group_id.in_(group_ids), live)
        .order_by(server.c.created_at)
    )
    for row in tx.execute(query):
        made.setdefault(row.group_id, []).append(row.id)
    return made
