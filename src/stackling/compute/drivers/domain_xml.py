"""The libvirt XML of a domain, and what can be read back from a running one's.

Everything is built as a tree, so no name or path can smuggle in an element. What each odd line is for:
`host csum='off'`: the userspace datapath reads taps without the virtio header, so TCP with partial checksums
hangs; `tb-cache`: QEMU's translation cache otherwise grows to 1/4 of guest RAM and more; root ports: libvirt
leaves only one free for hot-plugging.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, structs

from stackling.compute.driver import (
    Disk,
    Domain,
    DomainFailed,
    LocalDisk,
    Nic,
    check_id,
    instance_name,
    tap_name,
)

NAMESPACE = "https://stackling.dev/xmlns/libvirt/domain/1"
ROOT_PORTS = 16
TCG_CACHE_MIB = 32
# Fixed and old enough for any host, so that a domain can move between hosts.
TCG_CPU = "Nehalem"
BOOT_LAST = 99
CONFIG_DRIVE_DEVICE = "vdz"
RESCUED_DEVICE = "vdy"  # the root disk of a domain that is being rescued

ET.register_namespace("stackling", NAMESPACE)


class Files(Struct, frozen=True, kw_only=True):
    """Where a domain's own files are on this host."""

    root: Path
    base: Path | None
    base_format: Literal["qcow2", "raw"]
    rescue: Path | None = None
    rescue_base: Path | None = None
    rescue_format: Literal["qcow2", "raw"] = "qcow2"
    local: dict[str, Path]
    config_drive: Path | None
    console_socket: Path
    console_log: Path
    agent_socket: Path


def domain_xml(domain: Domain, files: Files, accel: Literal["kvm", "tcg"], bridge: str | None) -> str:
    """The domain as libvirt wants it. `bridge` is the integration bridge; None leaves out all NICs."""
    root = ET.Element("domain", type="kvm" if accel == "kvm" else "qemu")
    _text(root, "name", instance_name(domain.id))
    _text(root, "uuid", domain.id)
    _text(root, "title", _printable(domain.name))
    ET.SubElement(ET.SubElement(root, "metadata"), f"{{{NAMESPACE}}}instance", id=domain.id)
    _text(root, "memory", str(domain.memory_mib), unit="MiB")
    _text(root, "vcpu", str(domain.vcpus), placement="static")
    _firmware(root, domain)
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if accel == "tcg":
        _text(ET.SubElement(features, "tcg"), "tb-cache", str(TCG_CACHE_MIB), unit="MiB")
    _cpu(root, domain, accel)
    ET.SubElement(root, "clock", offset="utc")
    for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        _text(root, f"on_{event}", action)
    devices = ET.SubElement(root, "devices")
    _text(devices, "emulator", "/usr/bin/qemu-system-x86_64")
    if domain.machine.startswith(("q35", "pc-q35")):
        for index in range(ROOT_PORTS):
            ET.SubElement(devices, "controller", type="pci", model="pcie-root-port", index=str(index + 1))
    ET.SubElement(devices, "controller", type="usb", model="none")
    if files.rescue is not None:
        # In the root disk's place, so that a rescue system finds itself first even if both are of one image.
        devices.append(_overlay(files.rescue, files.rescue_base, files.rescue_format, domain.root_device))
    if domain.image is not None:
        device = RESCUED_DEVICE if files.rescue is not None else domain.root_device
        devices.append(_overlay(files.root, files.base, files.base_format, device))
    for local in domain.local_disks:
        devices.append(_local_disk(local, files.local[local.device]))
    for disk in domain.disks:
        if files.rescue is not None and disk.device == domain.root_device:
            disk = structs.replace(disk, device=RESCUED_DEVICE)
        devices.append(disk_element(disk))
    if files.config_drive is not None:
        devices.append(_config_drive(files.config_drive))
    if bridge is not None:
        for place, nic in enumerate(domain.nics):
            boot_order = BOOT_LAST if domain.boot_network and place == 0 else None
            devices.append(nic_element(nic, bridge, boot_order))
    _consoles(devices, domain, files)
    return ET.tostring(root, encoding="unicode")


def check(domain: Domain) -> None:
    """What becomes part of a path or of the XML is what it claims to be. DomainFailed: it is not."""
    for id in (domain.id, *(disk.volume_id for disk in domain.disks), *(nic.port_id for nic in domain.nics)):
        check_id(id)
    for image in (domain.image, domain.rescue):
        if image is not None:
            check_id(image.id)
    devices = [disk.device for disk in domain.disks] + [disk.device for disk in domain.local_disks]
    for device in (domain.root_device, *devices):
        if not (device.isalnum() and device.isascii() and len(device) <= 8):
            raise DomainFailed(f"{device[:32]!r} is not the name of a disk, such as vdb")


def disk_element(disk: Disk) -> ET.Element:
    """A volume as a virtio disk. The guest sees the first 20 characters of the serial."""
    if disk.connection.kind != "file":
        raise DomainFailed(f"Volume {disk.volume_id} is not a file: this host cannot open it")
    element = _file_disk(disk.connection.path, disk.connection.format, disk.device)
    ET.SubElement(element, "backingStore")
    if disk.read_only:
        ET.SubElement(element, "readonly")
    if disk.shared:
        ET.SubElement(element, "shareable")
    _text(element, "serial", disk.volume_id)
    if disk.boot_index is not None:
        ET.SubElement(element, "boot", order=str(disk.boot_index + 2))
    return element


def nic_element(nic: Nic, bridge: str, boot_order: int | None = None) -> ET.Element:
    """A port as a tap on the integration bridge; OVN binds it by the `interfaceid`."""
    element = ET.Element("interface", type="bridge")
    ET.SubElement(element, "mac", address=nic.mac)
    ET.SubElement(element, "source", bridge=bridge)
    virtual_port = ET.SubElement(element, "virtualport", type="openvswitch")
    ET.SubElement(virtual_port, "parameters", interfaceid=nic.port_id)
    ET.SubElement(element, "target", dev=tap_name(nic.port_id))
    ET.SubElement(element, "model", type="virtio")
    ET.SubElement(ET.SubElement(element, "driver", name="qemu"), "host", csum="off")
    ET.SubElement(element, "mtu", size=str(nic.mtu))
    if boot_order is not None:
        ET.SubElement(element, "boot", order=str(boot_order))
    else:
        # Without its boot ROM a NIC costs less memory, and the firmware does not look at it.
        ET.SubElement(element, "rom", enabled="no")
    return element


class Devices(Struct, frozen=True, kw_only=True):
    """The hot-pluggable devices of a live domain: volume id → its element, port id → its element."""

    disks: dict[str, ET.Element]
    nics: dict[str, ET.Element]


def devices_of(xml: str) -> Devices:
    """Read back which volumes and ports a domain has."""
    tree = ET.fromstring(xml)
    disks, nics = {}, {}
    for element in tree.iterfind("./devices/disk"):
        if (serial := element.findtext("serial")) and element.get("device") == "disk":
            disks[serial] = element
    for element in tree.iterfind("./devices/interface"):
        parameters = element.find("./virtualport/parameters")
        if parameters is not None and (port_id := parameters.get("interfaceid")):
            nics[port_id] = element
    return Devices(disks=disks, nics=nics)


def target_of(element: ET.Element) -> str:
    """The target device name of a disk or interface element, such as "vdb"."""
    target = element.find("target")
    return "" if target is None else target.get("dev", "")


def source_of(element: ET.Element) -> str:
    """The file that a disk element opens."""
    source = element.find("source")
    return "" if source is None else source.get("file", "")


def _firmware(root: ET.Element, domain: Domain) -> None:
    element = ET.SubElement(root, "os")
    _text(element, "type", "hvm", arch="x86_64", machine=domain.machine)
    ET.SubElement(element, "smbios", mode="sysinfo")
    info = ET.SubElement(root, "sysinfo", type="smbios")
    system = ET.SubElement(info, "system")
    # cloud-init finds its data source by this product name.
    for name, value in (
        ("manufacturer", "Stackling"),
        ("product", "OpenStack Compute"),
        ("serial", domain.id),
        ("uuid", domain.id),
        ("family", "Virtual Machine"),
    ):
        _text(system, "entry", value, name=name)


def _cpu(root: ET.Element, domain: Domain, accel: str) -> None:
    if domain.cpu_model is None and accel == "kvm":
        cpu = ET.SubElement(root, "cpu", mode="host-model", check="partial")
    else:
        cpu = ET.SubElement(root, "cpu", mode="custom", match="exact", check="none")
        _text(cpu, "model", domain.cpu_model or TCG_CPU, fallback="forbid")
    ET.SubElement(cpu, "topology", sockets=str(domain.vcpus), cores="1", threads="1")


def _overlay(path: Path, base: Path | None, base_format: str, device: str) -> ET.Element:
    element = _file_disk(str(path), "qcow2", device)
    if base is None:
        ET.SubElement(element, "backingStore")
    else:
        # The chain is written out, so that nothing is ever probed.
        backing = ET.SubElement(element, "backingStore", type="file")
        ET.SubElement(backing, "format", type=base_format)
        source = ET.SubElement(backing, "source", file=str(base))
        # The base is everyone's: QEMU's user may read it, but must not come to own it.
        ET.SubElement(source, "seclabel", model="dac", relabel="no")
        ET.SubElement(backing, "backingStore")
    if device != RESCUED_DEVICE:
        ET.SubElement(element, "boot", order="1")
    return element


def _local_disk(disk: LocalDisk, path: Path) -> ET.Element:
    element = _file_disk(str(path), "raw", disk.device)
    ET.SubElement(element, "backingStore")
    return element


def _file_disk(path: str, image_format: str, device: str) -> ET.Element:
    element = ET.Element("disk", type="file", device="disk")
    ET.SubElement(
        element, "driver", name="qemu", type=image_format, cache="none", io="threads", discard="unmap"
    )
    ET.SubElement(element, "source", file=path)
    ET.SubElement(element, "target", dev=device, bus="virtio")
    return element


def _config_drive(path: Path) -> ET.Element:
    # A virtio disk and no CD-ROM: kernels made for clouds often have no driver for SATA.
    element = _file_disk(str(path), "raw", CONFIG_DRIVE_DEVICE)
    ET.SubElement(element, "backingStore")
    ET.SubElement(element, "readonly")
    return element


def _consoles(devices: ET.Element, domain: Domain, files: Files) -> None:
    serial = ET.SubElement(devices, "serial", type="unix")
    ET.SubElement(serial, "source", mode="bind", path=str(files.console_socket))
    ET.SubElement(serial, "log", file=str(files.console_log), append="on")
    ET.SubElement(serial, "target", port="0")
    channel = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(channel, "source", mode="bind", path=str(files.agent_socket))
    ET.SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    if domain.vnc:
        graphics = ET.SubElement(
            devices, "graphics", type="vnc", port="-1", autoport="yes", listen="127.0.0.1"
        )
        ET.SubElement(graphics, "listen", type="address", address="127.0.0.1")
        video = ET.SubElement(devices, "video")
        ET.SubElement(video, "model", type="vga", vram="16384", heads="1", primary="yes")
    ET.SubElement(devices, "memballoon", model="virtio", freePageReporting="on")
    rng = ET.SubElement(devices, "rng", model="virtio")
    _text(rng, "backend", "/dev/urandom", model="random")


def _text(parent: ET.Element, tag: str, text: str, **attributes: Any) -> ET.Element:
    element = ET.SubElement(parent, tag, {name: str(value) for name, value in attributes.items()})
    element.text = text
    return element


def _printable(name: str) -> str:
    """XML 1.0 has no place for control characters, and libvirt none for line breaks in a title."""
    return "".join(char if char.isprintable() else " " for char in name).strip() or "server"
