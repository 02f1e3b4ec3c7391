"""Images in the caches of hosts, wanted there or there."""

import enum

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, String, Table, UniqueConstraint

from stackling.base.db import metadata, one_of


class State(enum.StrEnum):
    QUEUED = "queued"  # to be fetched
    CACHED = "cached"
    DROPPING = "dropping"  # goes as soon as no server of the host stands on it


image_cached = Table(
    "image_cached",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("image_id", String(36), nullable=False),
    Column("host", String(64), nullable=False),
    *one_of("state", State),
    Column("size", BigInteger, nullable=False, default=0),  # bytes
    Column(
        "hits", Integer, nullable=False, default=0
    ),  # servers on the host that stand on it, when last looked
    Column("created_at", DateTime, nullable=False),
    Column("updated_at", DateTime),  # when it was there first
    Column("used_at", DateTime, nullable=False),  # when it was last wanted or seen in use
    UniqueConstraint("image_id", "host"),
    Index("ix_image_cached_host", "host"),
)
