"""The metadata definitions that every cloud has from its first start: what clients may offer users to choose from.

Names and values are those that OpenStack's compute and image services know; `load` writes them once.
"""

from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import db, ids
from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.image.state.metadef import (
    Visibility,
    metadef_association,
    metadef_namespace,
    metadef_property,
    metadef_resource_type,
)

IMAGE, FLAVOR, SERVER = "OS::Glance::Image", "OS::Nova::Flavor", "OS::Nova::Server"
AGGREGATE, VOLUME = "OS::Nova::Aggregate", "OS::Cinder::Volume"
OWNER = "admin"  # what upstream's own definitions name; no project has this id
RESOURCE_TYPES = (AGGREGATE, FLAVOR, IMAGE, SERVER, VOLUME)


class Standard(Struct, frozen=True):
    """A namespace: `about` holds (kind of resource, prefix, properties target)."""

    name: str
    title: str
    description: str
    about: tuple[tuple[str, str | None, str | None], ...]
    properties: dict[str, dict[str, Any]]


def _text(title: str, description: str, *values: str, **more: Any) -> dict[str, Any]:
    chosen = {"enum": list(values)} if values else {}
    return {"title": title, "description": description, "type": "string", **chosen, **more}


def _number(title: str, description: str, least: int = 1) -> dict[str, Any]:
    return {"title": title, "description": description, "type": "integer", "minimum": least}


def _yes_no(title: str, description: str) -> dict[str, Any]:
    return {"title": title, "description": description, "type": "boolean"}


_OF_IMAGES = ((IMAGE, None, None), (VOLUME, None, "image"))
_HARDWARE = ((IMAGE, "hw_", None), (VOLUME, "hw_", "image"), (FLAVOR, "hw:", None))

STANDARD = (
    Standard(
        "OS::OperatingSystem",
        "Operating system",
        "What system an image holds.",
        _OF_IMAGES,
        {
            "os_type": _text("Kind", "Kind of operating system.", "linux", "windows"),
            "os_distro": _text(
                "Distribution", "Short name of the distribution in lower case, such as debian."
            ),
            "os_version": _text("Version", "Version as its maker writes it."),
            "os_admin_user": _text("Administrator", "Name of the user that an initial password is for."),
        },
    ),
    Standard(
        "OS::Compute::LibvirtImage",
        "Virtual hardware",
        "Devices that a server made from the image gets.",
        _OF_IMAGES,
        {
            "hw_architecture": _text(
                "Architecture", "Processor architecture.", "x86_64", "aarch64", "ppc64le", "s390x"
            ),
            "hw_machine_type": _text("Machine type", "Machine that QEMU emulates.", "pc", "q35", "virt"),
            "hw_firmware_type": _text("Firmware", "What starts the system.", "bios", "uefi"),
            "hw_disk_bus": _text(
                "Disk bus", "Where disks are attached.", "virtio", "scsi", "sata", "ide", "usb"
            ),
            "hw_cdrom_bus": _text(
                "CD-ROM bus", "Where CD-ROMs are attached.", "sata", "ide", "scsi", "virtio"
            ),
            "hw_vif_model": _text(
                "Network card", "Network card that is emulated.", "virtio", "e1000", "e1000e", "rtl8139"
            ),
            "hw_video_model": _text(
                "Video card", "Video card that is emulated.", "virtio", "vga", "cirrus", "qxl", "none"
            ),
            "hw_rng_model": _text("Random numbers", "Device that gives random numbers.", "virtio"),
            "hw_rescue_device": _text("Rescue device", "What a rescue disk appears as.", "disk", "cdrom"),
            "hw_rescue_bus": _text(
                "Rescue bus", "Where a rescue disk is attached.", "virtio", "scsi", "sata", "ide", "usb"
            ),
            "hw_qemu_guest_agent": _yes_no("Guest agent", "The system runs the QEMU guest agent."),
            "os_require_quiesce": _yes_no("Quiesce", "Snapshots are taken only with file systems frozen."),
        },
    ),
    Standard(
        "OS::Compute::VirtCPUTopology",
        "Processor topology",
        "How virtual processors are shown to the system.",
        _HARDWARE,
        {
            "cpu_sockets": _number("Sockets", "Sockets preferred."),
            "cpu_cores": _number("Cores", "Cores a socket preferred."),
            "cpu_threads": _number("Threads", "Threads a core preferred."),
            "cpu_max_sockets": _number("Most sockets", "Sockets at most."),
            "cpu_max_cores": _number("Most cores", "Cores a socket at most."),
            "cpu_max_threads": _number("Most threads", "Threads a core at most."),
        },
    ),
    Standard(
        "OS::Compute::CPUPinning",
        "Processor pinning",
        "Whether virtual processors have host processors to themselves.",
        _HARDWARE,
        {
            "cpu_policy": _text(
                "Policy", "Host processors are shared or dedicated.", "shared", "dedicated", "mixed"
            ),
            "cpu_thread_policy": _text(
                "Thread policy", "Use of hyperthreads.", "prefer", "isolate", "require"
            ),
        },
    ),
    Standard(
        "OS::Compute::Watchdog",
        "Watchdog",
        "What happens when a server's system hangs.",
        _HARDWARE,
        {
            "watchdog_action": _text(
                "Action", "Taken when the watchdog fires.", "disabled", "reset", "poweroff", "pause", "none"
            )
        },
    ),
    Standard(
        "OS::Compute::Quota",
        "Limits of a server",
        "How much of a host a server may use.",
        ((FLAVOR, "quota:", None),),
        {
            "cpu_shares": _number("CPU shares", "Weight against other servers of the host.", 2),
            "cpu_quota": _number("CPU quota", "Microseconds of processor time a period.", -1),
            "cpu_period": _number("CPU period", "Microseconds of a period.", 1000),
            "disk_read_bytes_sec": _number("Disk reading", "Bytes read a second.", 0),
            "disk_write_bytes_sec": _number("Disk writing", "Bytes written a second.", 0),
            "disk_total_iops_sec": _number("Disk operations", "Operations a second.", 0),
            "vif_inbound_average": _number("Network in", "KiB received a second.", 0),
            "vif_outbound_average": _number("Network out", "KiB sent a second.", 0),
        },
    ),
)


def load(tx: Tx, cloud: Cloud) -> None:
    """Write the standard definitions, public and protected, at the very first start only."""
    db.lock(tx, "image:definitions")
    # Kinds of resources are never deleted, so they tell whether this was done; what admins delete stays deleted.
    if tx.execute(sa.select(metadef_resource_type.c.name)).first():
        return
    now = cloud.clock.now()
    times = {"created_at": now, "updated_at": now}
    tx.execute(sa.insert(metadef_resource_type), [{"name": name, **times} for name in RESOURCE_TYPES])
    about: list[dict[str, Any]] = []
    properties: list[dict[str, Any]] = []
    for standard in STANDARD:
        id = ids.uuid4()
        tx.execute(
            sa.insert(metadef_namespace).values(
                id=id,
                project_id=OWNER,
                name=standard.name,
                display_name=standard.title,
                description=standard.description,
                visibility=Visibility.PUBLIC,
                protected=True,
                **times,
            )
        )
        for kind, prefix, target in standard.about:
            about.append(
                {
                    "namespace_id": id,
                    "resource_type": kind,
                    "prefix": prefix,
                    "properties_target": target,
                    **times,
                }
            )
        for name, schema in standard.properties.items():
            properties.append(
                {"id": ids.uuid4(), "namespace_id": id, "name": name, "schema": schema, **times}
            )
    tx.execute(sa.insert(metadef_association), about)
    tx.execute(sa.insert(metadef_property), properties)
