"""A server's disks as asked for: what is allowed beside what, and which device name each gets."""

import json
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct, structs

from stackling.base.db import Row
from stackling.base.errors import BadRequest

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class NewDisk(Struct, frozen=True, kw_only=True):
    """One disk. `size` in GiB (a local swap disk's in MiB); `source_id` of an image, volume or snapshot."""

    source: Literal["image", "volume", "snapshot", "blank"]
    destination: Literal["local", "volume"]
    source_id: str | None = None
    boot_index: int | None = None
    size: int | None = None
    guest_format: str | None = None
    delete_on_termination: bool = False
    device: str | None = None
    volume_type: str | None = None
    tag: str | None = None


def of_image(properties: Mapping[str, Any]) -> list[NewDisk]:
    """The disks that an image names in place of data of its own: one made of a server that boots from a volume.

    Raises BadRequest for a mapping that nobody can follow.
    """
    try:
        named = json.loads(properties.get("block_device_mapping") or "[]")
        return [msgspec.convert(_named(disk), NewDisk) for disk in named if not disk.get("no_device")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise BadRequest(
            "Block Device Mapping is Invalid: the image's block_device_mapping is damaged"
        ) from None


def _named(disk: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "source": disk["source_type"],
        "destination": disk["destination_type"],
        "source_id": disk.get(f"{disk['source_type']}_id"),
        "size": disk.get("volume_size"),
        "delete_on_termination": bool(disk.get("delete_on_termination")),
        **{name: disk.get(name) for name in ("boot_index", "guest_format", "volume_type")},
    }


def over(mapped: list[NewDisk], asked: list[NewDisk]) -> list[NewDisk]:
    """What an image names, but for disks that the request itself gives the same place in the order of booting."""
    given = {d.boot_index for d in asked if d.boot_index is not None and d.boot_index >= 0}
    return [d for d in mapped if d.boot_index not in given] + asked


def root_of(planned: list[NewDisk]) -> NewDisk | None:
    return next((d for d in planned if d.boot_index == 0), None)


def plan(asked: list[NewDisk], image: Row | None) -> list[NewDisk]:
    """All disks of the server, the root disk of its image among them. Raises BadRequest."""
    found = list(asked)
    if image is not None and not any(d.boot_index == 0 for d in found):
        found.insert(
            0,
            NewDisk(
                source="image",
                destination="local",
                source_id=image.id,
                boot_index=0,
                delete_on_termination=True,
            ),
        )
    for disk in found:
        _check(disk, image)
    order = sorted(d.boot_index for d in found if d.boot_index is not None and d.boot_index >= 0)
    if order != list(range(len(order))):
        raise BadRequest(
            "Block Device Mapping is Invalid: Boot sequence for the instance and image/block device mapping combination is not valid."
        )
    root = root_of(found)
    # A volume that comes first is booted from, whatever image is named beside it.
    if (
        image is not None
        and root is not None
        and root.destination == "local"
        and not (root.source == "image" and root.source_id == image.id)
    ):
        raise BadRequest(
            "Block Device Mapping is Invalid: Boot sequence for the instance and image/block device mapping combination is not valid: imageRef and boot_index 0 disagree."
        )
    volumes = [d.source_id for d in found if d.source == "volume"]
    if len(volumes) != len(set(volumes)):
        raise BadRequest("Block Device Mapping is Invalid: a volume is named twice.")
    return found


def _check(disk: NewDisk, image: Row | None) -> None:
    says = "Block Device Mapping is Invalid: "
    if disk.source != "blank" and not disk.source_id:
        raise BadRequest(f"{says}a disk from a {disk.source} needs its uuid")
    if disk.destination == "local":
        if disk.source == "volume" or disk.source == "snapshot":
            raise BadRequest(f"{says}Mapping {disk.source} to local is not supported.")
        if disk.source == "image" and (disk.boot_index != 0 or image is None or disk.source_id != image.id):
            raise BadRequest(
                f"{says}Mapping image to local is only supported for boot_index 0 and the image in imageRef."
            )
        if disk.volume_type:
            raise BadRequest(f"{says}Specifying a volume_type with destination_type=local is not supported.")
    elif disk.guest_format == "swap":
        raise BadRequest(f"{says}Swap is a local disk.")
    if disk.source == "volume" and disk.volume_type:
        raise BadRequest(f"{says}Volume type can't be given for a volume that exists.")


def with_devices(planned: list[NewDisk], flavor: Row) -> list[NewDisk]:
    """Each with a device name; what the flavor adds (ephemeral disk, swap) comes after the root disk."""
    root = root_of(planned)
    rest = [d for d in planned if d is not root]
    given = [d for d in rest if d.destination == "local"]
    # Blank local disks in the request take the place of what the flavor gives, as upstream does.
    if flavor.ephemeral_gib and not any(d.guest_format != "swap" for d in given):
        rest.insert(
            0,
            NewDisk(
                source="blank", destination="local", size=flavor.ephemeral_gib, delete_on_termination=True
            ),
        )
    if flavor.swap_mib and not any(d.guest_format == "swap" for d in given):
        at = sum(1 for d in rest if d.destination == "local")
        rest.insert(
            at,
            NewDisk(
                source="blank",
                destination="local",
                size=flavor.swap_mib,
                guest_format="swap",
                delete_on_termination=True,
            ),
        )
    ephemeral = sum(d.size or 0 for d in rest if d.destination == "local" and d.guest_format != "swap")
    if ephemeral > flavor.ephemeral_gib:
        raise BadRequest(
            f"Ephemeral disks requested are larger than the instance type allows: {ephemeral} GiB asked for, flavor {flavor.name} has {flavor.ephemeral_gib} GiB."
        )
    swap = sum(d.size or 0 for d in rest if d.destination == "local" and d.guest_format == "swap")
    if swap > flavor.swap_mib:
        raise BadRequest(
            f"Swap drive requested is larger than instance type allows: {swap} MiB asked for, flavor {flavor.name} has {flavor.swap_mib} MiB."
        )
    names: set[str] = {"vda"}
    made = [structs.replace(root, device="vda")] if root is not None else []
    for disk in rest:
        name = next_device(names)
        names.add(name)
        made.append(structs.replace(disk, device=name))
    return made


def next_device(taken: set[str]) -> str:
    """The first free virtio name: vdb … vdz, vdaa … Raises BadRequest when a server has as many as it can have."""
    for one in LETTERS[1:]:
        if f"vd{one}" not in taken:
            return f"vd{one}"
    raise BadRequest("This server has as many disks as it can have: 26.")
