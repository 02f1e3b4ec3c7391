"""Builds of images, past ones too, and the schedules that repeat them."""

import enum

from sqlalchemy import Boolean, Column, DateTime, Index, Integer, String, Table, Text

from stackling.base.db import JSON, metadata, one_of, resource
from stackling.image.state.image import Visibility


class State(enum.StrEnum):
    QUEUED = "queued"
    BUILDING = "building"
    PUBLISHING = "publishing"  # built and tested; its data goes into the image service
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)

image_build = Table(
    "image_build",
    metadata,
    *resource(),
    *one_of("state", State),
    Column("name", String(255), nullable=False),  # of the image
    Column("recipe", JSON, nullable=False),
    *one_of("visibility", Visibility),
    Column("user_id", String(64), nullable=False),
    Column("request_id", String(64), nullable=False),  # of the request that asked for it
    Column("image_id", String(36), nullable=False),  # what the image's id is, or would have been
    Column("keep", Integer),  # how many images of this name stay; null: all
    Column("schedule_id", String(36), index=True),
    Column("cancelled", Boolean, nullable=False, default=False),  # nobody wants it any more
    Column(
        "in_machine", Boolean
    ),  # not confined on the host; null: of before there was a choice, on the host
    Column("runs", Integer, nullable=False, default=0),  # more than one when processes died
    Column("progress", Integer, nullable=False, default=0),  # percent
    Column("message", Text),  # how far it is
    Column("failure", Text),  # why there is no image
    Column("started_at", DateTime),
    Column("finished_at", DateTime),
    Index("ix_image_build_created_at_id", "created_at", "id"),
)


class ScheduleState(enum.StrEnum):
    ACTIVE = "active"


image_build_schedule = Table(
    "image_build_schedule",
    metadata,
    *resource(),
    *one_of("state", ScheduleState),
    Column("name", String(255), nullable=False),  # of the images
    Column("recipe", JSON, nullable=False),
    *one_of("visibility", Visibility),
    Column("user_id", String(64), nullable=False),
    Column("cron", String(255), nullable=False),  # UTC
    Column("keep", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("in_machine", Boolean),  # as builds have it
    Column("next_at", DateTime),  # null while it is switched off
    Index("ix_image_build_schedule_created_at_id", "created_at", "id"),
)
