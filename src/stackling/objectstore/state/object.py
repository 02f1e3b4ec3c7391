"""Objects and their versions. A row's id is the key of its data in the store of its policy, for good."""

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, DateTime, ForeignKey, Index, String, Table, Text

from stackling.base.db import JSON, metadata
from stackling.objectstore.state.container import BYTEWISE

object = Table(
    "objectstore_object",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("container_id", String(36), ForeignKey("objectstore_container.id"), nullable=False),
    Column("name", BYTEWISE, nullable=False),
    Column("version", String(20), nullable=False),  # X-Timestamp of its data, rising with each of the name
    Column("latest", Boolean, nullable=False),  # what the name means without a version
    Column("kept", Boolean, nullable=False),  # a version with an id; else the null version
    Column("deleted", Boolean, nullable=False),  # a mark that the name was deleted
    Column("policy", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes that a reader gets
    Column("stored", BigInteger, nullable=False),  # bytes of its own: a manifest's are few; 0: it has no data
    Column("etag", String(32), nullable=False),  # MD5 of its own data
    Column("content_type", Text, nullable=False),
    Column("headers", JSON, nullable=False),  # metadata and what else is sent as it is
    Column("special", JSON),  # {"slo": …} or {"symlink": …}; null: it is what it is
    Column("modified_at", DateTime, nullable=False),
    Column("delete_at", DateTime, index=True),
    Index("ix_objectstore_object_version", "container_id", "name", "version", unique=True),
    Index(
        "ix_objectstore_object_latest",
        "container_id",
        "name",
        unique=True,
        sqlite_where=sa.text("latest = 1"),
        postgresql_where=sa.text("latest"),
    ),
)
