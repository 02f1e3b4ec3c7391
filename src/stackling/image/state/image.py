"""Images, their properties and their tags."""

import enum

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Index, Integer, String, Table, Text

from stackling.base.db import JSON, metadata, one_of, resource


class State(enum.StrEnum):
    QUEUED = "queued"  # known, without data
    SAVING = "saving"  # data is arriving
    UPLOADING = "uploading"  # data is staged for an import
    IMPORTING = "importing"
    ACTIVE = "active"
    DEACTIVATED = "deactivated"


class Visibility(enum.StrEnum):
    PUBLIC = "public"
    PRIVATE = "private"
    SHARED = "shared"
    COMMUNITY = "community"


image = Table(
    "image",
    metadata,
    *resource(),
    *one_of("state", State),
    *one_of("visibility", Visibility),
    Column("name", String(255)),
    Column("protected", Boolean, nullable=False, default=False),
    Column("hidden", Boolean, nullable=False, default=False),
    Column("disk_format", String(20)),
    Column("container_format", String(20)),
    Column("min_disk", Integer, nullable=False, default=0),  # GiB
    Column("min_ram", Integer, nullable=False, default=0),  # MiB
    Column("size", BigInteger),  # bytes of the file
    Column("virtual_size", BigInteger),  # bytes of the disk inside
    Column("checksum", String(32)),  # MD5
    Column("os_hash_algo", String(64)),
    Column("os_hash_value", String(128)),  # hex, of that algorithm: SHA-512 unless the image lies on the web
    Column("upload", String(36)),  # which upload may finish; null when none runs
    Column("heard_at", DateTime),  # when the upload last brought data
    Column("import_task", String(36)),  # the task that imports data; no other may begin meanwhile
    Column(
        "importing_to", Text
    ),  # stores that the last import has yet to fill, by comma; null without an import
    Column("failed_import", Text),  # stores that it failed for
    Index("ix_image_visibility", "visibility"),
    Index("ix_image_name", "name"),
    Index("ix_image_created_at_id", "created_at", "id"),
)

image_property = Table(
    "image_property",
    metadata,
    Column("image_id", String(36), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("value", Text),
)

image_tag = Table(
    "image_tag",
    metadata,
    Column("image_id", String(36), primary_key=True),
    Column("value", String(255), primary_key=True),
    Index("ix_image_tag_value", "value"),
)

image_location = Table(
    "image_location",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("image_id", String(36), nullable=False),
    Column("store", String(64), nullable=False),
    Column("url", Text),  # of a store of the web; null: the store knows the image by its id
    Column("meta", JSON, nullable=False),  # what users noted about it
    Column("going", Boolean, nullable=False, default=False),  # its data is being removed; nobody counts on it
    Column("number", Integer, nullable=False),  # places in the list of one image
    Index("ix_image_location_image_id", "image_id"),
)
