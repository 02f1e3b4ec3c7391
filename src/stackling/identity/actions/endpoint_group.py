"""Which project sees which endpoints: one by one, and by groups that select them with filters."""

from typing import Any

import sqlalchemy as sa

from stackling.base import db, ids
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import Conflict, NotFound
from stackling.identity.actions import catalog
from stackling.identity.actions.permission import may
from stackling.identity.state import project as projects
from stackling.identity.state import revision
from stackling.identity.state.catalog import (
    endpoint,
    endpoint_group,
    project_endpoint,
    project_endpoint_group,
)


def create(tx: Tx, caller: Caller, name: str, description: str | None, filters: dict[str, Any]) -> Row:
    may(caller, "create_endpoint_group")
    values = {"id": ids.hex32(), "name": name, "description": description, "filters": filters}
    return tx.execute(endpoint_group.insert().values(**values).returning(endpoint_group)).one()


def get(tx: Tx, caller: Caller, group_id: str, rule: str = "get_endpoint_group") -> Row:
    may(caller, rule)
    row = tx.execute(sa.select(endpoint_group).where(endpoint_group.c.id == group_id)).one_or_none()
    if row is None:
        raise NotFound(f"Could not find Endpoint Group: {group_id[:64]}.")
    return row


def listing(caller: Caller) -> sa.Select[Any]:
    may(caller, "list_endpoint_groups")
    return sa.select(endpoint_group)


def update(tx: Tx, caller: Caller, group_id: str, change: dict[str, Any]) -> Row:
    get(tx, caller, group_id, "update_endpoint_group")
    if change:
        tx.execute(sa.update(endpoint_group).where(endpoint_group.c.id == group_id).values(**change))
    revision.bump(tx)
    return tx.execute(sa.select(endpoint_group).where(endpoint_group.c.id == group_id)).one()


def delete(tx: Tx, caller: Caller, group_id: str) -> None:
    get(tx, caller, group_id, "delete_endpoint_group")
    tx.execute(sa.delete(endpoint_group).where(endpoint_group.c.id == group_id))
    revision.bump(tx)


def endpoints(tx: Tx, caller: Caller, group_id: str) -> list[Row]:
    """The endpoints that a group selects."""
    row = get(tx, caller, group_id, "list_endpoints_associated_with_endpoint_group")
    return list(tx.execute(catalog.matching(row.filters)))


def projects_of(tx: Tx, caller: Caller, group_id: str) -> list[Row]:
    get(tx, caller, group_id, "list_projects_associated_with_endpoint_group")
    link = project_endpoint_group
    query = sa.select(projects.project).join(link, link.c.project_id == projects.project.c.id)
    return list(tx.execute(query.where(link.c.endpoint_group_id == group_id).order_by(projects.project.c.id)))


def groups_of(tx: Tx, caller: Caller, project_id: str) -> list[Row]:
    may(caller, "list_endpoint_groups_for_project")
    _project(tx, project_id)
    link = project_endpoint_group
    query = sa.select(endpoint_group).join(link, link.c.endpoint_group_id == endpoint_group.c.id)
    return list(tx.execute(query.where(link.c.project_id == project_id).order_by(endpoint_group.c.id)))


def _project(tx: Tx, project_id: str) -> Row:
    row = projects.find(tx, project_id)
    if row is None:
        raise NotFound(f"Could not find project: {project_id[:64]}.")
    return row


class Link:
    """Projects linked with endpoints or endpoint groups: the same acts on two tables."""

    def __init__(self, table: sa.Table, column: str, noun: str, rules: tuple[str, str, str]) -> None:
        self.table, self.column, self.noun = table, column, noun
        self.check_rule, self.add_rule, self.remove_rule = rules

    def _where(self, project_id: str, other_id: str) -> tuple[sa.ColumnElement[bool], ...]:
        return self.table.c.project_id == project_id, self.table.c[self.column] == other_id

    def _both(self, tx: Tx, caller: Caller, project_id: str, other_id: str, rule: str) -> None:
        may(caller, rule)
        target = endpoint if self.column == "endpoint_id" else endpoint_group
        if tx.execute(sa.select(target.c.id).where(target.c.id == other_id)).first() is None:
            raise NotFound(f"Could not find {self.noun}: {other_id[:64]}.")
        _project(tx, project_id)

    def check(self, tx: Tx, caller: Caller, project_id: str, other_id: str) -> None:
        self._both(tx, caller, project_id, other_id, self.check_rule)
        if tx.execute(sa.select(self.table).where(*self._where(project_id, other_id))).first() is None:
            raise NotFound(f"{self.noun} {other_id} is not associated with project {project_id}.")

    def add(self, tx: Tx, caller: Caller, project_id: str, other_id: str) -> None:
        self._both(tx, caller, project_id, other_id, self.add_rule)
        db.lock(tx, f"{self.table.name}:{project_id}:{other_id}")
        if tx.execute(sa.select(self.table).where(*self._where(project_id, other_id))).first() is not None:
            raise Conflict(f"{self.noun} {other_id} is associated with project {project_id} already.")
        tx.execute(self.table.insert().values({"project_id": project_id, self.column: other_id}))
        revision.bump(tx)

    def remove(self, tx: Tx, caller: Caller, project_id: str, other_id: str) -> None:
        self._both(tx, caller, project_id, other_id, self.remove_rule)
        if not tx.execute(sa.delete(self.table).where(*self._where(project_id, other_id))).rowcount:
            raise NotFound(f"{self.noun} {other_id} is not associated with project {project_id}.")
        revision.bump(tx)


ENDPOINTS = Link(
    project_endpoint,
    "endpoint_id",
    "endpoint",
    ("check_endpoint_in_project", "add_endpoint_to_project", "remove_endpoint_from_project"),
)
GROUPS = Link(
    project_endpoint_group,
    "endpoint_group_id",
    "Endpoint Group",
    ("get_endpoint_group_in_project", "add_endpoint_group_to_project", "remove_endpoint_group_from_project"),
)


def endpoints_of_project(tx: Tx, caller: Caller, project_id: str) -> list[Row]:
    """The endpoints that a project is associated with, itself or through groups."""
    may(caller, "list_endpoints_for_project")
    _project(tx, project_id)
    only = catalog.associated(tx, project_id) or set()
    return list(tx.execute(sa.select(endpoint).where(endpoint.c.id.in_(only)).order_by(endpoint.c.id)))


def projects_of_endpoint(tx: Tx, caller: Caller, endpoint_id: str) -> list[Row]:
    may(caller, "list_projects_for_endpoint")
    if tx.execute(sa.select(endpoint.c.id).where(endpoint.c.id == endpoint_id)).first() is None:
        raise NotFound(f"Could not find endpoint: {endpoint_id[:64]}.")
    query = sa.select(projects.project).join(
        project_endpoint, project_endpoint.c.project_id == projects.project.c.id
    )
    return list(
        tx.execute(query.where(project_endpoint.c.endpoint_id == endpoint_id).order_by(projects.project.c.id))
    )
