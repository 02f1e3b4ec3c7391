"""The hypervisor of this host: QEMU under libvirt.

Domains are defined (persistent), so libvirt keeps them over its own restarts and the host's; their state is
libvirt's, and the few facts that it forgets (who stopped a domain) are files beside the disks.
Nothing starts by itself after a host's boot: the control plane sees `Stopped.HOST` and ensures what it wants,
for it alone knows whether the server meanwhile runs elsewhere.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import libvirt
import msgspec
import structlog

from stackling.base.background import Background
from stackling.compute.driver import (
    Changes,
    Diagnostics,
    Domain,
    DomainFailed,
    DomainMissing,
    HostInfo,
    HostUnavailable,
    NotReady,
    Observed,
    Power,
    Stopped,
    Watcher,
    check_id,
    instance_name,
    last_lines,
)
from stackling.compute.drivers.domain_xml import (
    RESCUED_DEVICE,
    check,
    devices_of,
    disk_element,
    domain_xml,
    nic_element,
    target_of,
)
from stackling.compute.drivers.feed import Feed
from stackling.compute.drivers.instance_files import GIB, InstanceFiles
from stackling.compute.drivers.libvirt_connection import LibvirtConnection
from stackling.compute.drivers.libvirt_devices import (
    POLL_SECONDS,
    copy_disk,
    disk_use,
    nic_use,
    plug,
    unless_so_already,
    unplug,
)
from stackling.image.cache import ImageCache, ImageDamaged, ImageRef
from stackling.image.export import ExportedFiles

log = structlog.get_logger(__name__)

PREFIX = instance_name("")
STOPPING_SECONDS = 1.0
_POWER = {
    libvirt.VIR_DOMAIN_RUNNING: Power.ON,
    libvirt.VIR_DOMAIN_BLOCKED: Power.ON,
    libvirt.VIR_DOMAIN_SHUTDOWN: Power.ON,
    libvirt.VIR_DOMAIN_PAUSED: Power.PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: Power.PAUSED,
    libvirt.VIR_DOMAIN_SHUTOFF: Power.OFF,
    libvirt.VIR_DOMAIN_CRASHED: Power.CRASHED,
}
_EVENT_POWER = {
    libvirt.VIR_DOMAIN_EVENT_STARTED: Power.ON,
    libvirt.VIR_DOMAIN_EVENT_RESUMED: Power.ON,
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: Power.PAUSED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED: Power.OFF,
    libvirt.VIR_DOMAIN_EVENT_CRASHED: Power.CRASHED,
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: None,
}
_UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)


class LibvirtHypervisor:
    """See `compute.driver.Hypervisor`.

    `accel` is what was found to work; `bridge` the integration bridge, None on a host without networking.
    """

    def __init__(
        self,
        state_dir: Path,
        run_dir: Path,
        images: ImageCache,
        images_dir: Path,
        *,
        accel: Literal["kvm", "tcg"],
        accel_reason: str = "",
        bridge: str | None = "br-int",
        uri: str = "qemu:///system",
        hostname: str | None = None,
        exports: ExportedFiles | None = None,
    ) -> None:
        self._state_dir = state_dir
        self._exports = exports or ExportedFiles(state_dir / "exports")
        self._images = images
        self._files = InstanceFiles(state_dir, run_dir, images_dir)
        self._accel: Literal["kvm", "tcg"] = accel
        self._accel_reason = accel_reason
        self._bridge = bridge
        self._hostname = hostname or socket.gethostname()
        self._feed = Feed()
        self._last: dict[str, Power | None] = {}
        self._told = threading.RLock()
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        images.used_by = self._used_images
        self._copies = Background("copy")
        self._capabilities: dict[str, Any] | None = None
        self._libvirt = LibvirtConnection(uri, self._on_lifecycle, self._after_reconnect)

    def close(self) -> None:
        """Let go of libvirtd. Guests go on."""
        self._libvirt.close()

    # facts

    def info(self) -> HostInfo:
        with self._asking("The host's facts"):
            conn = self._libvirt.get()
            if self._capabilities is None:
                self._capabilities = _cpu_of(conn.getCapabilities())
            version = conn.getVersion()
        self._state_dir.mkdir(parents=True, exist_ok=True)
        disk = os.statvfs(self._state_dir)
        return HostInfo(
            hostname=self._hostname,
            vcpus=os.cpu_count() or 1,
            memory_mib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
            disk_gib=disk.f_blocks * disk.f_frsize // GIB,
            disk_free_gib=disk.f_bavail * disk.f_frsize // GIB,
            hypervisor_version=version,
            cpu=self._capabilities,
            accel=self._accel,
            accel_reason=self._accel_reason,
            features=frozenset({"hotplug", "config_drive", "live_snapshot"}),
            boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            uptime_seconds=int(float(Path("/proc/uptime").read_text().split()[0])),
        )

    def power(self, id: str) -> Power | None:
        with self._asking(f"Domain {check_id(id)}"):
            found = self._find(id)
            if found is None:
                return Power.OFF if self._files.known(id) else None
            return _POWER.get(found.state()[0], Power.OFF)

    def observe(self) -> dict[str, Observed]:
        # Files that libvirt knows nothing of are a domain too, begun or half removed.
        seen = {id: Observed(power=Power.OFF, stopped=Stopped.HOST) for id in self._files.ids()}
        with self._asking("The list of domains"):
            for domain in self._libvirt.get().listAllDomains(0):
                if domain.name().startswith(PREFIX):
                    try:
                        seen[domain.UUIDString()] = self._observed(domain)
                    except libvirt.libvirtError as error:
                        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                            raise
        return seen

    def console_log(self, id: str, lines: int | None = None) -> str:
        text = self._files.console_log(check_id(id))
        if text is None:
            raise DomainMissing(f"No console of domain {id} on {self._hostname}: it was never started here")
        return last_lines(text, lines)

    def diagnostics(self, id: str) -> Diagnostics:
        with self._asking(f"Measuring domain {check_id(id)}"):
            found = self._running(id)
            memory, used = found.info()[1:3]
            return Diagnostics(
                power=_POWER.get(found.state()[0], Power.OFF),
                cpu_times={number: time for number, _, time, *_ in found.vcpus()[0]},
                memory_kib=memory,
                memory_used_kib=used,
                disks=disk_use(found),
                nics=nic_use(found),
            )

    def password(self, id: str) -> str:
        try:
            return self._files.password_file(check_id(id)).read_text()
        except OSError:
            return ""

    def clear_password(self, id: str) -> None:
        self._files.password_file(check_id(id)).unlink(missing_ok=True)

    def password_file(self, id: str) -> Path:
        """Where the metadata service keeps the password that the guest posts."""
        return self._files.password_file(check_id(id))

    def descriptions(self) -> Iterator[Domain]:
        """All domains of this host as they were last described, also after the agent's restart."""
        return self._files.descriptions()

    def holder(self, volume_id: str) -> str | None:
        for id, observed in self.observe().items():
            if observed.power is not Power.OFF and volume_id in observed.disks:
                return id
        return None

    def changes(self, after: str = "", wait: float = 0.0) -> Changes:
        return self._feed.changes(after, wait)

    def watch(self, callback: Watcher) -> Callable[[], None]:
        return self._feed.watch(callback)

    # wishes

    def ensure_image(self, image: ImageRef) -> bool:
        try:
            return self._images.ensure(image)
        except ImageDamaged as error:
            raise DomainFailed(str(error)) from error
        except OSError as error:
            raise HostUnavailable(f"Image {image.id} is not to be had: {error}") from error

    def ensure(self, domain: Domain) -> None:
        check(domain)
        with self._locks[domain.id], self._asking("The domain"):
            found = self._find(domain.id)
            if found is not None and found.isActive() and not self._is_stopping(found, domain):
                self._reconcile(found, domain)
            else:
                self._bring_up(domain)

    def remove(self, id: str) -> None:
        with self._locks[check_id(id)], self._asking("Removing the domain"):
            found = self._find(id)
            if found is not None:
                self._files.mark_stopped(id, Stopped.ASKED)
                if found.isActive():
                    unless_so_already(found.destroy)
                if found.isPersistent():
                    found.undefineFlags(_UNDEFINE)
            try:
                self._files.remove(id)
            except OSError as error:
                raise HostUnavailable(f"The files of domain {id} could not be removed: {error}") from error

    def shut_down(self, id: str) -> None:
        with self._locks[check_id(id)], self._asking("Shutting down"):
            found = self._find(id)
            if found is not None and found.isActive():
                self._files.mark_stopped(id, Stopped.ASKED)
                unless_so_already(lambda: found.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN))

    def power_off(self, id: str) -> None:
        with self._locks[check_id(id)], self._asking("Powering off"):
            found = self._find(id)
            if found is not None and found.isActive():
                self._files.mark_stopped(id, Stopped.ASKED)
                unless_so_already(found.destroy)
            if found is not None and found.hasManagedSaveImage():
                found.managedSaveRemove()

    def pause(self, id: str) -> None:
        with self._locks[check_id(id)], self._asking("Pausing"):
            found = self._running(id)
            if found.state()[0] != libvirt.VIR_DOMAIN_PAUSED:
                unless_so_already(found.suspend)

    def suspend(self, id: str) -> bool:
        with self._locks[check_id(id)], self._asking("Suspending"):
            found = self._find(id)
            if found is not None and not found.isActive() and found.hasManagedSaveImage():
                return True
            found = self._running(id)
            self._files.mark_stopped(id, Stopped.ASKED)
            return self._copies.run(f"suspend-{id}", lambda: self._save(found))

    def _save(self, found: libvirt.virDomain) -> None:
        try:
            unless_so_already(found.managedSave)
        except libvirt.libvirtError:
            self._files.mark_stopped(found.UUIDString(), None)
            raise

    def reset(self, id: str) -> None:
        with self._locks[check_id(id)], self._asking("Resetting"):
            self._running(id).reset()

    def resize_disk(self, id: str, volume_id: str, size_gib: int) -> None:
        with self._asking(f"Resizing volume {volume_id}"):
            found = self._running(id)
            device = self._target(found, volume_id)
            if found.blockInfo(device)[0] < size_gib * GIB:
                found.blockResize(device, size_gib * GIB, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)

    def copy_disk(self, id: str, volume_id: str, path: str) -> bool:
        target = Path(path)
        if target.exists() and target.name not in self._copies.running():
            return True
        with self._asking(f"Copying volume {volume_id}"):
            found = self._running(id)
            device = self._target(found, volume_id)
            return self._copies.run(target.name, lambda: copy_disk(found, device, target))

    def export_disk(self, id: str, image_id: str) -> bool:
        target, part = self._exports.path(check_id(image_id)), self._exports.part(image_id)
        if target.exists() and image_id not in self._copies.running():
            return True
        with self._asking(f"Copying the disk of domain {check_id(id)}"):
            domain, found = self._files.description(id), self._find(id)
            if domain is None or found is None:
                raise DomainMissing(f"Domain {id} is not on {self._hostname}")
            root = self._files.files(domain).root
            if domain.image is None or not root.exists():
                raise DomainFailed(f"Domain {id} has no root disk of its own")
            if found.isActive():
                device = RESCUED_DEVICE if domain.rescue else domain.root_device
                return self._copies.run(image_id, lambda: copy_disk(found, device, target, part))
            return self._copies.run(image_id, lambda: self._files.copy_root(root, target, part))

    # inside

    @contextmanager
    def _asking(self, step: str) -> Iterator[None]:
        try:
            yield
        except libvirt.libvirtError as error:
            raise self._libvirt.translate(error, step) from error
        except OSError as error:
            raise HostUnavailable(f"{step}: {error}") from error

    def _used_images(self) -> list[str]:
        return [i.id for d in self._files.descriptions() for i in (d.image, d.rescue) if i is not None]

    def _find(self, id: str) -> libvirt.virDomain | None:
        try:
            return self._libvirt.get().lookupByUUIDString(id)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise

    def _running(self, id: str) -> libvirt.virDomain:
        found = self._find(check_id(id))
        if found is None or not found.isActive():
            raise DomainMissing(f"Domain {id} does not run on {self._hostname}")
        return found

    def _target(self, found: libvirt.virDomain, volume_id: str) -> str:
        element = devices_of(found.XMLDesc(0)).disks.get(volume_id)
        if element is None:
            raise DomainMissing(f"Volume {volume_id} is not attached to domain {found.UUIDString()}")
        return target_of(element)

    def _observed(self, domain: libvirt.virDomain) -> Observed:
        state, reason = domain.state()[:2]
        power = _POWER.get(state, Power.OFF)
        devices = devices_of(domain.XMLDesc(0))
        return Observed(
            power=power,
            disks=tuple(devices.disks),
            nics=tuple(devices.nics),
            stopped=self._stopped(domain.UUIDString(), reason) if power is Power.OFF else None,
        )

    def _stopped(self, id: str, reason: int) -> Stopped:
        """libvirt remembers the reason until its next restart; the file outlives that."""
        if reason in (libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, libvirt.VIR_DOMAIN_SHUTOFF_FAILED):
            return Stopped.HOST
        if written := self._files.stopped(id):
            return written
        if reason == libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN:
            return Stopped.GUEST
        if reason == libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED:
            return Stopped.ASKED
        return Stopped.HOST

    def _is_stopping(self, found: libvirt.virDomain, domain: Domain) -> bool:
        """Whether an earlier call to stop it, perhaps of an agent that died, takes effect only now."""
        if not domain.running or self._files.stopped(domain.id) is None:
            return False
        self._files.mark_stopped(domain.id, None)
        limit = time.monotonic() + STOPPING_SECONDS
        while found.isActive():
            if time.monotonic() > limit:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _bring_up(self, domain: Domain) -> None:
        """The domain is off or unknown: make its files, define it, start it."""
        before = self._files.description(domain.id)
        renew = before is None or before.guest_data != domain.guest_data
        if before is not None and before.generation != domain.generation:
            self._files.forget_disks(domain.id)  # before it is described as made anew
        # Described first, so that the image is in use before it is there, and not collected in between.
        with self._images.lock:
            self._files.describe(domain)
        for image in (domain.image, domain.rescue):
            if image is not None and not self.ensure_image(image):
                raise NotReady(f"Image {image.id} is being fetched")
        files = self._files.prepare(domain, renew_config_drive=renew)
        with self._asking("libvirt did not take the server's definition"):
            found = self._libvirt.get().defineXML(domain_xml(domain, files, self._accel, self._bridge))
        if not domain.running:
            if before is None:
                self._files.mark_stopped(domain.id, Stopped.ASKED)
            return
        self._files.mark_stopped(domain.id, None)
        with self._asking("The server's machine did not start"):
            try:
                found.create()
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID and found.isActive():
                    return
                self._check_bridge(domain)
                raise

    def _reconcile(self, found: libvirt.virDomain, domain: Domain) -> None:
        """The domain runs: plug and unplug, and remember the description for its next start."""
        live = devices_of(found.XMLDesc(0))
        disks = {disk.volume_id: disk for disk in domain.disks}
        nics = {nic.port_id: nic for nic in domain.nics} if self._bridge else {}
        unplug(
            found,
            [element for id, element in live.disks.items() if id not in disks]
            + [element for id, element in live.nics.items() if id not in nics],
        )
        for id, disk in disks.items():
            if id not in live.disks:
                with self._asking(f"Attaching volume {id}"):
                    plug(found, disk_element(disk))
        for id, nic in nics.items():
            if id not in live.nics:
                with self._asking(f"Attaching port {id}"):
                    try:
                        plug(found, nic_element(nic, self._bridge or ""))
                    except libvirt.libvirtError:
                        self._check_bridge(domain)
                        raise
        if found.state()[0] == libvirt.VIR_DOMAIN_PAUSED and domain.running:
            unless_so_already(found.resume)
        before = self._files.description(domain.id)
        if before is not None and before.generation != domain.generation:
            # Its disks are still the old ones: that they are to be made anew must not be forgotten.
            domain = msgspec.structs.replace(domain, generation=before.generation, image=before.image)
        if before != domain:
            xml = domain_xml(domain, self._files.files(domain), self._accel, self._bridge)
            self._libvirt.get().defineXML(xml)
            self._files.describe(domain)

    def _check_bridge(self, domain: Domain) -> None:
        """A NIC that could not be plugged: is Open vSwitch there at all? HostUnavailable if not."""
        if not domain.nics or self._bridge is None:
            return
        try:
            done = subprocess.run(
                ["ovs-vsctl", "--timeout=3", "br-exists", self._bridge],
                capture_output=True,
                timeout=5,
                check=False,
            )
            if done.returncode == 0:
                return
            reason = done.stderr.decode(errors="replace").strip() or f"no bridge {self._bridge}"
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = str(error)
        raise HostUnavailable(f"Open vSwitch does not work on this host ({reason}); the domain waits for it")

    def _on_lifecycle(self, name: str, event: int, detail: int) -> None:
        """Called in libvirt's event thread: files and memory only."""
        if not name.startswith(PREFIX) or event not in _EVENT_POWER:
            return
        id, power = name.removeprefix(PREFIX), _EVENT_POWER[event]
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED and self._files.stopped(id) is None:
            if detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
                self._files.mark_stopped(id, Stopped.GUEST)
            elif detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED:
                self._files.mark_stopped(id, Stopped.ASKED)
        self._tell(id, power)

    def _after_reconnect(self) -> None:
        """Tell what changed while libvirtd was away."""
        now = {id: observed.power for id, observed in self.observe().items()}
        for id in {*now, *self._last}:
            self._tell(id, now.get(id))

    def _tell(self, id: str, power: Power | None) -> None:
        """libvirt has several events for one change (started, resumed)."""
        with self._told:
            if id in self._last and self._last[id] == power:
                return
            self._last[id] = power
            if power is None:
                del self._last[id]
            self._feed.tell(id, power)


def _cpu_of(capabilities: str) -> dict[str, Any]:
    """The host's CPU as the hypervisors API shows it."""
    cpu = ET.fromstring(capabilities).find("./host/cpu")
    if cpu is None:
        return {}
    topology = cpu.find("topology")
    return {
        "arch": cpu.findtext("arch") or "",
        "model": cpu.findtext("model") or "",
        "vendor": cpu.findtext("vendor") or "",
        "topology": {
            name: int(topology.get(name, "1")) if topology is not None else 1
            for name in ("sockets", "cores", "threads")
        },
        "features": sorted(feature.get("name", "") for feature in cpu.iterfind("feature")),
    }
