"""Real guests under libvirt: the suite of all hypervisors, and what only a real host can go through."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stackling.compute.driver import (
    Disk,
    Domain,
    DomainFailed,
    GuestData,
    HostUnavailable,
    Hypervisor,
    MetadataPort,
    Nic,
    Power,
    Stopped,
    instance_name,
)
from stackling.compute.drivers.instance_files import qcow2_size
from stackling.image.cache import ImageRef, StoredFiles
from stackling.node.agent import NodeAgent, NodeConfig
from stackling.node.services import Services
from stackling.volume.driver import FromImage, FromSnapshot, FromVolume, VolumeBusy, VolumeSpec
from tests import ready_image
from tests.compute.hypervisor_suite import HypervisorSuite, persist, until

NETWORK = "44444444-4444-4444-8444-444444444444"
META = MetadataPort(port_id=str(uuid.uuid4()), mac="fa:16:3e:00:00:02", cidrs=("10.1.0.2/24",))
BOOTED = "boot finished"


class Host:
    """An agent on the simulated host, and what it can run."""

    def __init__(self, agent: NodeAgent, image: ImageRef) -> None:
        self.agent, self.image = agent, image
        self.hypervisor: Hypervisor = agent.hypervisor

    def domain(self, script: str = "") -> Domain:
        id = str(uuid.uuid4())
        data = GuestData(
            meta_data={"uuid": id, "name": "t1", "hostname": "t1"},
            user_data=f"#!/bin/sh\n{script}\n".encode() if script else None,
        )
        return Domain(
            id=id,
            name="<title> & 'more' \u0007",
            vcpus=1,
            memory_mib=128,
            image=self.image,
            root_disk_gib=1,
            config_drive=True,
            guest_data=data,
        )

    def disk(self, device: str) -> Disk:
        spec = VolumeSpec(id=str(uuid.uuid4()), size_gib=1)
        assert self.agent.backend.ensure(spec)
        return Disk(volume_id=spec.id, connection=self.agent.backend.connection(spec.id), device=device)

    def nic(self) -> Nic:
        tail = os.urandom(3).hex(":")
        return Nic(port_id=str(uuid.uuid4()), mac=f"fa:16:3e:{tail}", network_id=NETWORK)

    def booted(self, id: str) -> None:
        until(lambda: BOOTED in self.hypervisor.console_log(id), 90)

    def die(self, id: str) -> None:
        os.kill(qemu_pid(id), signal.SIGKILL)


def qemu_pid(id: str) -> int:
    return int(Path(f"/run/libvirt/qemu/{instance_name(id)}.pid").read_text())


@pytest.fixture(scope="module")
def store() -> Path:
    directory = Path("/var/lib/stackling/store")
    directory.mkdir(parents=True)
    return directory


@pytest.fixture(scope="module")
def image(store: Path) -> ImageRef:
    content = ready_image.build().path.read_bytes()
    id = str(uuid.uuid4())
    (store / id).write_bytes(content)
    return ImageRef(
        id=id,
        format="qcow2",
        size=len(content),
        sha512=hashlib.sha512(content).hexdigest(),
        virtual_size=qcow2_size(store / id),
    )


def config(services: Services) -> NodeConfig:
    return NodeConfig(hostname="host1", state_dir=services.state_dir, run_dir=services.run_dir)


@pytest.fixture(scope="module")
def rig(services: Services, store: Path, image: ImageRef) -> Iterator[Host]:
    agent = NodeAgent(config(services), StoredFiles(store))
    yield Host(agent, image)
    agent.close()
    for made in ("images", "instances", "store", "volumes"):
        shutil.rmtree(services.state_dir / made, ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_stays(rig: Host) -> Iterator[None]:
    """After each test its guests go, and leave nothing behind."""
    yield
    for id in rig.hypervisor.observe():
        rig.hypervisor.remove(id)
    assert list(Path("/var/lib/stackling/instances").glob("*")) == []
    assert list(Path("/run/stackling/instances").glob("*")) == []
    assert "tap" not in run("ovs-vsctl", "--timeout=5", "list-ports", "br-int")


def run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout


class TestLibvirt(HypervisorSuite):
    pass


def test_a_root_disk_is_an_overlay_of_a_linked_image(rig: Host, store: Path) -> None:
    domain = rig.domain()
    rig.hypervisor.ensure(domain)
    cached = Path("/var/lib/stackling/images", rig.image.id)
    assert cached.samefile(store / rig.image.id)
    assert cached.stat().st_uid == 0, "QEMU's user does not come to own the image"
    root = Path("/var/lib/stackling/instances", domain.id, "root.qcow2")
    info = json.loads(run("qemu-img", "info", "-U", "--output=json", str(root)))
    assert info["virtual-size"] == 1 << 30
    assert info["backing-filename"] == str(cached)
    assert info["backing-filename-format"] == "qcow2"
    assert [held.users for held in rig.agent.images.held()] == [1]
    assert not rig.agent.images.drop(rig.image.id)
    rig.hypervisor.remove(domain.id)
    assert rig.agent.images.drop(rig.image.id)
    assert rig.agent.images.held() == ()
    assert (store / rig.image.id).exists()


def test_a_guest_that_powers_itself_off_is_seen_at_once(rig: Host) -> None:
    domain = rig.domain("poweroff -f")
    told: list[Power | None] = []
    stop = rig.hypervisor.watch(lambda _, power: told.append(power))
    rig.hypervisor.ensure(domain)
    until(lambda: Power.OFF in told, 60)
    assert rig.hypervisor.observe()[domain.id].stopped is Stopped.GUEST
    stop()


def test_what_cannot_work_says_why(rig: Host) -> None:
    domain = msgspec.structs.replace(rig.domain(), machine="pc-q35-99.0")
    with pytest.raises(DomainFailed, match="pc-q35-99"):
        rig.hypervisor.ensure(domain)
    lost = rig.disk("vdb")
    rig.agent.backend.remove(lost.volume_id)
    good = rig.domain()
    rig.hypervisor.ensure(good)
    with pytest.raises(DomainFailed, match=lost.volume_id):
        rig.hypervisor.ensure(msgspec.structs.replace(good, disks=(lost,)))
    assert rig.hypervisor.power(good.id) is Power.ON


def test_guests_outlive_libvirtd_and_the_agent(rig: Host, services: Services, store: Path) -> None:
    domain = rig.domain()
    rig.hypervisor.ensure(domain)
    rig.booted(domain.id)
    pid = qemu_pid(domain.id)
    os.kill(int(Path("/run/libvirtd.pid").read_text()), signal.SIGKILL)
    until(lambda: not _answers(rig.hypervisor, domain.id), 10)
    services.ensure()
    until(lambda: _answers(rig.hypervisor, domain.id), 20)
    rig.hypervisor.ensure(domain)
    disk = rig.disk("vdb")
    rig.hypervisor.ensure(msgspec.structs.replace(domain, disks=(disk,)))
    told: list[Power | None] = []
    stop = rig.hypervisor.watch(lambda _, power: told.append(power))
    second = NodeAgent(config(services), StoredFiles(store))
    try:
        assert second.hypervisor.observe()[domain.id].disks == (disk.volume_id,)
        persist(lambda: second.hypervisor.ensure(domain))
        assert second.hypervisor.observe()[domain.id].disks == ()
        assert qemu_pid(domain.id) == pid
        second.hypervisor.power_off(domain.id)
        until(lambda: Power.OFF in told, 10)
    finally:
        second.close()
        stop()


def _answers(host: Hypervisor, id: str) -> bool:
    try:
        return host.power(id) is Power.ON
    except HostUnavailable:
        return False


def test_volumes_of_a_running_guest(rig: Host) -> None:
    backend, domain = rig.agent.backend, rig.domain()
    first = VolumeSpec(id=str(uuid.uuid4()), size_gib=1, format="raw", source=FromImage(image=rig.image))
    until(lambda: backend.ensure(first))
    disk = Disk(volume_id=first.id, connection=backend.connection(first.id), device="vdb")
    domain = msgspec.structs.replace(domain, disks=(disk,))
    rig.hypervisor.ensure(domain)
    with pytest.raises(VolumeBusy):
        backend.remove(first.id)
    backend.extend(first.id, 2)
    observed = backend.observe(first.id)
    assert observed is not None
    assert observed.size_gib == 2
    snapshot, second, third = (str(uuid.uuid4()) for _ in range(3))
    until(lambda: backend.ensure_snapshot(snapshot, first.id))
    until(
        lambda: backend.ensure(VolumeSpec(id=second, size_gib=2, source=FromSnapshot(snapshot_id=snapshot)))
    )
    until(lambda: backend.ensure(VolumeSpec(id=third, size_gib=2, source=FromVolume(volume_id=first.id))))
    live = str(disk.connection.path)
    for copy in (second, third):
        run("qemu-img", "compare", "-U", "-f", "raw", "-F", "qcow2", live, backend.connection(copy).path)
    rig.hypervisor.remove(domain.id)
    for id in (first.id, second, third):
        backend.remove(id)
    backend.remove_snapshot(snapshot)
    leftover = [file.name for file in Path(live).parent.iterdir() if file.name != "snapshots"]
    assert not [name for name in leftover if first.id in name or second in name or third in name]


def test_a_guest_that_boots_from_a_volume_is_rescued(rig: Host) -> None:
    backend, mark = rig.agent.backend, f"rescued-{uuid.uuid4().hex}"
    volume = VolumeSpec(id=str(uuid.uuid4()), size_gib=1, source=FromImage(image=rig.image))
    until(lambda: backend.ensure(volume))
    path = backend.connection(volume.id)
    root = Disk(volume_id=volume.id, connection=path, device="vda", boot_index=0)
    domain = msgspec.structs.replace(rig.domain(), image=None, root_disk_gib=0, disks=(root,))
    script = f"echo {mark} $(cat /sys/block/vd?/serial) > /dev/console"
    data = msgspec.structs.replace(domain.guest_data, user_data=f"#!/bin/sh\n{script}\n".encode())
    rescued = msgspec.structs.replace(domain, rescue=rig.image, guest_data=data)
    for _ in range(2):
        rig.hypervisor.ensure(rescued)
    assert {d.device for d in rig.hypervisor.diagnostics(domain.id).disks} == {"vda", "vdy", "vdz"}
    assert rig.hypervisor.observe()[domain.id].disks == (volume.id,)
    assert [held.users for held in rig.agent.images.held()] == [1], "the rescue disk stands on it"
    until(lambda: mark in rig.hypervisor.console_log(domain.id), 90)
    said = next(line for line in rig.hypervisor.console_log(domain.id).splitlines() if mark in line)
    assert volume.id[:20] in said
    rig.hypervisor.power_off(domain.id)
    rig.hypervisor.ensure(domain)
    assert {d.device for d in rig.hypervisor.diagnostics(domain.id).disks} == {"vda", "vdz"}
    rig.booted(domain.id)
    rig.hypervisor.remove(domain.id)
    backend.remove(volume.id)


def test_a_guest_reads_its_metadata_and_finds_it_again_after_restarts(rig: Host, services: Services) -> None:
    port = rig.nic().port_id
    mac = "fa:16:3e:00:00:05"
    run("ovn-nbctl", "--timeout=10", "ls-add", NETWORK)
    options = (
        '"server_id"="10.1.0.1" "server_mac"="fa:16:3e:00:00:fe" "lease_time"="3600" "router"="10.1.0.1" '
        '"classless_static_route"="{169.254.169.254/32,10.1.0.2, 0.0.0.0/0,10.1.0.1}"'
    )
    dhcp = run(
        "ovn-nbctl", "--timeout=10", "create", "dhcp_options", "cidr=10.1.0.0/24", f"options={options}"
    ).strip()
    for id, address in ((port, f"{mac} 10.1.0.5"), (META.port_id, f"{META.mac} 10.1.0.2")):
        run("ovn-nbctl", "--timeout=10", "lsp-add", NETWORK, id, "--", "lsp-set-addresses", id, address)
    run("ovn-nbctl", "--timeout=10", "lsp-set-dhcpv4-options", port, dhcp)
    run("ovn-nbctl", "--timeout=10", "lsp-set-type", META.port_id, "localport")
    ask = "timeout 3 wget -q -O - http://169.254.169.254"
    script = (
        f'n=0; while :; do n=$((n+1)); {ask}/latest/meta-data/token >/dev/console && echo " turn $n" >/dev/console; '
        "sleep 1; done"
    )
    domain = rig.domain(f"({script}) &")
    data = msgspec.structs.replace(domain.guest_data, ec2={"token": "first-answer"})
    nic = Nic(port_id=port, mac=mac, network_id=NETWORK, fixed_ips=("10.1.0.5",), metadata=META)
    domain = msgspec.structs.replace(domain, nics=(nic,), guest_data=data, config_drive=False)
    rig.hypervisor.ensure(domain)
    until(lambda: "first-answer" in rig.hypervisor.console_log(domain.id), 90)
    data = msgspec.structs.replace(data, ec2={"token": "second-answer"})
    domain = msgspec.structs.replace(domain, guest_data=data)
    rig.hypervisor.ensure(domain)
    until(lambda: "second-answer" in rig.hypervisor.console_log(domain.id), 20)
    os.kill(int(Path("/run/openvswitch/ovs-vswitchd.pid").read_text()), signal.SIGKILL)
    services.ensure()
    data = msgspec.structs.replace(data, ec2={"token": "third-answer"})
    rig.hypervisor.ensure(msgspec.structs.replace(domain, guest_data=data))
    until(lambda: "third-answer" in rig.hypervisor.console_log(domain.id), 40)
    assert rig.agent.health() == {}
    rig.hypervisor.remove(domain.id)
    until(lambda: "meta" not in run("ovs-vsctl", "--timeout=5", "list-ports", "br-int"), 10)
    until(lambda: not list(Path("/run/netns").glob("stackling-*")), 10)
    run("ovn-nbctl", "--timeout=10", "ls-del", NETWORK)


KILLED = """
import sys
from pathlib import Path
import msgspec
from stackling.compute.driver import Domain
from stackling.image.cache import StoredFiles
from stackling.node.agent import NodeAgent, NodeConfig
config = NodeConfig(hostname="host1", state_dir=Path("/var/lib/stackling"), run_dir=Path("/run/stackling"))
agent = NodeAgent(config, StoredFiles(Path("/var/lib/stackling/store")))
domain = msgspec.json.decode(sys.stdin.buffer.read(), type=Domain)
print("ready", flush=True)
for _ in range(100):
    agent.hypervisor.ensure(domain)
    agent.hypervisor.remove(domain.id)
"""


def test_an_agent_may_be_killed_at_any_line(rig: Host) -> None:
    chance = random.Random(7)
    domain = msgspec.structs.replace(rig.domain(), disks=(rig.disk("vdb"),), nics=(rig.nic(),))
    for _ in range(10):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as agent:
            assert agent.stdin is not None
            assert agent.stdout is not None
            agent.stdin.write(msgspec.json.encode(domain))
            agent.stdin.close()
            assert agent.stdout.readline()
            time.sleep(chance.uniform(0, 0.8))
            agent.kill()
        if chance.random() < 0.5:
            rig.hypervisor.ensure(domain)
            assert rig.hypervisor.power(domain.id) is Power.ON
            assert rig.hypervisor.observe()[domain.id].disks == (domain.disks[0].volume_id,)
        rig.hypervisor.remove(domain.id)
        assert rig.hypervisor.observe() == {}
