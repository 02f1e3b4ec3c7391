"""A server's metadata and tags."""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, NotFound
from stackling.compute.actions import limits, server
from stackling.compute.actions.server_plan import MOST_TAGS
from stackling.compute.state import server as state
from stackling.compute.state.server import server_tag


def of(tx: Tx, caller: Caller, server_id: str, rule: str) -> dict[str, str]:
    return dict(server.get(tx, caller, server_id, rule).meta)


def _keep(tx: Tx, cloud: Cloud, row: Row, meta: Mapping[str, str]) -> dict[str, str]:
    limits.check_metadata(tx, cloud, row.project_id, len(meta))
    state.change(tx, row.id, meta=dict(meta), updated_at=cloud.clock.now())
    server.look_again(tx, cloud, row.id)  # the guest can read it
    return dict(meta)


def merge(
    tx: Tx, cloud: Cloud, caller: Caller, server_id: str, items: Mapping[str, str], rule: str
) -> dict[str, str]:
    """Add items, or change them; all of them. Raises QuotaExceeded."""
    row = server.unlocked(tx, caller, server_id, rule)
    return _keep(tx, cloud, row, {**row.meta, **items})


def replace(tx: Tx, cloud: Cloud, caller: Caller, server_id: str, items: Mapping[str, str]) -> dict[str, str]:
    row = server.unlocked(tx, caller, server_id, "os_compute_api:server-metadata:update_all")
    return _keep(tx, cloud, row, items)


def remove(tx: Tx, cloud: Cloud, caller: Caller, server_id: str, key: str) -> None:
    row = server.unlocked(tx, caller, server_id, "os_compute_api:server-metadata:delete")
    if key not in row.meta:
        raise NotFound("Metadata item was not found")
    _keep(tx, cloud, row, {k: v for k, v in row.meta.items() if k != key})


# -- tags --------------------------------------------------------------------------------------------------------------


def tags_of(tx: Tx, caller: Caller, server_id: str, rule: str) -> list[str]:
    row = server.get(tx, caller, server_id, rule)
    return state.tags_of(tx, [row.id]).get(row.id, [])


def set_tags(
    tx: Tx, cloud: Cloud, caller: Caller, server_id: str, tags: Iterable[str], rule: str
) -> list[str]:
    """Replace all tags. Raises BadRequest (too many), Conflict (deleting)."""
    row = _changing(tx, caller, server_id, rule)
    wanted = sorted(set(tags))
    if len(wanted) > MOST_TAGS:
        raise BadRequest(f"The number of tags exceeded the per-server limit {MOST_TAGS}")
    tx.execute(sa.delete(server_tag).where(server_tag.c.server_id == row.id))
    if wanted:
        tx.execute(sa.insert(server_tag), [{"server_id": row.id, "tag": t} for t in wanted])
    state.change(tx, row.id, updated_at=cloud.clock.now())
    return wanted


def add_tag(tx: Tx, cloud: Cloud, caller: Caller, server_id: str, tag: str) -> bool:
    """True when it is new."""
    rule = "os_compute_api:os-server-tags:update"
    have = tags_of(tx, caller, server_id, rule)
    if tag in have:
        return False
    set_tags(tx, cloud, caller, server_id, [*have, tag], rule)
    return True


def remove_tag(tx: Tx, cloud: Cloud, caller: Caller, server_id: str, tag: str) -> None:
    rule = "os_compute_api:os-server-tags:delete"
    have = tags_of(tx, caller, server_id, rule)
    if tag not in have:
        raise NotFound(f"Server {server_id} has no tag '{tag[:60]}'")
    set_tags(tx, cloud, caller, server_id, [t for t in have if t != tag], rule)


def _changing(tx: Tx, caller: Caller, server_id: str, rule: str) -> Row:
    row = server.get(tx, caller, server_id, rule)
    if row.wanted == "deleted":
        raise Conflict(f"Cannot 'update tags' instance {row.id} while it is in task_state deleting")
    return row
