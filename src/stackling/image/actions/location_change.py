"""Changing where an image is: URLs of users, copies in stores."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct, field

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, Forbidden, NotFound
from stackling.image import store
from stackling.image.actions import location, web
from stackling.image.actions.image import find, found, owned, target
from stackling.image.state.image import State, image

ALGORITHMS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
MOST = 10  # locations of an image


class Hashes(Struct, kw_only=True, forbid_unknown_fields=True):
    """What the sender of a location says that its data is."""

    checksum: str | None = None
    os_hash_algo: str
    os_hash_value: str


class Place(Struct, kw_only=True, forbid_unknown_fields=True):
    """A location as users write it."""

    url: str
    metadata: dict[str, Any] = field(default_factory=dict)
    validation_data: Hashes | None = None


def check_hashes(given: Hashes) -> None:
    """Raises BadRequest for what no such hash looks like."""
    length = ALGORITHMS.get(given.os_hash_algo)
    if length is None:
        raise BadRequest(
            f"Invalid input for field/attribute os_hash_algo: {given.os_hash_algo[:64]!r} is none of {', '.join(ALGORITHMS)}"
        )
    for name, value, digits in (
        ("os_hash_value", given.os_hash_value, length),
        ("checksum", given.checksum, 32),
    ):
        if value is None:
            continue
        if len(value) != digits or not set(value.lower()) <= set("0123456789abcdef"):
            raise BadRequest(
                f"Invalid input for field/attribute {name}: it is not {digits} hexadecimal digits"
            )


def check_url(cloud: Cloud, url: str) -> str:
    """The store that a URL belongs to. Raises BadRequest: only http and https, and nothing of the cloud's own."""
    if len(url) > 2048:
        raise BadRequest("Invalid location: a URL has at most 2048 characters")
    web.check(cloud, url)
    name = store.of(cloud).web
    if name is None:
        raise BadRequest("Invalid location: there is no store of the web; image data is uploaded or imported")
    return name


def _may(cloud: Cloud, caller: Caller, row: Row, rule: str) -> None:
    if not cloud.config.image.show_multiple_locations:
        raise Forbidden("It's not allowed to change locations if locations are invisible.")
    caller.may(rule, target(row))


def may_add(tx: Tx, cloud: Cloud, caller: Caller, image_id: str) -> None:
    """Whether the caller may add a location; asked before its URL is looked at. Raises NotFound, Forbidden."""
    _may(cloud, caller, find(tx, caller, image_id), "set_image_location")


def add(
    tx: Tx, cloud: Cloud, caller: Caller, row: Row, place: Place, size: int | None, at: int | None
) -> Row:
    """The image's data also lies at a URL, of `size` bytes. A queued image becomes active, its data unseen.

    `at` is its place in the list, None the end. Raises Forbidden, Conflict (the status, the hashes), BadRequest.
    """
    _may(cloud, caller, row, "set_image_location")
    if row.state not in (State.QUEUED, State.ACTIVE):
        raise Conflict(f"It's not allowed to add locations if image status is {row.state}.")
    known = location.of(tx, cloud, row.id)
    if row.state == State.QUEUED:
        known = []
        location.forget(tx, row.id)
    if len(known) >= MOST:
        raise BadRequest(
            f"The limit has been exceeded on the number of allowed image locations. Maximum: {MOST}"
        )
    if any(place.url == r.url for r in known):
        raise BadRequest("The location is already one of the image's.")
    if at is not None and at > len(known):
        raise BadRequest("Invalid position for adding a location.")
    values: dict[str, Any] = {"updated_at": cloud.clock.now()}
    given = place.validation_data
    if given is not None and row.state == State.QUEUED:
        check_hashes(given)
    if row.state == State.QUEUED:
        _ready(row)
        values |= {"state": State.ACTIVE, "size": size, "virtual_size": None}
        if given is not None:
            values |= {
                "checksum": given.checksum,
                "os_hash_algo": given.os_hash_algo,
                "os_hash_value": given.os_hash_value,
            }
    elif given is not None:
        _same(row, given)
    location.add(tx, row.id, check_url(cloud, place.url), place.url, place.metadata)
    if at is not None:
        location.move_last(tx, row.id, at)
    return tx.execute(sa.update(image).where(image.c.id == row.id).values(**values).returning(image)).one()


def _ready(row: Row) -> None:
    unset = [name for name in ("disk_format", "container_format") if getattr(row, name) is None]
    if unset:
        raise BadRequest(f"Properties {', '.join(unset)} must be set prior to saving data.")


def _same(row: Row, given: Hashes) -> None:
    for name in ("checksum", "os_hash_algo", "os_hash_value"):
        if getattr(given, name) not in (None, getattr(row, name)):
            raise Conflict(f"{name} already set on image {row.id}, and it is another")


def replace(tx: Tx, cloud: Cloud, caller: Caller, row: Row, places: Sequence[Mapping[str, Any]]) -> None:
    """Note other things about the locations; which they are stays. Raises Forbidden, Conflict, BadRequest."""
    _may(cloud, caller, row, "set_image_location")
    if row.state not in (State.QUEUED, State.ACTIVE):
        raise Conflict(f"It's not allowed to replace locations if image status is {row.state}.")
    known = location.of(tx, cloud, row.id)
    if known and not places:
        raise Forbidden("The last location of an image can't be removed.")
    urls = [p["url"] for p in places]
    if sorted(urls) != sorted(location.url(r) for r in known):
        raise BadRequest(
            "Locations are added and removed one by one; a replacement must name those that are there."
        )
    for r in known:
        meta = places[urls.index(location.url(r))].get("metadata") or {}
        location.note(tx, r.id, meta)


def remove(tx: Tx, cloud: Cloud, caller: Caller, row: Row, at: int) -> None:
    """Raises Forbidden (also for the last one), Conflict, BadRequest."""
    _may(cloud, caller, row, "delete_image_location")
    if row.state != State.ACTIVE or row.import_task is not None:
        raise Conflict(f"It's not allowed to remove locations if image status is {row.state}.")
    known = location.of(tx, cloud, row.id)
    if at >= len(known):
        raise BadRequest("Invalid position for removing a location.")
    if len(known) == 1:
        raise Forbidden("The last location of an image can't be removed.")
    location.remove(tx, cloud, [known[at]])


def leave(tx: Tx, cloud: Cloud, caller: Caller, name: str, image_id: str) -> None:
    """Take an image out of one of its stores; the data goes with the transaction's end.

    Raises NotFound (the store, the image, or not there), Forbidden (protected, or its last copy), Conflict.
    """
    row = owned(tx, caller, image_id, "delete_image_location")
    if name not in store.of(cloud).names:
        raise NotFound(f"The selected store {name[:64]} is not available on this node.")
    if row.protected:
        raise Forbidden(f"Image {image_id} is protected and cannot be deleted.")
    if row.import_task is not None:
        raise Conflict(f"Image {image_id} is being imported; wait until that is done.")
    if row.state not in (State.ACTIVE, State.DEACTIVATED):
        raise Conflict(
            "It's not allowed to remove locations from an image whose status is " + row.state + "."
        )
    known = location.of(tx, cloud, image_id)
    mine = [r for r in known if r.store == name]
    if not mine:
        raise NotFound(f"Image {image_id} is not stored in store {name}.")
    if len(mine) == len(known):
        raise Forbidden(f"Cannot delete image {image_id}: store {name} has its last copy.")
    location.remove(tx, cloud, mine)


def shown_to_services(tx: Tx, cloud: Cloud, caller: Caller, image_id: str) -> list[Row]:
    """The locations of an image for those who read stores themselves. Raises NotFound, Forbidden."""
    row = found(tx, image_id) if "service" in caller.roles else find(tx, caller, image_id)
    if row is None:
        raise NotFound(f"No image found with ID {image_id}")
    caller.may("fetch_image_location", target(row))
    return location.of(tx, cloud, image_id)
