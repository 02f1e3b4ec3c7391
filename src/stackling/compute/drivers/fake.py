"""A hypervisor without machines: the real one's semantics, in memory, with knobs for trouble."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from stackling.compute.driver import (
    Changes,
    DeviceBusy,
    Diagnostics,
    Disk,
    DiskUse,
    Domain,
    DomainFailed,
    DomainMissing,
    HostInfo,
    HostUnavailable,
    Nic,
    NicUse,
    NotReady,
    Observed,
    Power,
    Stopped,
    Watcher,
    check_id,
    last_lines,
    tap_name,
)
from stackling.compute.drivers.feed import Feed
from stackling.image.cache import ImageRef
from stackling.image.export import FakeExports

_COUNTERS = [name for name in NicUse.__struct_fields__ if name.startswith(("rx_", "tx_"))]

PortHook = Callable[[str], None]


@dataclass
class _Machine:
    """What the fake host remembers of a domain."""

    domain: Domain
    power: Power
    disks: dict[str, Disk]
    nics: dict[str, Nic]
    stopped: Stopped | None = None
    starts: int = 0
    log: str = ""
    password: str = ""
    suspended: bool = False


class FakeHypervisor:
    """One fake host.

    Knobs: `down` (every call is HostUnavailable), `capacity` (what `info` tells), `lose_reply`, `fail_next`,
    `deaf` (guests ignore ACPI), `slow_detach` (that many `ensure` calls find the guest still holding a surplus
    disk), `slow_image` (that many calls find the image not fetched yet), `slow_copy`. `on_plug` and `on_unplug`
    are called with a port's id when its tap appears and goes, as OVN would notice. `domains` is what is there.
    """

    def __init__(
        self,
        hostname: str = "fake",
        *,
        vcpus: int = 64,
        memory_mib: int = 256 * 1024,
        disk_gib: int = 10_000,
        on_plug: PortHook | None = None,
        on_unplug: PortHook | None = None,
        exports: FakeExports | None = None,
    ) -> None:
        self.down = False
        self.deaf = False
        self.slow_detach = 0
        self.slow_image = 0
        self.slow_copy = 0
        self.on_plug = on_plug
        self.on_unplug = on_unplug
        self.images: dict[str, int] = {}  # sizes in bytes by id
        self.calls: list[str] = []
        self.copies: dict[str, int] = {}
        self.exports = exports or FakeExports()
        self.capacity = HostInfo(
            hostname=hostname,
            vcpus=vcpus,
            memory_mib=memory_mib,
            disk_gib=disk_gib,
            disk_free_gib=disk_gib,
            hypervisor_version=7_002_000,
            cpu={"arch": "x86_64", "model": "qemu64", "vendor": "AMD", "features": []},
            accel="fake",
            accel_reason="This host is a fake: its servers do not run",
            boot_id=str(uuid.uuid4()),
        )
        self._machines: dict[str, _Machine] = {}
        self._lose = 0
        self._failures: dict[str, list[Exception]] = {}
        self._feed = Feed()
        self._lock = threading.RLock()

    # knobs

    @property
    def domains(self) -> dict[str, Domain]:
        """The domains on the host as they were last described, by id."""
        with self._lock:
            return {id: machine.domain for id, machine in self._machines.items()}

    def used_images(self) -> list[str]:
        """The images that each domain stands on."""
        return [i.id for d in self.domains.values() for i in (d.image, d.rescue) if i is not None]

    def lose_reply(self, times: int = 1) -> None:
        """The next calls that change something do it, and then their reply is lost."""
        self._lose += times

    def fail_next(self, method: str, reason: str, error: type[Exception] = DomainFailed) -> None:
        """The next call of `method` raises `error(reason)` and does nothing."""
        self._failures.setdefault(method, []).append(error(reason))

    def die(self) -> None:
        """The host loses its power: nothing answers, everything on it stops."""
        self.down = True
        with self._lock:
            running = [id for id, machine in self._machines.items() if machine.power is not Power.OFF]
            for id in running:
                self._stop(self._machines[id], Stopped.HOST)

    def boot(self) -> None:
        """The host comes back, its domains off."""
        self.capacity = msgspec.structs.replace(self.capacity, boot_id=str(uuid.uuid4()))
        self.down = False

    def guest_powers_off(self, id: str) -> None:
        """The guest runs `poweroff`."""
        with self._lock:
            self._stop(self._machines[id], Stopped.GUEST)
        self._feed.tell(id, Power.OFF)

    def guest_posts_password(self, id: str, password: str) -> None:
        """The guest posts its encrypted password to the metadata service."""
        self._machines[id].password = password

    def starts(self, id: str) -> int:
        """How often the domain was switched on or reset."""
        return self._machines[id].starts

    # the protocol

    def info(self) -> HostInfo:
        with self._call("info", changes=False):
            used = sum(machine.domain.root_disk_gib for machine in self._machines.values())
            return msgspec.structs.replace(self.capacity, disk_free_gib=self.capacity.disk_gib - used)

    def ensure_image(self, image: ImageRef) -> bool:
        with self._call("ensure_image"):
            return self._fetched(image)

    def ensure(self, domain: Domain) -> None:
        with self._call("ensure"):
            check_id(domain.id)
            for image in (domain.image, domain.rescue):
                if image is not None and not self._fetched(image):
                    raise NotReady(f"Image {image.id} is being fetched")
            machine = self._machines.get(domain.id)
            if machine is None:
                machine = self._machines[domain.id] = _Machine(domain, Power.OFF, {}, {}, Stopped.ASKED)
            on = machine.power is Power.ON
            machine.domain = domain
            if not on and not domain.running:
                machine.disks = {disk.volume_id: disk for disk in domain.disks}
                machine.nics = {nic.port_id: nic for nic in domain.nics}
                return
            goes_on = machine.suspended or machine.power is Power.PAUSED
            self._plug(machine, hot=on)
            if not on and domain.running:
                machine.power, machine.stopped, machine.suspended = Power.ON, None, False
                if not goes_on:
                    self._started(machine)
        if not on:
            self._feed.tell(domain.id, Power.ON)

    def remove(self, id: str) -> None:
        with self._call("remove"):
            check_id(id)
            machine = self._machines.pop(id, None)
            if machine is None:
                return
            if machine.power is not Power.OFF:
                self._unplug_all(machine)
        self._feed.tell(id, None)

    def power(self, id: str) -> Power | None:
        with self._call("power", changes=False):
            machine = self._machines.get(check_id(id))
            return machine.power if machine else None

    def observe(self) -> dict[str, Observed]:
        with self._call("observe", changes=False):
            return {
                id: Observed(
                    power=machine.power,
                    disks=tuple(machine.disks),
                    nics=tuple(machine.nics),
                    stopped=machine.stopped,
                )
                for id, machine in self._machines.items()
            }

    def shut_down(self, id: str) -> None:
        with self._call("shut_down"):
            machine = self._machines.get(check_id(id))
            if machine is None or machine.power is not Power.ON or self.deaf:
                return
            self._stop(machine, Stopped.ASKED)
        self._feed.tell(id, Power.OFF)

    def power_off(self, id: str) -> None:
        with self._call("power_off"):
            machine = self._machines.get(check_id(id))
            if machine is not None:
                machine.suspended = False
            if machine is None or machine.power is Power.OFF:
                return
            self._stop(machine, Stopped.ASKED)
        self._feed.tell(id, Power.OFF)

    def pause(self, id: str) -> None:
        with self._call("pause"):
            self._running(id).power = Power.PAUSED
        self._feed.tell(id, Power.PAUSED)

    def suspend(self, id: str) -> bool:
        with self._call("suspend"):
            machine = self._machines.get(check_id(id))
            if machine is not None and machine.suspended:
                return True
            machine = self._running(id)
            if self.slow_copy > 0:
                self.slow_copy -= 1
                return False
            self._stop(machine, Stopped.ASKED)
            machine.suspended = True
        self._feed.tell(id, Power.OFF)
        return True

    def reset(self, id: str) -> None:
        with self._call("reset"):
            self._started(self._running(id))

    def console_log(self, id: str, lines: int | None = None) -> str:
        with self._call("console_log", changes=False):
            machine = self._machines.get(check_id(id))
            if machine is None:
                raise DomainMissing(f"No domain {id} on {self.capacity.hostname}")
            return last_lines(machine.log, lines)

    def diagnostics(self, id: str) -> Diagnostics:
        """Nothing runs, so nothing was used but memory."""
        with self._call("diagnostics", changes=False):
            machine = self._running(id)
            domain, kib = machine.domain, machine.domain.memory_mib * 1024
            own = [domain.root_device] if domain.image is not None else []
            devices = (
                own + [d.device for d in domain.local_disks] + [d.device for d in machine.disks.values()]
            )
            return Diagnostics(
                power=machine.power,
                cpu_times=dict.fromkeys(range(domain.vcpus), 0),
                memory_kib=kib,
                memory_used_kib=kib,
                disks=tuple(DiskUse(device=device) for device in devices),
                nics=tuple(
                    NicUse(device=tap_name(nic.port_id), mac=nic.mac, **dict.fromkeys(_COUNTERS, 0))
                    for nic in machine.nics.values()
                ),
            )

    def password(self, id: str) -> str:
        with self._call("password", changes=False):
            machine = self._machines.get(check_id(id))
            return machine.password if machine else ""

    def clear_password(self, id: str) -> None:
        with self._call("clear_password"):
            if machine := self._machines.get(check_id(id)):
                machine.password = ""

    def holder(self, volume_id: str) -> str | None:
        with self._call("holder", changes=False):
            for id, machine in self._machines.items():
                if machine.power is not Power.OFF and volume_id in machine.disks:
                    return id
            return None

    def resize_disk(self, id: str, volume_id: str, size_gib: int) -> None:
        with self._call("resize_disk"):
            self._disk(id, volume_id)

    def copy_disk(self, id: str, volume_id: str, path: str) -> bool:
        with self._call("copy_disk"):
            self._disk(id, volume_id)
            asked = self.copies[path] = self.copies.get(path, 0) + 1
            return asked > self.slow_copy

    def export_disk(self, id: str, image_id: str) -> bool:
        with self._call("export_disk"):
            machine = self._machines.get(check_id(id))
            if machine is None:
                raise DomainMissing(f"No domain {id} on {self.capacity.hostname}")
            if machine.domain.image is None:
                raise DomainFailed(f"Domain {id} has no root disk of its own")
            if self.slow_copy > 0:
                self.slow_copy -= 1
                return False
            self.exports.make(image_id, "qcow2")
            return True

    def changes(self, after: str = "", wait: float = 0.0) -> Changes:
        with self._call("changes", changes=False):
            pass
        return self._feed.changes(after, wait)

    def watch(self, callback: Watcher) -> Callable[[], None]:
        return self._feed.watch(callback)

    # inside

    @contextmanager
    def _call(self, method: str, changes: bool = True) -> Iterator[None]:
        """Every call goes through here, so that each knob works on each method."""
        with self._lock:
            self.calls.append(method)
            self._answer()
            if waiting := self._failures.get(method):
                raise waiting.pop(0)
            yield
            self._answer()
            if changes and self._lose > 0:
                self._lose -= 1
                raise HostUnavailable(f"The reply of {self.capacity.hostname} was lost")

    def _answer(self) -> None:
        if self.down:
            raise HostUnavailable(f"Host {self.capacity.hostname} does not answer")

    def _fetched(self, image: ImageRef) -> bool:
        if image.id not in self.images and self.slow_image > 0:
            self.slow_image -= 1
            return False
        self.images[image.id] = image.size
        return True

    def _plug(self, machine: _Machine, hot: bool) -> None:
        """Make the machine's devices those of its description."""
        wanted = {nic.port_id: nic for nic in machine.domain.nics}
        for port_id in [port for port in machine.nics if port not in wanted]:
            del machine.nics[port_id]
            if hot and self.on_unplug:
                self.on_unplug(port_id)
        for port_id, nic in wanted.items():
            if (port_id not in machine.nics or not hot) and self.on_plug:
                self.on_plug(port_id)
            machine.nics[port_id] = nic
        disks = {disk.volume_id: disk for disk in machine.domain.disks}
        surplus = [volume for volume in machine.disks if volume not in disks]
        if surplus and hot and self.slow_detach > 0:
            self.slow_detach -= 1
            raise DeviceBusy(f"The guest has not let go of volume {surplus[0]} yet")
        machine.disks = disks

    def _started(self, machine: _Machine) -> None:
        machine.starts += 1
        machine.log += f"[    0.000000] {machine.domain.name} starts\n{machine.domain.name} login: \n"

    def _stop(self, machine: _Machine, stopped: Stopped) -> None:
        machine.power, machine.stopped = Power.OFF, stopped
        self._unplug_all(machine)

    def _unplug_all(self, machine: _Machine) -> None:
        if self.on_unplug:
            for port_id in machine.nics:
                self.on_unplug(port_id)

    def _running(self, id: str) -> _Machine:
        machine = self._machines.get(check_id(id))
        if machine is None or machine.power is Power.OFF:
            raise DomainMissing(f"Domain {id} does not run on {self.capacity.hostname}")
        return machine

    def _disk(self, id: str, volume_id: str) -> Disk:
        disk = self._running(id).disks.get(volume_id)
        if disk is None:
            raise DomainMissing(f"Volume {volume_id} is not attached to domain {id}")
        return disk
