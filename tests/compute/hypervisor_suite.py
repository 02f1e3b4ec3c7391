"""What every hypervisor must do, whatever it is made of. A class per implementation inherits these tests.

`rig` is what such a class provides: the hypervisor, and domains, disks and NICs that it can really use.
"""

import time
import uuid
from collections.abc import Callable
from typing import Protocol

import msgspec
import pytest

from stackling.compute.driver import (
    DeviceBusy,
    Disk,
    Domain,
    DomainFailed,
    DomainMissing,
    Hypervisor,
    Nic,
    Power,
    Stopped,
)


class Rig(Protocol):
    """A hypervisor under test."""

    hypervisor: Hypervisor

    def domain(self) -> Domain:
        """A domain that boots, without volumes and NICs."""

    def disk(self, device: str) -> Disk:
        """A new volume of 1 GiB."""

    def nic(self) -> Nic:
        """A new port."""

    def booted(self, id: str) -> None:
        """Wait until the guest can let go of devices and hears ACPI."""

    def die(self, id: str) -> None:
        """The domain stops because of its host."""


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.02)


def persist(call: Callable[[], None], seconds: float = 30.0) -> None:
    """Repeat a call while the guest is busy, as a step does."""
    end = time.monotonic() + seconds
    while True:
        try:
            return call()
        except DeviceBusy:
            assert time.monotonic() < end
            time.sleep(0.1)


class HypervisorSuite:
    """The tests."""

    def test_it_tells_its_size_and_abilities(self, rig: Rig) -> None:
        info = rig.hypervisor.info()
        assert info.vcpus > 0
        assert info.memory_mib > 100
        assert info.disk_gib >= info.disk_free_gib >= 0
        assert info.hypervisor_version >= 7_000_000
        assert info.boot_id

    def test_a_domain_lives_and_each_call_may_be_repeated(self, rig: Rig) -> None:
        host, domain = rig.hypervisor, rig.domain()
        assert host.power(domain.id) is None
        assert domain.image is None or host.ensure_image(domain.image)
        for _ in range(2):
            host.ensure(domain)
            assert host.power(domain.id) is Power.ON
        assert host.observe()[domain.id].stopped is None
        for _ in range(2):
            host.power_off(domain.id)
            assert host.power(domain.id) is Power.OFF
        assert host.observe()[domain.id].stopped is Stopped.ASKED
        host.ensure(domain)
        assert host.power(domain.id) is Power.ON
        for _ in range(2):
            host.remove(domain.id)
            assert host.power(domain.id) is None
        assert domain.id not in host.observe()

    def test_a_domain_is_measured(self, rig: Rig) -> None:
        host, disk, nic = rig.hypervisor, rig.disk("vdb"), rig.nic()
        domain = msgspec.structs.replace(rig.domain(), disks=(disk,), nics=(nic,))
        host.ensure(domain)
        found = host.diagnostics(domain.id)
        assert found.power is Power.ON
        assert sorted(found.cpu_times) == list(range(domain.vcpus))
        assert found.memory_kib == domain.memory_mib * 1024 >= found.memory_used_kib > 0
        assert "vdb" in {d.device for d in found.disks}
        assert [n.mac for n in found.nics] == [nic.mac]
        host.power_off(domain.id)
        with pytest.raises(DomainMissing):
            host.diagnostics(domain.id)
        host.remove(domain.id)

    def test_a_domain_can_exist_without_running(self, rig: Rig) -> None:
        host = rig.hypervisor
        domain = msgspec.structs.replace(rig.domain(), running=False)
        host.ensure(domain)
        assert host.power(domain.id) is Power.OFF
        assert host.observe()[domain.id].stopped is Stopped.ASKED
        host.ensure(msgspec.structs.replace(domain, running=True))
        assert host.power(domain.id) is Power.ON
        host.ensure(domain)
        assert host.power(domain.id) is Power.ON, "running=False leaves it as it is"
        host.remove(domain.id)

    def test_what_is_not_there_is_off_already(self, rig: Rig) -> None:
        id = str(uuid.uuid4())
        rig.hypervisor.power_off(id)
        rig.hypervisor.shut_down(id)
        rig.hypervisor.remove(id)
        with pytest.raises(DomainMissing):
            rig.hypervisor.reset(id)
        with pytest.raises(DomainMissing):
            rig.hypervisor.console_log(id)
        with pytest.raises(DomainMissing):
            rig.hypervisor.diagnostics(id)
        with pytest.raises(DomainMissing):
            rig.hypervisor.resize_disk(id, str(uuid.uuid4()), 2)

    @pytest.mark.parametrize("id", ["", "../../etc", "x" * 36, "'; DROP TABLE", "\x00", "é"])
    def test_an_id_that_is_no_uuid_is_refused(self, rig: Rig, id: str) -> None:
        host = rig.hypervisor
        calls: list[Callable[[], object]] = [
            lambda: host.ensure(msgspec.structs.replace(rig.domain(), id=id)),
            lambda: host.remove(id),
            lambda: host.power(id),
            lambda: host.console_log(id),
            lambda: host.power_off(id),
        ]
        for call in calls:
            with pytest.raises(DomainFailed):
                call()

    def test_disks_and_nics_come_and_go_on_a_running_domain(self, rig: Rig) -> None:
        host, domain = rig.hypervisor, rig.domain()
        host.ensure(domain)
        rig.booted(domain.id)
        first, second, nic = rig.disk("vdb"), rig.disk("vdc"), rig.nic()
        more = msgspec.structs.replace(domain, disks=(first, second), nics=(nic,))
        for _ in range(2):
            host.ensure(more)
            seen = host.observe()[domain.id]
            assert set(seen.disks) == {first.volume_id, second.volume_id}
            assert seen.nics == (nic.port_id,)
        assert host.holder(second.volume_id) == domain.id
        host.resize_disk(domain.id, first.volume_id, 2)
        third, other = rig.disk("vdc"), rig.nic()
        less = msgspec.structs.replace(domain, disks=(first, third), nics=(other,))
        for _ in range(2):
            persist(lambda: host.ensure(less))
            seen = host.observe()[domain.id]
            assert set(seen.disks) == {first.volume_id, third.volume_id}
            assert seen.nics == (other.port_id,)
        assert host.holder(second.volume_id) is None
        with pytest.raises(DomainMissing):
            host.resize_disk(domain.id, second.volume_id, 2)
        host.remove(domain.id)

    def test_what_changed_while_it_was_off_is_there_at_the_next_start(self, rig: Rig) -> None:
        host, domain = rig.hypervisor, rig.domain()
        host.ensure(domain)
        host.power_off(domain.id)
        disk = rig.disk("vdb")
        host.ensure(msgspec.structs.replace(domain, disks=(disk,)))
        assert host.observe()[domain.id].disks == (disk.volume_id,)
        host.remove(domain.id)

    def test_a_guest_is_asked_to_power_off(self, rig: Rig) -> None:
        host, domain = rig.hypervisor, rig.domain()
        host.ensure(domain)
        rig.booted(domain.id)
        host.shut_down(domain.id)
        until(lambda: host.power(domain.id) is Power.OFF)
        assert host.observe()[domain.id].stopped is Stopped.ASKED
        assert len(host.console_log(domain.id).splitlines()) >= 2
        assert len(host.console_log(domain.id, 2).splitlines()) == 2
        assert host.console_log(domain.id, 0) == ""
        host.remove(domain.id)

    def test_a_domain_stands_still_and_goes_on(self, rig: Rig) -> None:
        host, domain = rig.hypervisor, rig.domain()
        with pytest.raises(DomainMissing):
            host.pause(domain.id)
        with pytest.raises(DomainMissing):
            host.suspend(domain.id)
        host.ensure(domain)
        for _ in range(2):
            host.pause(domain.id)
            assert host.power(domain.id) is Power.PAUSED
        host.ensure(domain)
        assert host.power(domain.id) is Power.ON
        for _ in range(2):
            until(lambda: host.suspend(domain.id))
            assert host.power(domain.id) is Power.OFF
        assert host.observe()[domain.id].stopped is Stopped.ASKED
        host.ensure(domain)
        assert host.power(domain.id) is Power.ON
        until(lambda: host.suspend(domain.id))
        host.power_off(domain.id)
        with pytest.raises(DomainMissing):
            host.suspend(domain.id)
        host.remove(domain.id)

    def test_a_domain_that_its_host_lost_is_told_apart_and_started_again(self, rig: Rig) -> None:
        host, domain = rig.hypervisor, rig.domain()
        host.ensure(domain)
        rig.die(domain.id)
        until(lambda: host.power(domain.id) is Power.OFF)
        assert host.observe()[domain.id].stopped is Stopped.HOST
        host.ensure(domain)
        assert host.power(domain.id) is Power.ON
        host.remove(domain.id)

    def test_power_changes_are_told(self, rig: Rig) -> None:
        host, domain = rig.hypervisor, rig.domain()
        told: list[tuple[str, Power | None]] = []
        stop = host.watch(lambda id, power: told.append((id, power)))
        time.sleep(0.2)
        start = host.changes().cursor
        host.ensure(domain)
        host.power_off(domain.id)
        host.remove(domain.id)
        wanted = [(domain.id, Power.ON), (domain.id, Power.OFF), (domain.id, None)]
        until(lambda: [it for it in told if it in wanted][-1:] == wanted[-1:])
        assert [it for it in told if it in wanted] == sorted(set(told) & set(wanted), key=wanted.index)
        news = host.changes(start, 1.0)
        assert news.complete
        assert [(it.id, it.power) for it in news.changes if (it.id, it.power) in wanted] == wanted
        assert host.changes(news.cursor, 0.05).changes == ()
        assert not host.changes("another:7").complete
        stop()

    def test_no_password_is_none(self, rig: Rig) -> None:
        host, domain = rig.hypervisor, rig.domain()
        assert host.password(domain.id) == ""
        host.clear_password(domain.id)
