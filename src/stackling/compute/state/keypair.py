"""Key pairs of users; only the public half is ever kept."""

from sqlalchemy import Column, DateTime, Integer, String, Table, Text, UniqueConstraint

from stackling.base.db import metadata

keypair = Table(
    "keypair",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),  # upstream shows it as `id`
    Column("user_id", String(255), nullable=False),
    Column("name", String(255), nullable=False),
    Column("type", String(16), nullable=False),
    Column("public_key", Text, nullable=False),
    Column("fingerprint", String(255), nullable=False),
    Column("created_at", DateTime, nullable=False),
    UniqueConstraint("user_id", "name", name="uq_keypair_user_id"),
)
