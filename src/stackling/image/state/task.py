"""Tasks: imports of image data, past ones too until they expire."""

import enum

from sqlalchemy import Column, DateTime, Index, String, Table, Text

from stackling.base.db import JSON, metadata, one_of, resource


class State(enum.StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    SUCCESS = "success"
    FAILURE = "failure"


class Type(enum.StrEnum):
    API_IMAGE_IMPORT = "api_image_import"  # asked for on an image
    LOCATION = "location_import"  # of data that stays where it is
    IMPORT = "import"  # asked for through the tasks API; makes its image


image_task = Table(
    "image_task",
    metadata,
    *resource(),
    *one_of("state", State),
    *one_of("type", Type),
    Column("image_id", String(36), nullable=False, index=True),
    Column("user_id", String(64), nullable=False),
    Column("request_id", String(64), nullable=False),  # of the request that asked for it
    Column("input", JSON, nullable=False),
    Column("inject", JSON),  # properties that the import sets on the image
    Column("message", Text),  # how far it is
    Column("failure", Text),  # why it failed, or is about to
    Column("expires_at", DateTime),
    Index("ix_image_task_created_at_id", "created_at", "id"),
)
