"""Images that are being made of servers' own disks; the row goes when the image is there, or won't come."""

import enum

from sqlalchemy import Column, Integer, String, Table

from stackling.base.db import metadata, one_of, resource


class State(enum.StrEnum):
    """How far it is."""

    COPYING = "copying"  # the host copies the disk
    UPLOADING = "uploading"  # the image service takes the copy


# The id is the image's.
server_image = Table(
    "server_image",
    metadata,
    *resource(),
    *one_of("state", State),
    Column("server_id", String(36), nullable=False, index=True),
    Column("host", String(255), nullable=False),  # which has the disk
    Column("action", String(64), nullable=False),  # of the server, that this is part of
    Column("backup", String(255)),  # of a backup: which kind it is, such as daily
    Column("rotation", Integer),  # and how many of that kind are kept
)
