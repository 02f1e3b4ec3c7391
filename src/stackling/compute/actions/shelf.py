"""Shelved servers: off their host, their root disk kept as an image, their volumes and ports kept for them."""

from typing import Any

from msgspec import Struct, to_builtins

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict
from stackling.compute.actions import instance_action, scheduling, server, server_image, server_plan
from stackling.compute.state import aggregate, block_device
from stackling.compute.state import server as state
from stackling.compute.state.host import by_name
from stackling.compute.state.server import Wanted
from stackling.image.actions import image as images
from stackling.network.actions import port as ports
from stackling.placement.actions import allocation
from stackling.placement.actions.allocation import NoHost
from stackling.volume.actions import attachment as attachments


def shelve(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> None:
    """The server is switched off, its disk becomes an image, and its host is free of it. Raises Conflict."""
    row = server.unlocked(tx, caller, id, "os_compute_api:os-shelve:shelve")
    server.require(row, "shelve", "active", "stopped", "paused", "suspended")
    columns: dict[str, Any] = {}
    if row.image is not None:
        name = f"{row.name[:247]}-shelved"
        columns["shelf"] = server_image.order(tx, cloud, caller, row, name, {}).id
    instance_action.record(tx, cloud, caller, row.id, "shelve")
    if columns:
        state.change(tx, row.id, **columns)
    server.wish(tx, cloud, row, Wanted.SHELVED)


def offload(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> None:
    """A shelved server leaves its host: here each does at once, so there is none to ask this of. Raises Conflict."""
    row = server.unlocked(tx, caller, id, "os_compute_api:os-shelve:shelve_offload")
    server.require(row, "shelveOffload", "shelved")


class Unshelve(Struct, frozen=True, kw_only=True):
    """Where a server is to run: in its own zone (`keep_zone`), in another, in any (None); on which host, if on one."""

    keep_zone: bool = True
    zone: str | None = None
    host: str | None = None


def unshelve(tx: Tx, cloud: Cloud, caller: Caller, id: str, want: Unshelve) -> None:
    """The server runs again, on a host that has room.

    Raises Forbidden (a host was named), BadRequest (zone or host are not there), Conflict (the server's state, the
    host is in another zone, no host has room).
    """
    row = server.unlocked(tx, caller, id, "os_compute_api:os-shelve:unshelve")
    server.require(row, "unshelve", "shelved_offloaded")
    zone = row.availability_zone if want.keep_zone else want.zone
    _check_place(tx, cloud, caller, row, want, zone)
    columns: dict[str, Any] = {}
    if row.shelf:
        image = images.found(tx, row.shelf)
        if image is None:
            raise Conflict(f"Cannot 'unshelve' instance {row.id}: its image {row.shelf} was deleted.")
        columns["image"] = to_builtins(images.ref(image))
    if not want.keep_zone:
        columns["availability_zone"] = zone
    host = _host(tx, cloud, row, zone, want.host)
    ports.bind(tx, cloud, row.id, host)
    instance_action.record(tx, cloud, caller, row.id, "unshelve")
    state.change(tx, row.id, host=host, **columns)
    server.wish(tx, cloud, row, Wanted.RUNNING)


def _check_place(tx: Tx, cloud: Cloud, caller: Caller, row: Row, want: Unshelve, zone: str | None) -> None:
    if want.zone:
        scheduling.check_zone(tx, cloud, want.zone)
    if want.host is None:
        return
    caller.may("os_compute_api:os-shelve:unshelve_to_host", {"project_id": row.project_id})
    if by_name(tx, want.host) is None:
        raise BadRequest(f"Compute host {want.host} could not be found.")
    has = aggregate.zones(tx, cloud.config.compute.availability_zone).of(want.host)
    if zone and zone != has:
        raise Conflict(
            f"Cannot 'unshelve' instance {row.id}: host {want.host} is in availability zone {has}, not {zone}."
        )


def _host(tx: Tx, cloud: Cloud, row: Row, zone: str | None, named: str | None) -> str:
    held = [d.volume_id for d in block_device.of(tx, row.id) if d.volume_id]
    choice = scheduling.Choice(
        zone=zone, host=named, volume_hosts={id: attachments.backend_of(tx, id) for id in held}
    )
    found = scheduling.candidates(tx, cloud, choice)
    needs = server_plan.needs_of(row.flavor, local_root=row.image is not None)
    try:
        return allocation.claim(
            tx,
            cloud,
            row.id,
            row.project_id,
            row.user_id,
            resources=needs.resources,
            candidates=found.hosts,
            required=needs.required,
            forbidden=needs.forbidden,
            weigh=found.weigh,
        )
    except NoHost as e:
        reasons = {**found.reasons, **e.reasons}
        told = " ".join(f"{host}: {why}." for host, why in sorted(reasons.items())[:8])
        raise Conflict(f"No valid host was found for instance {row.id}. {told}") from None
