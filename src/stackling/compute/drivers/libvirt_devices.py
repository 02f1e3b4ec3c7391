"""What is done to the devices of a running domain: plugging, unplugging, measuring, copying a disk."""

from __future__ import annotations

import os
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import libvirt
import structlog

from stackling.compute.driver import DeviceBusy, DiskUse, DomainFailed, NicUse
from stackling.compute.drivers.domain_xml import Devices, devices_of, target_of

log = structlog.get_logger(__name__)

UNPLUG_SECONDS = 3.0
POLL_SECONDS = 0.05


def disk_use(found: libvirt.virDomain) -> tuple[DiskUse, ...]:
    """What went through each disk of the running domain."""
    made = []
    for element in ET.fromstring(found.XMLDesc(0)).iterfind("./devices/disk"):
        device = target_of(element)
        read_requests, read_bytes, write_requests, write_bytes, errors = found.blockStats(device)
        made.append(
            DiskUse(
                device=device,
                read_requests=read_requests,
                read_bytes=read_bytes,
                write_requests=write_requests,
                write_bytes=write_bytes,
                errors=max(0, errors),  # -1: QEMU does not count them
            )
        )
    return tuple(made)


def nic_use(found: libvirt.virDomain) -> tuple[NicUse, ...]:
    """What went through each NIC of the running domain."""
    made = []
    for element in ET.fromstring(found.XMLDesc(0)).iterfind("./devices/interface"):
        device, mac = target_of(element), element.find("mac")
        address = "" if mac is None else mac.get("address", "")
        try:
            counted = [n if n >= 0 else None for n in found.interfaceStats(device)]
        except libvirt.libvirtError as error:
            log.info("domain.interface_stats", device=device, error=str(error))
            counted = [None] * 8
        names = [f"{way}_{what}" for way in ("rx", "tx") for what in ("octets", "packets", "errors", "drop")]
        made.append(NicUse(device=device, mac=address, **dict(zip(names, counted, strict=True))))
    return tuple(made)


def plug(found: libvirt.virDomain, element: ET.Element) -> None:
    """The running domain gets the device."""
    found.attachDeviceFlags(ET.tostring(element, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)


def unplug(found: libvirt.virDomain, surplus: list[ET.Element]) -> None:
    """The running domain lets go of the devices. DeviceBusy: not yet, but it was asked."""
    if not surplus:
        return
    names = {target_of(element) for element in surplus}
    for element in surplus:
        try:
            found.detachDeviceAlias(_alias(element), libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except libvirt.libvirtError as error:
            # The guest has been asked before, and QEMU says so with a plain failure.
            if error.get_error_code() in (libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_NO_DOMAIN):
                raise
            log.info("domain.unplug", id=found.UUIDString(), error=str(error))
    limit = time.monotonic() + UNPLUG_SECONDS
    while names & (left := _targets(devices_of(found.XMLDesc(0)))):
        if time.monotonic() > limit:
            raise DeviceBusy(
                f"The guest has not let go of {', '.join(sorted(names & left))} yet; "
                "a guest that is still booting or hangs cannot"
            )
        time.sleep(POLL_SECONDS)


def copy_disk(found: libvirt.virDomain, device: str, target: Path, part: Path | None = None) -> None:
    """A push backup: what the disk held at the moment of the call, whatever the guest writes meanwhile."""
    if target.exists():
        return
    part = part or target.with_name(target.name + ".part")
    try:
        part.unlink(missing_ok=True)
        found.backupBegin(_backup_xml(found.XMLDesc(0), device, part), None)
    except libvirt.libvirtError as error:
        if found.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
            raise DeviceBusy("Another copy or backup of this server is running") from error
        raise
    while found.jobStats().get("type", 0) != libvirt.VIR_DOMAIN_JOB_NONE:
        time.sleep(POLL_SECONDS)
    result = found.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    if result.get("type") != libvirt.VIR_DOMAIN_JOB_COMPLETED:
        part.unlink(missing_ok=True)
        raise DomainFailed(f"The copy failed: {result.get('errmsg', 'QEMU gave no reason')}")
    os.chown(part, 0, 0)
    part.chmod(0o600)
    part.rename(target)


def unless_so_already(act: Callable[[], object]) -> None:
    """It may stop, or go on, by itself between the look and the act."""
    try:
        act()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):
            raise


def _alias(element: ET.Element) -> str:
    alias = element.find("alias")
    return "" if alias is None else alias.get("name", "")


def _targets(devices: Devices) -> set[str]:
    return {target_of(element) for element in (*devices.disks.values(), *devices.nics.values())}


def _backup_xml(live: str, device: str, target: Path) -> str:
    root = ET.Element("domainbackup", mode="push")
    disks = ET.SubElement(root, "disks")
    for element in ET.fromstring(live).iterfind("./devices/disk"):
        name = target_of(element)
        if name != device:
            ET.SubElement(disks, "disk", name=name, backup="no")
            continue
        disk = ET.SubElement(disks, "disk", name=name, type="file", backup="yes")
        ET.SubElement(disk, "target", file=str(target))
        ET.SubElement(disk, "driver", type="qcow2")
    return ET.tostring(root, encoding="unicode")
