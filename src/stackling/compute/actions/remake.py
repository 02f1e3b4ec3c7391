"""Servers that begin again from an image: rebuilt for good, or rescued for a while."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from msgspec import Struct, to_builtins

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, NotFound
from stackling.compute.actions import disks, instance_action, keypair, limits, server
from stackling.compute.state import server as state
from stackling.compute.state.server import Wanted
from stackling.compute.state.server import server as table
from stackling.image.actions import image as images


class Rebuild(Struct, frozen=True, kw_only=True):
    """A server as it is to be. `columns` are changed as they are; `key_name` None takes the key away, "" leaves it."""

    image_id: str
    columns: Mapping[str, Any] = {}
    meta: Mapping[str, str] | None = None
    key_name: str | None = ""
    admin_pass: str = ""
    trusted_certs: list[str] | None = None


def rebuild(tx: Tx, cloud: Cloud, caller: Caller, id: str, want: Rebuild) -> Row:
    """The server gets new disks of an image, and keeps its id, ports and volumes.

    Raises NotFound, Conflict (its state), BadRequest (an image that can't be used, or another one for a server that
    boots from a volume), QuotaExceeded.
    """
    row = server.unlocked(tx, caller, id, "os_compute_api:servers:rebuild")
    server.require(row, "rebuild", "active", "stopped", "error", launched=False)
    if row.host is None:
        raise Conflict(f"Cannot 'rebuild' instance {row.id}: it has no host. Delete it and create another.")
    if want.trusted_certs is not None:
        caller.may("os_compute_api:servers:rebuild:trusted_certs")
    image = _image(tx, cloud, caller, want.image_id)
    if row.image is None and image.id != row.image_id:
        raise BadRequest("Unable to rebuild with a different image for a volume-backed server.")
    properties = images.properties(tx, image.id)
    if row.image is not None:
        _check_fits(row, image, properties)
    if want.meta is not None:
        limits.check_metadata(tx, cloud, row.project_id, len(want.meta))
    certs = want.trusted_certs if want.trusted_certs is not None else row.system_meta.get("trusted_certs")
    columns: dict[str, Any] = {
        **want.columns,
        "image_id": image.id,
        "system_meta": {"image": properties, "min_ram": image.min_ram, "trusted_certs": certs},
        "generation": row.generation + 1,
        "rescue": None,
        "fault": None,
        "fault_at": None,
    }
    if row.image is not None:
        columns["image"] = to_builtins(images.ref(image))
    if want.meta is not None:
        columns["meta"] = dict(want.meta)
    if row.config_drive:
        columns["admin_pass"] = want.admin_pass
    columns |= _key(tx, row, want.key_name)
    instance_action.record(tx, cloud, caller, row.id, "rebuild")
    state.change(tx, row.id, **columns)
    server.wish(tx, cloud, row, Wanted.REBUILT)
    return tx.execute(sa.select(table).where(table.c.id == row.id)).one()


def _image(tx: Tx, cloud: Cloud, caller: Caller, image_id: str) -> Row:
    try:
        return images.for_boot(tx, cloud, caller, image_id)
    except NotFound:
        raise BadRequest(f"Cannot find image {image_id[:64]}: it does not exist, or not for you.") from None


def _check_fits(row: Row, image: Row, properties: Mapping[str, Any]) -> None:
    if disks.of_image(properties):
        raise BadRequest(
            f"Image {image.id} has no data of its own, only volumes: a server can't be rebuilt with it."
        )
    if row.flavor["ram"] < (image.min_ram or 0):
        raise BadRequest(
            f"Flavor's memory is too small for requested image: it needs {image.min_ram} MiB, the server has {row.flavor['ram']} MiB."
        )
    needs = max(image.min_disk or 0, -(-(image.virtual_size or 0) // 1024**3))
    if row.flavor["disk"] and row.flavor["disk"] < needs:
        raise BadRequest(
            f"Flavor's disk is too small for requested image: it needs {needs} GiB, the server has {row.flavor['disk']} GiB."
        )


def _key(tx: Tx, row: Row, name: str | None) -> dict[str, Any]:
    if name == "":
        return {}
    if name is None:
        return {"key_name": None, "key": None}
    try:
        key = keypair.of(tx, row.user_id, name)
    except NotFound:
        raise BadRequest("Invalid key_name provided.") from None
    return {"key_name": name, "key": {"type": key.type, "public_key": key.public_key}}


def rescue(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    id: str,
    image_id: str | None,
    admin_pass: str,
    *,
    from_volume: bool,
) -> None:
    """Boot the server from another image (its own, if none is named), its disk beside it. Raises as `rebuild`.

    `from_volume`: also one that boots from a volume; an image must be named for it unless it came from one.
    """
    row = server.unlocked(tx, caller, id, "os_compute_api:os-rescue")
    server.require(row, "rescue", "active", "stopped", "error")
    if row.image is None and not from_volume:
        raise BadRequest("Cannot rescue a volume-backed instance")
    image_id = image_id or row.image_id
    if image_id is None:
        raise BadRequest(
            f"Instance {row.id} cannot be rescued: it boots from a volume, so name an image in rescue_image_ref."
        )
    found: Any = row.image
    if found is None or image_id != row.image_id:
        found = to_builtins(images.ref(_image(tx, cloud, caller, image_id)))
    instance_action.record(tx, cloud, caller, row.id, "rescue")
    state.change(tx, row.id, rescue=found, **({"admin_pass": admin_pass} if row.config_drive else {}))
    server.wish(tx, cloud, row, Wanted.RESCUED)


def unrescue(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> None:
    """Boot the server from its own disk again."""
    row = server.unlocked(tx, caller, id, "os_compute_api:os-unrescue")
    server.require(row, "unrescue", "rescued")
    instance_action.record(tx, cloud, caller, row.id, "unrescue")
    state.change(tx, row.id, rescue=None)
    server.wish(tx, cloud, row, Wanted.RUNNING)
