"""The protocol of a hypervisor, and the plain values that cross it.

A `Domain` says everything that a host needs; the host never asks back. Any call may be repeated, and none relies
on an earlier one: `ensure` is safe after a lost reply, a crash of the agent, of libvirtd, or of the whole host.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Literal, Protocol

from msgspec import Struct, field

from stackling.image.cache import ImageRef
from stackling.volume.driver import Connection


class HostUnavailable(Exception):
    """The host, its agent or its libvirt cannot do it now; the same call may succeed later."""


class NotReady(HostUnavailable):
    """The host is still at work on what this call needs (an image is being fetched)."""


class DeviceBusy(HostUnavailable):
    """The guest has not let go of a disk or NIC yet; the request to unplug stands."""


class DomainMissing(Exception):
    """The host has no such domain, or it is off and the call needs it running."""


class DomainFailed(Exception):
    """The host will never do this as asked; the sentence says which step failed, why, and what would fix it."""


class Power(StrEnum):
    """What the virtual machine does now."""

    ON = "on"
    PAUSED = "paused"
    OFF = "off"
    CRASHED = "crashed"


class Stopped(StrEnum):
    """Who stopped a domain that is off."""

    ASKED = "asked"  # shut_down or power_off was called, and it stopped
    GUEST = "guest"  # the guest powered itself off
    HOST = "host"  # the host went down, or its QEMU process died: nobody wanted this


class MetadataPort(Struct, frozen=True, kw_only=True):
    """A network's port for the metadata service, present on every host ("localport").

    `cidrs`: its addresses with the subnets' prefixes, such as "10.1.0.2/24".
    """

    port_id: str
    mac: str
    cidrs: tuple[str, ...] = ()


class Nic(Struct, frozen=True, kw_only=True):
    """A NIC of a domain: one port. `mtu` in bytes, `fixed_ips` are bare addresses."""

    port_id: str
    mac: str
    network_id: str
    mtu: int = 1442
    fixed_ips: tuple[str, ...] = ()
    metadata: MetadataPort | None = None


class Disk(Struct, frozen=True, kw_only=True):
    """A volume attached to a domain.

    `device` is the name in the guest, such as "vdb". The serial that the guest sees is the volume's id.
    `boot_index` 0 makes it the disk to boot from. `shared`: other guests may have it open as well.
    """

    volume_id: str
    connection: Connection
    device: str
    read_only: bool = False
    shared: bool = False
    boot_index: int | None = None


class LocalDisk(Struct, frozen=True, kw_only=True):
    """A disk that lives and dies with the domain on its host; made when it is missing. `size_mib` in MiB."""

    kind: Literal["ephemeral", "swap"]
    size_mib: int
    device: str


class GuestData(Struct, frozen=True, kw_only=True):
    """The documents that a guest reads about itself, from the metadata service or the config drive.

    Each is the newest version's; older versions are cut down from it. `ec2` is the tree under
    /latest/meta-data: a value is a string, or a dict for a directory; public keys are taken from `meta_data`.
    """

    meta_data: dict[str, Any] = field(default_factory=dict)
    network_data: dict[str, Any] = field(default_factory=dict)
    vendor_data: dict[str, Any] = field(default_factory=dict)
    vendor_data2: dict[str, Any] = field(default_factory=dict)
    ec2: dict[str, Any] = field(default_factory=dict)
    user_data: bytes | None = None


class Domain(Struct, frozen=True, kw_only=True):
    """A virtual machine as wanted.

    `memory_mib` in MiB; `root_disk_gib` in GiB, 0 for as large as the image. No `image`: it boots from the disk
    whose `boot_index` is lowest, or from the network. `running` False: it exists, and is left as on or off as
    it is. `boot_network`: the first NIC boots when no disk does. `generation`: when it differs from the one described
    before, root disk and local disks are made anew at the next start. `rescue`: boot from a disk of this image,
    with the root disk beside it; that disk is gone at the first start without.
    """

    id: str
    name: str
    vcpus: int
    memory_mib: int
    image: ImageRef | None = None
    root_disk_gib: int = 0
    root_device: str = "vda"
    local_disks: tuple[LocalDisk, ...] = ()
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    guest_data: GuestData = field(default_factory=GuestData)
    config_drive: bool = False
    running: bool = True
    boot_network: bool = False
    vnc: bool = True
    machine: str = "q35"
    cpu_model: str | None = None
    generation: int = 0
    rescue: ImageRef | None = None


class Observed(Struct, frozen=True, kw_only=True):
    """A domain as it is: `disks` are the ids of attached volumes, `nics` of plugged ports.

    `stopped` is set when it is off; None when nobody can tell. A domain stopped by the HOST wants `ensure`.
    """

    power: Power
    disks: tuple[str, ...] = ()
    nics: tuple[str, ...] = ()
    stopped: Stopped | None = None


class DiskUse(Struct, frozen=True, kw_only=True):
    """What went through a disk since the domain started. `device` is its name in the guest."""

    device: str
    read_requests: int = 0
    read_bytes: int = 0
    write_requests: int = 0
    write_bytes: int = 0
    errors: int = 0


class NicUse(Struct, frozen=True, kw_only=True):
    """What went through a NIC, as the guest sees it: received and sent. None: the host can't tell."""

    device: str
    mac: str
    rx_octets: int | None = None
    rx_packets: int | None = None
    rx_errors: int | None = None
    rx_drop: int | None = None
    tx_octets: int | None = None
    tx_packets: int | None = None
    tx_errors: int | None = None
    tx_drop: int | None = None


class Diagnostics(Struct, frozen=True, kw_only=True):
    """What a domain uses. `cpu_times` in nanoseconds by the number of the vCPU, memory in KiB."""

    power: Power
    cpu_times: dict[int, int]
    memory_kib: int
    memory_used_kib: int
    disks: tuple[DiskUse, ...] = ()
    nics: tuple[NicUse, ...] = ()


class Change(Struct, frozen=True, kw_only=True):
    """A domain's power changed; None: it went away."""

    id: str
    power: Power | None


class Changes(Struct, frozen=True, kw_only=True):
    """What happened after a cursor. `complete` False: some events were lost; look at everything."""

    cursor: str
    changes: tuple[Change, ...] = ()
    complete: bool = True


class HostInfo(Struct, frozen=True, kw_only=True):
    """A host as it is. Memory in MiB, disk in GiB, `hypervisor_version` as libvirt counts (7002000 is 7.2.0).

    `accel_reason` says why KVM is not used, in a sentence. `boot_id` changes when the host boots.
    """

    hostname: str
    vcpus: int
    memory_mib: int
    disk_gib: int
    disk_free_gib: int
    hypervisor_type: str = "QEMU"
    hypervisor_version: int = 0
    cpu: dict[str, Any] = field(default_factory=dict)
    accel: Literal["kvm", "tcg", "fake"] = "tcg"
    accel_reason: str = ""
    features: frozenset[str] = frozenset()
    boot_id: str = ""
    uptime_seconds: int = 0


Watcher = Callable[[str, Power | None], None]


class Hypervisor(Protocol):
    """The hypervisor of one host.

    Every method may raise HostUnavailable. Ids are UUIDs; anything else is DomainFailed.
    """

    def info(self) -> HostInfo:
        """The host's size, abilities and state now."""

    def ensure_image(self, image: ImageRef) -> bool:
        """The image is on the host: True. False: it is being fetched; ask again. DomainFailed: it is damaged."""

    def ensure(self, domain: Domain) -> None:
        """The domain exists as described and runs. Already so: nothing happens.

        Off: it is brought up to date and started; paused or suspended: it goes on. Running: missing disks and NICs are plugged, surplus ones are
        unplugged, and the guest's documents are rewritten; what cannot change on a running machine (vCPUs, memory,
        root disk) waits for the next start. NotReady: its image is being fetched. DeviceBusy: the guest has not let
        go of a disk yet. DomainFailed: libvirt or QEMU refuses it for good.
        """

    def remove(self, id: str) -> None:
        """The domain and its local disks and documents are gone, volumes untouched. Already gone: nothing."""

    def power(self, id: str) -> Power | None:
        """What is true now; None when the host has no such domain."""

    def observe(self) -> dict[str, Observed]:
        """All domains of this cloud on the host, by id."""

    def shut_down(self, id: str) -> None:
        """The guest is asked (ACPI) to power off; `power` tells when it did. Off or missing: nothing happens."""

    def power_off(self, id: str) -> None:
        """The domain is off, at once, as by pulling the plug, and a suspended one's memory is gone. Missing: nothing."""

    def pause(self, id: str) -> None:
        """The running machine stands still. Already so: nothing happens. DomainMissing: it does not run."""

    def suspend(self, id: str) -> bool:
        """The machine is off with its memory kept on the host's disk, from where `ensure` has it go on: True.

        False: its memory is being written; ask again. DomainMissing: it is off, and nothing was kept.
        """

    def reset(self, id: str) -> None:
        """The running machine starts again from its firmware, at once. DomainMissing: it does not run."""

    def console_log(self, id: str, lines: int | None = None) -> str:
        """The last `lines` lines of the serial console (at most 100 KiB), also when off. DomainMissing: none."""

    def diagnostics(self, id: str) -> Diagnostics:
        """What the domain uses now. DomainMissing: it does not run."""

    def password(self, id: str) -> str:
        """The encrypted password that the guest posted to the metadata service; "" for none."""

    def clear_password(self, id: str) -> None:
        """The guest's posted password is forgotten, and it may post another."""

    def holder(self, volume_id: str) -> str | None:
        """The id of the running domain that has the volume open on this host."""

    def resize_disk(self, id: str, volume_id: str, size_gib: int) -> None:
        """The attached volume is `size_gib` GiB large and the running guest knows. DomainMissing: not attached."""

    def copy_disk(self, id: str, volume_id: str, path: str) -> bool:
        """A point-in-time copy of the attached volume is complete in the qcow2 file `path`: True.

        False: it is being copied; ask again with the same arguments. DomainMissing: not attached.
        """

    def export_disk(self, id: str, image_id: str) -> bool:
        """A point-in-time copy of the root disk, whole in itself, is an export of this host as qcow2: True.

        False: it is being copied; ask again with the same arguments. Also of a domain that is off. DomainMissing:
        the host has no such domain. DomainFailed: it has no root disk of its own.
        """

    def changes(self, after: str = "", wait: float = 0.0) -> Changes:
        """The power changes after the cursor, waiting up to `wait` seconds for one; "" starts from now."""

    def watch(self, callback: Watcher) -> Callable[[], None]:
        """Call `callback(id, power)` on each change from a thread of the driver's; the result ends that.

        A change may be told twice or late; `observe` is the truth.
        """


def instance_name(id: str) -> str:
    """The name of the libvirt domain."""
    return f"instance-{id}"


def tap_name(port_id: str) -> str:
    """The name of the tap device of a port (Linux allows 15 characters)."""
    return f"tap{port_id[:11]}"


def check_id(id: str) -> str:
    """The id, when it is a UUID: ids become file names on a host. DomainFailed: it is something else."""
    try:
        if str(uuid.UUID(id)) == id:
            return id
    except ValueError:
        pass
    raise DomainFailed(f"{id[:64]!r} is not the id of a domain: ids are UUIDs in lower case with dashes")


def last_lines(text: str, lines: int | None) -> str:
    """The last `lines` lines; all of it for None; nothing for 0 or less."""
    if lines is None:
        return text
    return "".join(text.splitlines(keepends=True)[-lines:]) if lines > 0 else ""
