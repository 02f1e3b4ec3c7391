"""Who besides its owner may use a network, subnet pool, address scope or security group.

The `shared` (and `external`) column of those tables says that everybody may; a row here with target `*` stands beside it.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, ColumnElement, Index, String, Table

from stackling.base.db import Tx, metadata, resource

rbac_policy = Table(
    "rbac_policy",
    metadata,
    *resource(),
    Column("object_type", String(32), nullable=False),
    Column("object_id", String(36), nullable=False),
    Column("action", String(32), nullable=False),
    Column("target_project", String(64), nullable=False),  # `*`: everybody
    Index("uq_rbac_policy_object", "object_id", "action", "target_project", unique=True),
    Index("ix_rbac_policy_target", "target_project", "object_type"),
)

SHARED, EXTERNAL = "access_as_shared", "access_as_external"


def among(object_type: str, id: ColumnElement[Any], project_id: str | None) -> ColumnElement[bool]:
    """Whether the object was shared with the project by name, in whichever way."""
    found = sa.select(rbac_policy.c.object_id).where(
        rbac_policy.c.object_type == object_type, rbac_policy.c.target_project == (project_id or "")
    )
    return id.in_(found)


def shared_with(object_type: str, id: ColumnElement[Any], project_id: str | None) -> ColumnElement[bool]:
    """Whether the object was shared with the project by name, for use as its own."""
    found = sa.select(rbac_policy.c.object_id).where(
        rbac_policy.c.object_type == object_type,
        rbac_policy.c.target_project == (project_id or ""),
        rbac_policy.c.action == SHARED,
    )
    return id.in_(found)


def actions_for(tx: Tx, object_id: str, project_id: str | None) -> set[str]:
    """In which ways the object was shared with the project by name."""
    query = sa.select(rbac_policy.c.action).where(
        rbac_policy.c.object_id == object_id, rbac_policy.c.target_project == (project_id or "")
    )
    return set(tx.execute(query).scalars())
