"""The real daemons: started once, adopted, healed, stopped, purged."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stackling.node import bridges, chassis, inspect, libvirtd
from stackling.node.bridges import External
from stackling.node.daemon import executable
from stackling.node.services import Service, Services

PUBLIC = External(physical_network="public", gateway="172.24.4.1/24")
DAEMONS = {
    "ovsdb-server",
    "ovn-nb",
    "ovn-sb",
    "virtlogd",
    "ovs-vswitchd",
    "ovn-northd",
    "ovn-controller",
    "libvirtd",
}
BINARIES = {"ovsdb-server", "ovs-vswitchd", "ovn-northd", "ovn-controller", "virtlogd", "libvirtd"}
START = [
    sys.executable,
    "-c",
    """from pathlib import Path
from stackling.node.services import Services
Services(Path("/run/stackling"), Path("/var/lib/stackling"), host="host1").ensure()""",
]
TINY = """<domain type='qemu'><name>tiny</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
<emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>"""


def again(services: Services, **options: dict[str, str]) -> Services:
    """The same cloud, as a new process would see it."""
    return Services(services.run_dir, services.state_dir, host="host1", **options)  # type: ignore[arg-type]


def pids(states: list[Service]) -> dict[str, int | None]:
    assert [state.why for state in states if not state.healthy] == []
    return {state.name: state.pid for state in states}


def running(binaries: set[str]) -> list[str]:
    found = (executable(int(path.name)) for path in Path("/proc").glob("[0-9]*"))
    return sorted(name for name in found if name in binaries)


def addresses(device: str) -> str:
    done = subprocess.run(
        ["ip", "-o", "addr", "show", "dev", device], capture_output=True, text=True, check=False
    )
    return done.stdout


def test_a_second_start_restarts_nothing_and_takes_no_time(services: Services) -> None:
    before = pids(services.ensure())
    began = time.monotonic()
    after = pids(again(services).ensure())
    assert time.monotonic() - began < 1
    assert after == before
    assert set(before) == DAEMONS


def test_status_tells_version_memory_and_whose_it_is(services: Services) -> None:
    for state in services.status():
        assert state.healthy
        assert state.version[0].isdigit()
        assert 1000 < state.memory < 60000
        assert state.started_by_us
    assert sum(state.memory for state in services.status()) < 80 * 1024


@pytest.mark.parametrize("name", sorted(DAEMONS))
def test_a_killed_daemon_comes_back_and_the_others_stay(services: Services, name: str) -> None:
    before = pids(services.ensure())
    victim = before[name]
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    while executable(victim) is not None:
        time.sleep(0.01)
    dead = next(state for state in services.status() if state.name == name)
    assert not dead.healthy
    assert "stackling up" in dead.why
    after = pids(again(services).ensure())
    assert {one for one in DAEMONS if after[one] != before[one]} == {name}


def test_a_daemon_that_hangs_is_replaced(services: Services) -> None:
    victim = pids(services.ensure())["ovn-northd"]
    assert victim is not None
    os.kill(victim, signal.SIGSTOP)
    assert pids(services.ensure())["ovn-northd"] != victim


def test_two_starts_at_once_make_one_of_each(services: Services) -> None:
    services.stop()
    starts = [subprocess.Popen(START) for _ in range(2)]
    assert [start.wait(timeout=60) for start in starts] == [0, 0]
    assert sorted(running(BINARIES)) == sorted([*BINARIES, "ovsdb-server", "ovsdb-server"])


@pytest.mark.parametrize("after", [0.35, 0.4, 0.45, 0.5, 0.6, 0.8, 1.0])
def test_a_start_killed_half_way_is_finished_by_the_next(services: Services, after: float) -> None:
    services.purge()
    start = subprocess.Popen(START)
    time.sleep(after)
    start.kill()
    start.wait()
    states = services.ensure()
    pids(states)
    assert all(state.started_by_us for state in states)
    assert sorted(running(BINARIES)) == sorted([*BINARIES, "ovsdb-server", "ovsdb-server"])
    services.purge()
    assert running(BINARIES) == []
    assert os.listdir("/var/lib/ovn") == os.listdir("/var/lib/stackling") == []


def test_a_daemon_of_somebody_else_is_adopted_and_outlives_stop_and_purge(services: Services) -> None:
    services.stop()
    log = "/var/log/libvirt/other.log"
    subprocess.run(
        ["virtlogd", "--daemon"], check=True, env={**os.environ, "LIBVIRT_LOG_OUTPUTS": f"1:file:{log}"}
    )
    states = {state.name: state for state in services.ensure()}
    other = states["virtlogd"]
    assert other.healthy
    assert not other.started_by_us
    services.purge()
    assert running({"virtlogd", "libvirtd", "ovsdb-server"}) == ["virtlogd"]
    assert other.pid is not None
    os.kill(other.pid, signal.SIGTERM)
    while executable(other.pid) is not None:
        time.sleep(0.01)
    pids(services.ensure())


def test_a_file_in_the_place_of_a_socket_is_named(services: Services) -> None:
    services.stop()
    path = Path("/run/ovn/ovnnb_db.sock")
    path.mkdir()
    states = {state.name: state for state in services.ensure()}
    assert "/run/ovn/ovnnb_db.sock" in states["ovn-nb"].why
    assert "waits for ovn-nb" in states["ovn-northd"].why
    path.rmdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # and closed: a socket that nobody listens on
    pids(services.ensure())


def test_a_missing_package_is_named(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    services.stop()
    monkeypatch.setenv("PATH", "/nowhere")
    states = {state.name: state for state in services.ensure()}
    assert "apt-get install openvswitch-switch" in states["ovsdb-server"].why
    monkeypatch.undo()
    pids(services.ensure())


def test_ovn_knows_the_chassis_and_its_bridges(services: Services) -> None:
    cloud = again(services, mappings={"public": "br-public"})
    cloud.ensure()
    assert chassis.name() == "host1"
    assert chassis.external_ids()["ovn-bridge-mappings"] == "public:br-public"
    assert chassis.vsctl("get", "bridge", "br-int", "datapath_type") == cloud.chassis.datapath
    deadline = time.monotonic() + 10
    while "host1" not in subprocess.check_output(["ovn-sbctl", "--timeout=5", "show"], text=True):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_ovn_of_somebody_else_is_not_taken_over(services: Services) -> None:
    chassis.forget()
    chassis.vsctl("set", "open", ".", 'external_ids:ovn-remote="tcp:192.0.2.1:6642"')
    states = {state.name: state for state in services.ensure()}
    assert "already belongs to the OVN at tcp:192.0.2.1:6642" in states["ovn-controller"].why
    chassis.vsctl("remove", "open", ".", "external_ids", "ovn-remote")
    pids(services.ensure())


def test_an_external_bridge_has_its_address_again_after_a_restart_of_the_switch(services: Services) -> None:
    pids(services.ensure())
    assert bridges.ensure([PUBLIC], services.chassis.datapath) == []
    assert "172.24.4.1/24" in addresses("br-public")
    rules = subprocess.check_output(["nft", "list", "table", "inet", "stackling"], text=True)
    assert "ip saddr 172.24.4.0/24 ip daddr != 172.24.4.0/24 masquerade" in rules
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"

    switch = pids(services.ensure())["ovs-vswitchd"]
    assert switch is not None
    os.kill(switch, signal.SIGKILL)
    while executable(switch) is not None:
        time.sleep(0.01)
    pids(services.ensure())
    assert bridges.ensure([PUBLIC], services.chassis.datapath) == []
    assert "172.24.4.1/24" in addresses("br-public")
    assert ",UP" in addresses("br-public") or "UP" in subprocess.check_output(
        ["ip", "link", "show", "br-public"], text=True
    )

    moved = External(physical_network="public", gateway="172.24.5.1/24", masquerade=False)
    assert bridges.ensure([moved], services.chassis.datapath) == []
    assert "172.24.4.1/24" not in addresses("br-public")
    assert (
        subprocess.run(
            ["nft", "list", "table", "inet", "stackling"], capture_output=True, check=False
        ).returncode
        != 0
    )

    bridges.remove()
    bridges.remove()
    assert addresses("br-public") == ""


def test_a_network_card_becomes_a_port_and_an_operators_bridge_stays(services: Services) -> None:
    subprocess.run(["ip", "link", "add", "nic0", "type", "veth", "peer", "name", "nic0peer"], check=True)
    chassis.vsctl(
        "add-br",
        "br-theirs",
        "--",
        "set",
        "bridge",
        "br-theirs",
        f"datapath_type={services.chassis.datapath}",
    )
    networks = [
        External(physical_network="real", nic="nic0"),
        External(physical_network="theirs", gateway="192.0.2.1/24"),
    ]
    bridges.ensure(networks, services.chassis.datapath)
    bridges.ensure(networks, services.chassis.datapath)
    assert chassis.vsctl("list-ports", "br-real") == "nic0"
    bridges.remove()
    assert chassis.vsctl("list-br").split() == ["br-int", "br-theirs"]
    chassis.vsctl("del-br", "br-theirs")
    subprocess.run(["ip", "link", "del", "nic0"], check=True)


def test_a_guest_starts_at_once_not_as_root_and_outlives_libvirtd(services: Services, tmp_path: Path) -> None:
    pids(services.ensure())
    definition = tmp_path / "tiny.xml"
    definition.write_text(TINY)
    virsh = ["virsh", "--connect", "qemu:///system"]
    capabilities = subprocess.check_output([*virsh, "capabilities"], text=True)
    assert ("<domain type='kvm'" in capabilities) == services.kvm.usable
    began = time.monotonic()
    subprocess.run([*virsh, "create", str(definition)], check=True, capture_output=True)
    took = time.monotonic() - began
    try:
        (guest,) = libvirtd.guests()
        assert Path(f"/proc/{guest}").stat().st_uid == 64055
        services.stop()
        assert running({"libvirtd", "virtlogd", "ovs-vswitchd"}) == ["virtlogd"]
        assert libvirtd.guests() == [guest]
        pids(services.ensure())
        assert subprocess.check_output([*virsh, "domstate", "tiny"], text=True).strip() == "running"
    finally:
        subprocess.run([*virsh, "destroy", "tiny"], check=True, capture_output=True)
    assert took < 2, f"{took:.2f} s"  # 0.2 s alone; a minute when libvirt distrusts /dev/kvm


def test_every_fact_of_a_working_host_is_found(services: Services) -> None:
    pids(services.ensure())
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        found = {
            one.name: one
            for one in inspect.findings(services.run_dir, services.state_dir, {"api": port, "web": 1})
        }
    assert [one.says for one in found.values() if not one.ok and one.severity is inspect.Severity.ERROR] == []
    assert all(one.ok or one.do for one in found.values())
    assert f"TCP port {port} is held by python" in found["port of api"].says
    assert found["port of web"].says == "TCP port 1 is free"
    assert "stale pidfile" not in found


def test_stop_leaves_no_process_and_purge_nothing(services: Services) -> None:
    pids(services.ensure())
    bridges.ensure([PUBLIC], services.chassis.datapath)
    subprocess.run(["ip", "netns", "add", "stackling-test"], check=True)
    services.stop()
    services.stop()
    assert running(BINARIES) == []
    pids(services.ensure())
    services.purge()
    services.purge()
    assert running(BINARIES) == []
    devices = set(os.listdir("/sys/class/net"))
    assert devices == {"lo"}
    assert os.listdir("/run/netns") == []
    for place in (
        "/var/lib/ovn",
        "/var/lib/openvswitch",
        "/var/lib/stackling",
        "/var/log/ovn",
        "/var/log/openvswitch",
    ):
        assert os.listdir(place) == [], place
    assert subprocess.check_output(["nft", "list", "ruleset"], text=True) == ""
    pids(services.ensure())
