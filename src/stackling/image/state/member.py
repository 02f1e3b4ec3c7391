"""Projects that an image is shared with."""

import enum

from sqlalchemy import Column, DateTime, Index, String, Table

from stackling.base.db import metadata, one_of


class Status(enum.StrEnum):
    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


image_member = Table(
    "image_member",
    metadata,
    Column("image_id", String(36), primary_key=True),
    Column("member_id", String(64), primary_key=True),
    *one_of("status", Status),
    Column("created_at", DateTime, nullable=False),
    Column("updated_at", DateTime, nullable=False),
    Index("ix_image_member_member_id", "member_id"),
)
