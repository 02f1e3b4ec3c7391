"""Attachments: which server uses which volume, and how far the two are."""

import enum

from sqlalchemy import Boolean, Column, DateTime, String, Table

from stackling.base.db import JSON, metadata, one_of, resource


class State(enum.StrEnum):
    RESERVED = "reserved"
    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"


attachment = Table(
    "volume_attachment",
    metadata,
    *resource(),
    *one_of("state", State),
    Column("volume_id", String(36), nullable=False, index=True),
    Column("server_id", String(36), index=True),
    Column("by_compute", Boolean, nullable=False),  # made for a server by compute, which alone may end it
    Column("mode", String(2), nullable=False),  # rw or ro
    Column("host", String(255)),
    Column("device", String(255)),
    Column("connector", JSON),
    Column("attached_at", DateTime),
)
