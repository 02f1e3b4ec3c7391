"""The KVM probe on hosts as we imagine them: a script stands in for QEMU."""

import os
import time
from pathlib import Path

import msgspec
import pytest

from stackling.node import kvm
from stackling.node.kvm import Kvm


class Machine:
    """A host with an emulator that does what the test says, and notes that it ran."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.device = place / "kvm"
        self.device.touch()
        self.cpuinfo = place / "cpuinfo"
        self.cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu vmx sse\n")
        self.emulator = place / "qemu"
        self.behaves("exit 33")

    def behaves(self, script: str) -> None:
        self.emulator.write_text(f"#!/bin/sh\necho run >>{self.place}/runs\n{script}\n")
        self.emulator.chmod(0o755)

    def probe(self) -> Kvm:
        return kvm.probe(
            self.place / "run" / "kvm.json",
            device=self.device,
            cpuinfo=self.cpuinfo,
            emulator=str(self.emulator),
            seconds=0.5,
        )

    @property
    def runs(self) -> int:
        path = self.place / "runs"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_usable_when_the_boot_sector_ran(machine: Machine) -> None:
    assert machine.probe() == Kvm(True, "a test guest booted under KVM")


def test_no_boot_is_tried_without_the_cpu_flag(machine: Machine) -> None:
    machine.cpuinfo.write_text("flags\t\t: fpu vmx_not svmx\n")
    answer = machine.probe()
    assert not answer.usable
    assert "firmware" in answer.why
    assert machine.runs == 0


def test_a_guest_that_hangs_is_killed(machine: Machine) -> None:
    machine.behaves("exec sleep 60")
    began = time.monotonic()
    answer = machine.probe()
    assert time.monotonic() - began < 5
    assert not answer.usable
    assert "did not boot under KVM within 0.5 s" in answer.why


@pytest.mark.parametrize("status", [0, 1])
def test_any_other_end_is_no(machine: Machine, status: int) -> None:
    machine.behaves(f"echo 'Could not access KVM kernel module' >&2; exit {status}")
    assert machine.probe() == Kvm(False, "QEMU refuses KVM: Could not access KVM kernel module")


def test_says_what_is_missing(machine: Machine) -> None:
    machine.emulator.unlink()
    assert "apt-get install qemu-system-x86" in machine.probe().why
    (machine.place / "run" / "kvm.json").unlink()
    machine.device.unlink()
    assert "modprobe" in machine.probe().why


def test_asked_once_per_boot(machine: Machine) -> None:
    machine.probe()
    machine.behaves("exit 1")
    assert machine.probe().usable
    assert machine.runs == 1
    cache = machine.place / "run" / "kvm.json"
    kept = msgspec.json.decode(cache.read_bytes())
    cache.write_bytes(msgspec.json.encode({**kept, "boot": "another boot"}))
    assert not machine.probe().usable
    assert machine.runs == 2


@pytest.mark.parametrize("rubbish", [b"", b"{", b'{"boot": 3}'])
def test_a_broken_cache_is_only_slower(machine: Machine, rubbish: bytes) -> None:
    cache = machine.place / "run" / "kvm.json"
    cache.parent.mkdir()
    cache.write_bytes(rubbish)
    assert machine.probe().usable
    assert machine.probe().usable
    assert machine.runs == 1


def test_the_real_emulator_runs_the_boot_sector(tmp_path: Path) -> None:
    emulator = Path("/usr/bin/qemu-system-x86_64")
    if not emulator.exists() or os.uname().machine != "x86_64":
        pytest.skip("needs qemu-system-x86_64")
    stand_in = tmp_path / "qemu"  # the probe's own command, under TCG
    stand_in.write_text(f'#!/bin/sh\nshift 2\nexec {emulator} -accel tcg "$@"\n')
    stand_in.chmod(0o755)
    machine = Machine(tmp_path)
    answer = kvm.probe(
        tmp_path / "kvm.json",
        device=machine.device,
        cpuinfo=machine.cpuinfo,
        emulator=str(stand_in),
        seconds=20,
    )
    assert answer == Kvm(True, "a test guest booted under KVM")
