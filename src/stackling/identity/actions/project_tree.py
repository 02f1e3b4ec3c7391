"""Whole trees of projects at once: switched off or on, and deleted. All of a tree, or nothing of it."""

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden
from stackling.identity.actions import named
from stackling.identity.actions import project as actions
from stackling.identity.state import project as projects
from stackling.identity.state import revision
from stackling.identity.state.project import project


def _tree(tx: Tx, caller: Caller, project_id: str, rule: str, change: dict[str, bool] | None) -> list[Row]:
    """The project and those below it, each of which the caller may change. Raises what one of them raises."""
    top = actions.get(tx, caller, project_id, rule)
    if top.is_domain:
        raise BadRequest(f"Project {top.id} acts as a domain; disable or delete the domain instead.")
    found = [top, *projects.descendants(tx, top.id)]
    for row in found:
        actions.get(tx, caller, row.id, rule)
        named.mutable("project", row, change)
    return found


def switch(tx: Tx, cloud: Cloud, caller: Caller, project_id: str, *, enabled: bool) -> Row:
    """Enable or disable a project and all below it. Raises Forbidden when something above it is disabled."""
    found = _tree(tx, caller, project_id, "update_project", {"enabled": enabled})
    if enabled and any(not p.enabled for p in projects.ancestors(tx, project_id)):
        raise Forbidden(f"Cannot enable project {project_id} since it has disabled parents.")
    mine = project.c.id.in_([row.id for row in found])
    tx.execute(sa.update(project).where(mine).values(enabled=enabled))
    revision.bump(tx)
    return projects.find(tx, project_id) or found[0]


def delete(tx: Tx, cloud: Cloud, caller: Caller, project_id: str) -> None:
    """Delete a project and all below it. Raises Forbidden unless all of them are disabled, as upstream does."""
    found = _tree(tx, caller, project_id, "delete_project", None)
    if any(row.enabled for row in found):
        raise Forbidden(
            f"Cannot delete project {project_id} since its subtree contains enabled projects. Disable it first."
        )
    for row in reversed(found):
        actions.forget(tx, row.id)
