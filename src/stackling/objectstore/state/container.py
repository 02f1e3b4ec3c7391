"""Containers, with the counts of what is in them. Names sort by their bytes, as upstream's."""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, ForeignKey, Index, String, Table, Text

from stackling.base.db import JSON, metadata

# PostgreSQL would sort by the language of the machine.
BYTEWISE = Text().with_variant(Text(collation="C"), "postgresql")

container = Table(
    "objectstore_container",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("account_id", String(36), ForeignKey("objectstore_account.id"), nullable=False),
    Column("name", BYTEWISE, nullable=False),
    Column("policy", String(64), nullable=False),  # where new objects' data goes
    Column("headers", JSON, nullable=False),  # metadata, access lists and what else is sent as it is
    Column("versions", Boolean),  # whether what is overwritten or deleted stays; null: it never did
    Column("object_count", BigInteger, nullable=False),  # versions that are not the latest don't count
    Column("bytes_used", BigInteger, nullable=False),  # of all versions
    Column("created_at", DateTime, nullable=False),
    Column("updated_at", DateTime, nullable=False),
    Index("ix_objectstore_container_account_id_name", "account_id", "name", unique=True),
)
