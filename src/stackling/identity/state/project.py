"""Projects and domains: a domain is a project with `is_domain`, so that assignments reach both alike."""

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, ForeignKey, Index, String, Table, Text

from stackling.base.db import JSON, Row, Tx, metadata
from stackling.base.statement import Statement

project = Table(
    "identity_project",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("domain_id", String(64), ForeignKey("identity_project.id"), index=True),  # null for a domain
    Column("parent_id", String(64), ForeignKey("identity_project.id"), index=True),  # null for a domain
    Column("is_domain", Boolean, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("options", JSON, nullable=False),
    Column("extra", JSON, nullable=False),
)
# Names are unique among domains, and among the projects of a domain.
Index(
    "uq_identity_project_domain_name",
    project.c.name,
    unique=True,
    sqlite_where=sa.text("is_domain"),
    postgresql_where=sa.text("is_domain"),
)
Index("uq_identity_project_name", project.c.domain_id, project.c.name, unique=True)
Index(None, project.c.name)

project_tag = Table(
    "identity_project_tag",
    metadata,
    Column("project_id", String(64), ForeignKey("identity_project.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(255), primary_key=True),
)


def find(tx: Tx, project_id: str) -> Row | None:
    return _ONE.first(tx, project_id=project_id)


def find_domain(tx: Tx, domain_id: str) -> Row | None:
    row = find(tx, domain_id)
    return row if row is not None and row.is_domain else None


_ONE = Statement(sa.select(project).where(project.c.id == sa.bindparam("project_id")))


def ancestors(tx: Tx, project_id: str) -> list[Row]:
    """The projects above one, nearest first, its domain last."""
    found: list[Row] = []
    row = find(tx, project_id)
    while row is not None and row.parent_id:
        row = find(tx, row.parent_id)
        if row is not None:
            found.append(row)
    return found


def descendants(tx: Tx, project_id: str) -> list[Row]:
    """The projects below one, those of each level after their parents."""
    found: list[Row] = []
    level = [project_id]
    while level:
        rows = list(
            tx.execute(sa.select(project).where(project.c.parent_id.in_(level)).order_by(project.c.id))
        )
        found += rows
        level = [r.id for r in rows]
    return found


def tags(tx: Tx, project_ids: list[str]) -> dict[str, list[str]]:
    """The tags of each of the projects, in order of name."""
    made: dict[str, list[str]] = {i: [] for i in project_ids}
    query = sa.select(project_tag).order_by(project_tag.c.name)
    if len(project_ids) <= 200:
        query = query.where(project_tag.c.project_id.in_(project_ids))
    for row in tx.execute(query):
        if row.project_id in made:
            made[row.project_id].append(row.name)
    return made
