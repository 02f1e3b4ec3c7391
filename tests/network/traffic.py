"""Packets through a real OVN in a simulated host; run by `test_traffic.py`.

Guests are network namespaces with an internal port of br-int each; the outside is a namespace on br-ex.
"""

import json
import os
import socket
import struct
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from stackling.network.driver import (
    FixedIP,
    FloatingIP,
    GatewayChassis,
    Kind,
    MetadataAddress,
    Network,
    Port,
    PortKind,
    Router,
    RouterGateway,
    RouterInterface,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from stackling.network.drivers.ovn import OvnFabric
from tests.network.guest import DHCP, DNS, Guest, sh, start_daemons

pytestmark = pytest.mark.skipif("SIMULATED_HOST" not in os.environ, reason="belongs into a simulated host")

OUTSIDE = "172.24.4.1"
SNAT = "172.24.4.10"
FLOATING = "172.24.4.20"


def new_id() -> str:
    return str(uuid.uuid4())


class Bench:
    """A host with OVN, two guests in one network, a router, and the outside."""

    def __init__(self) -> None:
        start_daemons()
        sh(
            "ovs-vsctl",
            "--may-exist",
            "add-br",
            "br-ex",
            "--",
            "set",
            "bridge",
            "br-ex",
            "datapath_type=netdev",
        )
        sh("ip", "link", "set", "br-ex", "up")
        self.fabric = OvnFabric()
        self.heard: list[tuple[str, bool]] = []
        self.told = threading.Condition()
        self.fabric.watch(self._hear)
        until = time.monotonic() + 20  # ovn-controller registers its host a moment after it started
        while not (chassis := self.fabric.check().chassis) and time.monotonic() < until:
            time.sleep(0.05)
        assert [host.physical_networks for host in chassis] == [("physnet1",)]
        self._describe(chassis[0].name)
        for thing in (
            self.net,
            self.out,
            self.group,
            self.other_group,
            *self.ports,
            self.router,
            self.floating_ip,
        ):
            self.fabric.ensure(thing)
        self.ext = Guest("ext", "br-ex", "02:00:00:00:00:01", f"{OUTSIDE}/24")
        self.vm1 = Guest(
            "vm1", "br-int", self.port1.mac_address, "10.1.0.11/24", port=self.port1.id, gateway="10.1.0.1"
        )
        self.vm2 = Guest(
            "vm2", "br-int", self.port2.mac_address, "10.1.0.12/24", port=self.port2.id, gateway="10.1.0.1"
        )
        self.meta = Guest(
            "meta",
            "br-int",
            self.metadata.mac_address,
            "10.1.0.2/24",
            "169.254.169.254/32",
            port=self.metadata.id,
        )
        self.wait_up(self.port1.id, self.port2.id)
        self.fabric.synchronize(30)

    def _hear(self, port_id: str, up: bool) -> None:
        with self.told:
            self.heard.append((port_id, up))
            self.told.notify_all()

    def wait_up(self, *port_ids: str) -> None:
        with self.told:
            assert self.told.wait_for(lambda: all((id, True) in self.heard for id in port_ids), timeout=20)

    def _describe(self, chassis: str) -> None:
        sub = Subnet(
            id=new_id(), cidr="10.1.0.0/24", ip_version=4, gateway_ip="10.1.0.1", dns_nameservers=("9.9.9.9",)
        )
        sub6 = Subnet(
            id=new_id(),
            cidr="fd00:1::/64",
            ip_version=6,
            gateway_ip="fd00:1::1",
            ipv6_ra_mode="slaac",
            ipv6_address_mode="slaac",
        )
        self.net = Network(
            id=new_id(), dns_domain="example.org", subnets=(sub, sub6),
            metadata=MetadataAddress(mac_address="fa:16:3e:00:00:02", ip_addresses=("10.1.0.2",)),
        )  # fmt: skip
        self.out = Network(
            id=new_id(), network_type="flat", physical_network="physnet1", external=True, mtu=1500
        )
        self.group = SecurityGroup(id=new_id(), rules=self.egress())
        self.other_group = SecurityGroup(id=new_id(), rules=self.egress())
        self.port1 = Port(
            id=new_id(), network_id=self.net.id, mac_address="fa:16:3e:00:00:11",
            fixed_ips=(FixedIP(sub.id, "10.1.0.11"), FixedIP(sub6.id, "fd00:1::f816:3eff:fe00:11")),
            security_group_ids=(self.group.id,), dns_name="one",
        )  # fmt: skip
        self.port2 = Port(
            id=new_id(), network_id=self.net.id, mac_address="fa:16:3e:00:00:12",
            fixed_ips=(FixedIP(sub.id, "10.1.0.12"), FixedIP(sub6.id, "fd00:1::f816:3eff:fe00:12")),
            security_group_ids=(self.other_group.id,), dns_name="two",
        )  # fmt: skip
        self.metadata = Port(
            id=new_id(), network_id=self.net.id, mac_address="fa:16:3e:00:00:02", port_kind=PortKind.METADATA,
            fixed_ips=(FixedIP(sub.id, "10.1.0.2"),),
        )  # fmt: skip
        leg = Port(
            id=new_id(), network_id=self.net.id, mac_address="fa:16:3e:00:00:01", port_kind=PortKind.ROUTER_INTERFACE,
            fixed_ips=(FixedIP(sub.id, "10.1.0.1"),),
        )  # fmt: skip
        leg6 = replace(
            leg, id=new_id(), mac_address="fa:16:3e:00:00:06", fixed_ips=(FixedIP(sub6.id, "fd00:1::1"),)
        )
        way_out = Port(
            id=new_id(),
            network_id=self.out.id,
            mac_address="fa:16:3e:00:01:01",
            port_kind=PortKind.ROUTER_GATEWAY,
        )
        self.ports = (self.port1, self.port2, self.metadata, leg, leg6, way_out)
        self.router = Router(
            id=new_id(),
            interfaces=(
                RouterInterface(port_id=leg.id, network_id=self.net.id, mac_address=leg.mac_address, networks=("10.1.0.1/24",)),
                RouterInterface(
                    port_id=leg6.id, network_id=self.net.id, mac_address=leg6.mac_address, networks=("fd00:1::1/64",),
                    ipv6_ra_mode="slaac", mtu=1442,
                ),
            ),
            gateway=RouterGateway(
                port_id=way_out.id, network_id=self.out.id, mac_address=way_out.mac_address, networks=(f"{SNAT}/24",),
                gateway_ips=(OUTSIDE,), chassis=(GatewayChassis(chassis, 1),), mtu=1500,
            ),
            snat_cidrs=("10.1.0.0/24",),
        )  # fmt: skip
        self.way_out, self.chassis = way_out, chassis
        self.floating_ip = FloatingIP(
            id=new_id(), router_id=self.router.id, floating_ip_address=FLOATING, fixed_ip_address="10.1.0.11",
            port_id=self.port1.id,
        )  # fmt: skip

    def egress(self) -> tuple[SecurityGroupRule, ...]:
        return (
            SecurityGroupRule(id=new_id(), direction="egress"),
            SecurityGroupRule(id=new_id(), direction="egress", ethertype="IPv6"),
        )

    def rules(self, group: SecurityGroup, *rules: dict[str, object]) -> None:
        """The group lets these in, and everything out."""
        made = tuple(SecurityGroupRule(id=new_id(), direction="ingress", **rule) for rule in rules)  # type: ignore[arg-type]
        self.fabric.ensure(replace(group, rules=group.rules + made))
        self.fabric.synchronize()

    def close(self) -> None:
        self.fabric.close()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_states_of_ports(bench: Bench) -> None:
    states = bench.fabric.ports()
    assert states[bench.port1.id].up
    assert states[bench.port1.id].chassis == bench.chassis
    assert states[bench.way_out.id].chassis == bench.chassis
    assert states[bench.metadata.id].up


def test_dhcp_answers(bench: Bench) -> None:
    offer = json.loads(bench.vm1.python(DHCP, bench.port1.mac_address))
    assert offer["ip"] == "10.1.0.11"
    options = {int(code): bytes.fromhex(value) for code, value in offer["options"].items()}
    assert socket.inet_ntoa(options[3]) == "10.1.0.1"
    assert socket.inet_ntoa(options[6]) == "9.9.9.9"
    assert struct.unpack("!H", options[26]) == (1442,)
    assert options[15] == b"example.org"
    assert options[121] == bytes([32, 169, 254, 169, 254, 10, 1, 0, 2, 0, 10, 1, 0, 1])


def test_metadata_is_reached_and_sees_the_guest(bench: Bench) -> None:
    bench.vm1.run("ip", "route", "replace", "169.254.169.254", "via", "10.1.0.2")
    server = bench.meta.serve(80, "169.254.169.254")
    try:
        assert bench.vm1.seen_by("169.254.169.254", 80) == "10.1.0.11"
    finally:
        server.kill()


def test_names_resolve_inside_the_network(bench: Bench) -> None:
    assert bench.vm1.python(DNS, "two.example.org") == "10.1.0.12"
    assert bench.vm1.python(DNS, "ONE") == "10.1.0.11"


def test_security_groups_block_and_permit(bench: Bench) -> None:
    server = bench.vm2.serve(22)
    try:
        bench.rules(bench.other_group)
        assert not bench.vm1.pings("10.1.0.12", tries=2)
        assert bench.vm1.seen_by("10.1.0.12", 22) == ""
        bench.rules(bench.other_group, {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22})
        assert bench.vm1.seen_by("10.1.0.12", 22) == "10.1.0.11"
        assert not bench.vm1.pings("10.1.0.12", tries=2)
        bench.rules(bench.other_group, {"protocol": "icmp", "remote_group_id": bench.group.id})
        assert bench.vm1.pings("10.1.0.12")
        assert bench.vm1.seen_by("10.1.0.12", 22) == ""
        bench.rules(bench.other_group, {"protocol": "icmp", "remote_group_id": bench.other_group.id})
        assert not bench.vm1.pings("10.1.0.12", tries=2)
        bench.fabric.ensure(replace(bench.port1, security_group_ids=(bench.group.id, bench.other_group.id)))
        bench.fabric.synchronize()
        assert bench.vm1.pings("10.1.0.12")
        assert bench.vm2.pings("10.1.0.11")
    finally:
        server.kill()
        bench.fabric.ensure(bench.port1)
        bench.rules(bench.other_group, {"protocol": "icmp"}, {"protocol": "icmp", "ethertype": "IPv6"})


def test_port_security_stops_borrowed_addresses(bench: Bench) -> None:
    bench.vm1.run("ip", "address", "add", "10.1.0.66/24", "dev", "eth0")
    assert not bench.vm1.pings("10.1.0.12", "-I", "10.1.0.66", tries=2)
    bench.vm1.run("ip", "address", "del", "10.1.0.66/24", "dev", "eth0")
    assert bench.vm1.pings("10.1.0.12")


def test_a_disabled_port_is_silent(bench: Bench) -> None:
    bench.fabric.ensure(replace(bench.port2, admin_state_up=False))
    bench.fabric.synchronize()
    assert not bench.vm1.pings("10.1.0.12", tries=2)
    bench.fabric.ensure(bench.port2)
    bench.fabric.synchronize()
    assert bench.vm1.pings("10.1.0.12")


def test_guests_reach_the_outside_under_the_routers_address(bench: Bench) -> None:
    server = bench.ext.serve(8080)
    try:
        assert bench.vm2.pings(OUTSIDE)
        assert bench.vm2.seen_by(OUTSIDE, 8080) == SNAT
        assert bench.vm1.seen_by(OUTSIDE, 8080) == FLOATING
    finally:
        server.kill()


def test_a_floating_ip_leads_to_its_guest_while_it_is_there(bench: Bench) -> None:
    bench.rules(
        bench.group, {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22}, {"protocol": "icmp"}
    )
    server = bench.vm1.serve(22)
    try:
        assert bench.ext.pings(FLOATING)
        assert bench.ext.seen_by(FLOATING, 22) == OUTSIDE
        bench.fabric.remove(Kind.FLOATING_IP, bench.floating_ip.id)
        bench.fabric.synchronize()
        assert bench.ext.seen_by(FLOATING, 22) == ""
        bench.fabric.ensure(bench.floating_ip)
        bench.fabric.synchronize()
        assert bench.ext.seen_by(FLOATING, 22) == OUTSIDE
    finally:
        server.kill()


def test_ipv6_addresses_come_from_router_advertisements(bench: Bench) -> None:
    until = time.monotonic() + 20
    while "fd00:1::f816:3eff:fe00:11" not in bench.vm1.run("ip", "-6", "address", "show", "dev", "eth0"):
        assert time.monotonic() < until, bench.vm1.run("ip", "-6", "address", "show", "dev", "eth0")
        time.sleep(0.2)
    assert bench.vm1.pings("fd00:1::1")
    assert bench.vm1.pings("fd00:1::f816:3eff:fe00:12")


def test_unplugged_is_down_and_heard_of(bench: Bench) -> None:
    sh("ovs-vsctl", "del-port", "br-int", "i-vm2")
    with bench.told:
        assert bench.told.wait_for(lambda: bench.heard[-1:] == [(bench.port2.id, False)], timeout=10)
    assert not bench.fabric.ports()[bench.port2.id].up


def test_ovn_understood_everything(bench: Bench) -> None:
    every = ("icmp", "tcp", "udp", "sctp", "vrrp", "89")
    rules = [{"protocol": name, "ethertype": version} for name in every for version in ("IPv4", "IPv6")]
    rules += [
        {"protocol": "icmp", "port_range_min": 8, "port_range_max": 0, "remote_ip_prefix": "10.0.0.0/8"},
        {"protocol": "ipv6-icmp", "ethertype": "IPv6", "port_range_min": 128, "remote_ip_prefix": "fd00::/8"},
        {"protocol": "udp", "port_range_min": 1, "port_range_max": 65535, "remote_group_id": new_id()},
        {"ethertype": "IPv6", "remote_group_id": bench.group.id},
    ]
    bench.rules(bench.group, *rules)
    bench.fabric.ensure(replace(bench.group, stateful=False))
    bench.fabric.synchronize()
    bench.rules(bench.group, {"protocol": "icmp"})
    assert bench.ext.pings(FLOATING)
    said = [
        line
        for log in ("northd", "controller")
        for line in Path(f"/var/log/ovn/ovn-{log}.log").read_text().splitlines()
    ]
    complaints = [line for line in said if "|WARN|" in line or "|ERR|" in line]
    assert [line for line in complaints if not any(known in line for known in _KNOWN)] == []


# Said at the start of any OVN, before its databases and bridges are there.
_KNOWN = (
    "dropped",
    "connection attempt failed",
    "vif_plug_provider",
    "Bridge",
    "bridge",
    "unix:",
    "Unreasonably long",
    "context switches",
    "faults:",
    "disk:",
)
