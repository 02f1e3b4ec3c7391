"""The columns that every network resource has, and the tags that may hang on any of them."""

from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, DateTime, Index, Integer, String, Table

from stackling.base.db import Tx, metadata, resource
from stackling.base.statement import Statement, among


class State(StrEnum):
    """How far the fabric is with a thing. A later change is realized without leaving ACTIVE."""

    BUILD = "BUILD"
    ACTIVE = "ACTIVE"


def standard() -> list[Column[Any] | Index]:
    """`resource()` and Neutron's standard attributes, and the order in which administrators list all projects'."""
    return [
        *resource(),
        Column("name", String(255), nullable=False, default=""),
        Column("description", String(255), nullable=False, default=""),
        Column("revision_number", Integer, nullable=False, default=1),
        Index(None, "created_at", "id"),
    ]


tag = Table(
    "network_tag",
    metadata,
    Column("resource_id", String(36), primary_key=True),
    Column("tag", String(255), primary_key=True),
    Column("made_at", DateTime, nullable=False),
)


def tags_of(tx: Tx, ids: list[str]) -> dict[str, list[str]]:
    """The tags of resources by id, each list in alphabetical order; those without tags are left out."""
    found: dict[str, list[str]] = {}
    if ids:
        for row in _TAGS.all(tx, ids=ids):
            found.setdefault(row.resource_id, []).append(row.tag)
    return found


_TAGS = Statement(
    sa.select(tag.c.resource_id, tag.c.tag).where(among(tag.c.resource_id, "ids")).order_by(tag.c.tag)
)
