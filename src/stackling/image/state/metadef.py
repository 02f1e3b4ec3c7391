"""Metadata definitions: namespaces, and the objects, properties and tags that they define for kinds of resources."""

import enum
from typing import Any

from sqlalchemy import Boolean, Column, DateTime, ForeignKey, String, Table, Text, UniqueConstraint

from stackling.base.db import JSON, metadata, one_of, resource


class Visibility(enum.StrEnum):
    PUBLIC = "public"
    PRIVATE = "private"


metadef_namespace = Table(
    "metadef_namespace",
    metadata,
    *resource(),
    *one_of("visibility", Visibility),
    Column("name", String(80), nullable=False, unique=True),
    Column("display_name", String(80)),
    Column("description", Text),
    Column("protected", Boolean, nullable=False, default=False),
)


def _defined() -> list[Column[Any]]:
    """What everything that a namespace defines has."""
    return [
        Column("id", String(36), primary_key=True),
        Column(
            "namespace_id", String(36), ForeignKey("metadef_namespace.id", ondelete="CASCADE"), nullable=False
        ),
        Column("name", String(80), nullable=False),
        Column("created_at", DateTime, nullable=False),
        Column("updated_at", DateTime, nullable=False),
    ]


metadef_object = Table(
    "metadef_object",
    metadata,
    *_defined(),
    Column("description", Text),
    Column("required", JSON, nullable=False),  # names of properties
    Column("properties", JSON, nullable=False),  # schema by name
    UniqueConstraint("namespace_id", "name"),
)

metadef_property = Table(
    "metadef_property",
    metadata,
    *_defined(),
    Column("schema", JSON, nullable=False),  # without its name
    UniqueConstraint("namespace_id", "name"),
)

metadef_tag = Table("metadef_tag", metadata, *_defined(), UniqueConstraint("namespace_id", "name"))

metadef_resource_type = Table(
    "metadef_resource_type",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("created_at", DateTime, nullable=False),
    Column("updated_at", DateTime, nullable=False),
)

# Which kinds of resources a namespace is about.
metadef_association = Table(
    "metadef_association",
    metadata,
    Column(
        "namespace_id", String(36), ForeignKey("metadef_namespace.id", ondelete="CASCADE"), primary_key=True
    ),
    Column("resource_type", String(80), primary_key=True, index=True),
    Column("prefix", String(80)),  # what the names of properties begin with on this kind
    Column("properties_target", String(80)),  # which of the kind's properties are meant, where it has several
    Column("created_at", DateTime, nullable=False),
    Column("updated_at", DateTime, nullable=False),
)
