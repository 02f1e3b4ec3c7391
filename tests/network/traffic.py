"""Packets through a real OVN in a simulated host; run by `test_traffic.py`.

Guests are network namespaces with an internal port of br-int each; the outside is a namespace on br-ex.
"""

import json
import os
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Iterator

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

pytestmark = pytest.mark.skipif("SIMULATED_HOST" not in os.environ, reason="belongs into a simulated host")

OUTSIDE = "172.24.4.1"
SNAT = "172.24.4.10"
FLOATING = "172.24.4.20"


def new_id() -> str:
    return str(uuid.uuid4())


def sh(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert not check or done.returncode == 0, (command, done.stderr)
    return done.stdout


def start_daemons() -> None:
    """Open vSwitch and OVN at their default paths; they end with the simulated host."""
    quiet = ("--pidfile", "--detach", "--log-file", "-vconsole:off")
    databases = {
        "/etc/openvswitch/conf.db": ("/usr/share/openvswitch/vswitch.ovsschema", "/run/openvswitch/db.sock"),
        "/var/lib/ovn/nb.db": ("/usr/share/ovn/ovn-nb.ovsschema", "/run/ovn/ovnnb_db.sock"),
        "/var/lib/ovn/sb.db": ("/usr/share/ovn/ovn-sb.ovsschema", "/run/ovn/ovnsb_db.sock"),
    }
    sh("mkdir", "-p", "/run/openvswitch", "/run/ovn")
    for database, (schema, sock) in databases.items():
        sh("ovsdb-tool", "create", database, schema)
        name = sock.rsplit("/", 1)[1].removesuffix(".sock")
        own = () if name == "db" else (f"--pidfile=/run/ovn/{name}.pid", f"--unixctl=/run/ovn/{name}.ctl")
        sh("ovsdb-server", database, f"--remote=punix:{sock}", *quiet, *own)
    chassis = ("system-id=host1", "hostname=host1", "ovn-remote=unix:/run/ovn/ovnsb_db.sock", "ovn-encap-type=geneve")
    chassis += ("ovn-encap-ip=127.0.0.1", "ovn-bridge-datapath-type=netdev", "ovn-bridge-mappings=physnet1:br-ex")
    sh("ovs-vsctl", "--no-wait", "init", "--", "set", "open", ".", *(f"external_ids:{pair}" for pair in chassis))
    sh("ovs-vswitchd", "unix:/run/openvswitch/db.sock", *quiet)
    sh("ovn-northd", *quiet)
    sh("ovn-controller", *quiet)


class Guest:
    """A network namespace behind an OVS internal port."""

    def __init__(self, name: str, bridge: str, mac: str, *addresses: str, port: str = "", gateway: str = "") -> None:
        self.name = name
        sh("ip", "netns", "add", name)
        link = f"i-{name}"
        add = ["ovs-vsctl", "add-port", bridge, link, "--", "set", "interface", link, "type=internal"]
        sh(*add, *([f"external_ids:iface-id={port}"] if port else []))
        sh("ip", "link", "set", link, "netns", name)
        self.run("ip", "link", "set", link, "name", "eth0", check=False)
        self.run("ip", "link", "set", "eth0", "address", mac, "mtu", "1442", "up")
        self.run("ip", "link", "set", "lo", "up")
        for address in addresses:
            self.run("ip", "address", "add", address, "dev", "eth0")
        if gateway:
            self.run("ip", "route", "add", "default", "via", gateway)

    def run(self, *command: str, check: bool = True) -> str:
        return sh("ip", "netns", "exec", self.name, *command, check=check)

    def pings(self, address: str, *options: str, tries: int = 3) -> bool:
        return "bytes from" in self.run("ping", "-c", str(tries), "-i", "0.2", "-W", "1", *options, address, check=False)

    def python(self, code: str, *args: str) -> str:
        return self.run(sys.executable, "-c", textwrap.dedent(code), *args).strip()

    def serve(self, port: int, address: str = "") -> "subprocess.Popen[bytes]":
        """A server that tells each caller which address it sees."""
        code = """
            import socket, sys
            with socket.create_server((sys.argv[2], int(sys.argv[1]))) as s:
                print("ready", flush=True)
                while True:
                    c, peer = s.accept()
                    c.sendall(peer[0].encode()); c.close()
        """
        command = ["ip", "netns", "exec", self.name, sys.executable, "-c", textwrap.dedent(code), str(port), address]
        server = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert server.stdout is not None
        server.stdout.readline()
        return server

    def seen_by(self, address: str, port: int) -> str:
        """The address under which a server there sees us; empty when it can't be reached."""
        code = """
            import socket, sys
            try:
                with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1.5) as c:
                    print(c.makefile().read())
            except OSError:
                pass
        """
        return self.python(code, address, str(port))


class Bench:
    """A host with OVN, two guests in one network, a router, and the outside."""

    def __init__(self) -> None:
        start_daemons()
        sh("ovs-vsctl", "--may-exist", "add-br", "br-ex", "--", "set", "bridge", "br-ex", "datapath_type=netdev")
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
        for thing in (self.net, self.out, self.group, self.other_group, *self.ports, self.router, self.floating_ip):
            self.fabric.ensure(thing)
        self.ext = Guest("ext", "br-ex", "02:00:00:00:00:01", f"{OUTSIDE}/24")
        self.vm1 = Guest("vm1", "br-int", self.port1.mac_address, "10.1.0.11/24", port=self.port1.id, gateway="10.1.0.1")
        self.vm2 = Guest("vm2", "br-int", self.port2.mac_address, "10.1.0.12/24", port=self.port2.id, gateway="10.1.0.1")
        self.meta = Guest(
            "meta", "br-int", self.metadata.mac_address, "10.1.0.2/24", "169.254.169.254/32", port=self.metadata.id
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
        sub = Subnet(id=new_id(), cidr="10.1.0.0/24", ip_version=4, gateway_ip="10.1.0.1", dns_nameservers=("9.9.9.9",))
        sub6 = Subnet(
            id=new_id(), cidr="fd00:1::/64", ip_version=6, gateway_ip="fd00:1::1", ipv6_ra_mode="slaac", ipv6_address_mode="slaac"
        )
        self.net = Network(
            id=new_id(), dns_domain="example.org", subnets=(sub, sub6),
            metadata=MetadataAddress(mac_address="fa:16:3e:00:00:02", ip_addresses=("10.1.0.2",)),
        )  # fmt: skip
        self.out = Network(id=new_id(), network_type="flat", physical_network="physnet1", external=True, mtu=1500)
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
        leg6 = replace(leg, id=new_id(), mac_address="fa:16:3e:00:00:06", fixed_ips=(FixedIP(sub6.id, "fd00:1::1"),))
        way_out = Port(
            id=new_id(), network_id=self.out.id, mac_address="fa:16:3e:00:01:01", port_kind=PortKind.ROUTER_GATEWAY
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
    offer = json.loads(bench.vm1.python(_DHCP, bench.port1.mac_address))
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
    assert bench.vm1.python(_DNS, "two.example.org") == "10.1.0.12"
    assert bench.vm1.python(_DNS, "ONE") == "10.1.0.11"


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
    bench.rules(bench.group, {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22}, {"protocol": "icmp"})
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


_DHCP = """
    import json, os, socket, struct, sys, time
    mac = bytes.fromhex(sys.argv[1].replace(":", ""))
    def checksum(data):
        s = sum(struct.unpack("!%dH" % (len(data) // 2), data))
        while s >> 16:
            s = (s & 0xFFFF) + (s >> 16)
        return ~s & 0xFFFF
    xid = os.urandom(4)
    bootp = struct.pack("!BBBB4sHH", 1, 1, 6, 0, xid, 0, 0x8000) + bytes(16) + mac + bytes(10) + bytes(192)
    bootp += bytes.fromhex("63825363") + bytes([53, 1, 1, 55, 7, 1, 3, 6, 15, 26, 51, 121, 255])
    udp = struct.pack("!HHHH", 68, 67, 8 + len(bootp), 0) + bootp
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\\xff" * 4)
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    s.bind(("eth0", 0)); s.settimeout(1)
    until = time.time() + 8
    while time.time() < until:
        s.send(b"\\xff" * 6 + mac + b"\\x08\\x00" + head + udp)
        try:
            frame = s.recv(2000)
            while frame[46:50] != xid or frame[42] != 2:
                frame = s.recv(2000)
        except TimeoutError:
            continue
        options, at = {}, 42 + 240
        while frame[at] != 255:
            if frame[at] == 0:
                at += 1
                continue
            options[frame[at]] = frame[at + 2 : at + 2 + frame[at + 1]].hex()
            at += 2 + frame[at + 1]
        print(json.dumps({"ip": socket.inet_ntoa(frame[42 + 16 : 42 + 20]), "options": options}))
        break
"""

_DNS = """
    import socket, sys
    name = b"".join(bytes([len(p)]) + p.encode() for p in sys.argv[1].split(".")) + b"\\0"
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(1)
    for _ in range(4):
        s.sendto(b"\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0" + name + b"\\0\\x01\\0\\x01", ("9.9.9.9", 53))
        try:
            print(socket.inet_ntoa(s.recv(500)[-4:]))
            break
        except TimeoutError:
            pass
"""
