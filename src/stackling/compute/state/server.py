"""Servers. `state` is what is, `wanted` is what was asked; the API's status is made of both."""

import enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, DateTime, Index, Integer, String, Table, Text

from stackling.base.db import JSON, Row, Tx, metadata, one_of, resource
from stackling.base.statement import Statement, among


class State(enum.StrEnum):
    """What a server is, in the order of its life."""

    BUILDING = "building"  # its volumes are being made
    SPAWNING = "spawning"  # its host makes the domain
    ACTIVE = "active"  # runs
    REBOOTING = "rebooting"  # the guest was asked to power off, and is started again
    RESETTING = "resetting"  # a hard reboot: is being switched off
    RESTARTING = "restarting"  # a reboot's second half: is being switched on again
    STOPPING = "stopping"  # the guest was asked to power off
    PAUSING = "pausing"
    PAUSED = "paused"  # stands still
    UNPAUSING = "unpausing"
    SUSPENDING = "suspending"  # its memory is being written to its host's disk
    SUSPENDED = "suspended"  # is off, with its memory kept
    RESUMING = "resuming"
    REBUILDING = "rebuilding"  # is being switched off, to have its disks made anew
    RESPAWNING = "respawning"  # is being switched on with new disks
    RESCUING = "rescuing"  # is being switched off, to boot from another image
    RESCUE_BOOTING = "rescue_booting"
    RESCUED = "rescued"  # runs from another image, its own disk beside it
    UNRESCUING = "unrescuing"  # is being switched off, to boot from its own disk again
    UNRESCUE_BOOTING = "unrescue_booting"
    SHELVING = "shelving"  # is switched off, and its disk becomes an image
    OFFLOADING = "offloading"  # its host is being freed of it
    SHELVED_OFFLOADED = "shelved_offloaded"  # is on no host
    UNSHELVING = "unshelving"  # is being made on a host again
    STOPPED = "stopped"  # is off, because its owner or its guest wanted that
    STARTING = "starting"  # is being switched on
    CLEANING = "cleaning"  # could not be built; what it held is given back
    ERROR = "error"  # see `fault`
    DELETING = "deleting"  # everything it holds is given back
    DELETED = "deleted"  # kept for a while for those who ask what became of it


class Wanted(enum.StrEnum):
    """What its owner asked for last."""

    RUNNING = "running"
    STOPPED = "stopped"
    REBOOTED = "rebooted"
    RESET = "reset"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    REBUILT = "rebuilt"
    RESCUED = "rescued"
    SHELVED = "shelved"
    DELETED = "deleted"


server = Table(
    "server",
    metadata,
    *resource(),
    *one_of("state", State),
    *one_of("wanted", Wanted),
    Column("wished_at", DateTime, nullable=False),  # when `wanted` was last set; patience counts from here
    Column("user_id", String(255), nullable=False),
    Column("name", String(255), nullable=False),
    Column("hostname", String(255), nullable=False),
    Column("description", String(255)),
    Column("host", String(255), index=True),  # null until a host was chosen
    Column("availability_zone", String(255)),  # as asked for
    Column("requested_host", String(255)),
    Column("image_id", String(36)),  # null: boots from a volume
    Column("image", JSON),  # ImageRef, a copy: the image may go while servers made from it stay
    Column("generation", Integer, nullable=False, default=0),  # how often its disks were made anew
    Column("shelf", String(36)),  # the image that keeps its disk while it is shelved
    Column("rescue", JSON),  # ImageRef that it boots from while it is rescued
    Column("flavor_id", String(255), nullable=False),
    Column("flavor", JSON, nullable=False),  # a copy: the flavor may change or go
    Column("key_name", String(255)),
    Column("key", JSON),  # {"type", "public_key"}, a copy as well
    Column("user_data", Text),  # base64, as it came
    Column("config_drive", Boolean, nullable=False),
    Column("admin_pass", String(255)),  # only with a config drive, and only until the second boot
    Column("meta", JSON, nullable=False),
    Column(
        "system_meta", JSON, nullable=False
    ),  # image properties and trusted certificates at the time of creation
    Column("access_ip_v4", String(64), nullable=False),
    Column("access_ip_v6", String(64), nullable=False),
    Column("disk_config", String(8), nullable=False),
    Column("locked_by", String(8)),  # admin or owner; null: not locked
    Column("locked_reason", String(255)),
    Column("reservation_id", String(32), nullable=False),
    Column("launch_index", Integer, nullable=False),
    Column("root_device", String(64), nullable=False),
    Column("hints", JSON, nullable=False),
    Column("group_id", String(36), index=True),
    Column(
        "task", String(32)
    ),  # what is done to it besides, such as image_snapshot; none may begin meanwhile
    Column("power", String(16)),  # as last seen on the host
    Column("fault", JSON),  # {"code", "message", "details"}
    Column("fault_at", DateTime),
    Column("launched_at", DateTime),
    Column("terminated_at", DateTime),
    Index(
        "ix_server_project_live",
        "project_id",
        "created_at",
        sqlite_where=sa.text("state != 'deleted'"),
        postgresql_where=sa.text("state != 'deleted'"),
    ),
    Index(
        "ix_server_live",
        "created_at",
        sqlite_where=sa.text("state != 'deleted'"),
        postgresql_where=sa.text("state != 'deleted'"),
    ),
    Index("ix_server_updated_at", "updated_at"),
)

server_tag = Table(
    "server_tag",
    metadata,
    Column("server_id", String(36), primary_key=True),
    Column("tag", String(60), primary_key=True),
    Index("ix_server_tag_tag", "tag"),
)

live = server.c.state != State.DELETED

_ONE = Statement(sa.select(server).where(server.c.id == sa.bindparam("id"), live))
_TAGS = Statement(
    sa.select(server_tag).where(among(server_tag.c.server_id, "servers")).order_by(server_tag.c.tag)
)
_CHANGE = sa.update(server).where(server.c.id == sa.bindparam("this"))


def get(tx: Tx, id: str) -> Row | None:
    """A server that is not deleted."""
    return _ONE.first(tx, id=id)


def change(tx: Tx, id: str, **columns: Any) -> None:
    tx.execute(_CHANGE, {"this": id, **columns})


def tags_of(tx: Tx, server_ids: list[str]) -> dict[str, list[str]]:
    """The tags of many servers, in order."""
    made: dict[str, list[str]] = {}
    for row in _TAGS.all(tx, servers=server_ids):
        made.setdefault(row.server_id, []).append(row.tag)
    return made
