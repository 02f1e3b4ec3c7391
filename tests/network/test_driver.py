"""One suite for every fabric: the fake, and OVN on databases of its own (no northd, no hosts)."""

import contextlib
import os
import random
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from stackling.network.driver import (
    AddressPair,
    DHCPOption,
    Fabric,
    FabricError,
    FabricUnavailable,
    FixedIP,
    FloatingIP,
    GatewayChassis,
    HostRoute,
    Kind,
    MetadataAddress,
    Network,
    NotReady,
    Port,
    PortKind,
    Ref,
    Router,
    RouterGateway,
    RouterInterface,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
    Thing,
    ref,
)
from stackling.network.drivers import ovn_acl
from stackling.network.drivers.fake import FakeFabric
from stackling.network.drivers.ovn import OvnFabric

SCHEMAS = Path("/usr/share/ovn")


def new_id() -> str:
    return str(uuid.uuid4())


class FakeBed:
    """The fake, its knobs under the names that the suite uses."""

    real = False

    def __init__(self) -> None:
        self.fabric = FakeFabric()

    def written(self) -> int:
        return len(self.fabric.writes)

    def has(self, kind: Kind, id: str) -> bool:
        return Ref(kind, id) in self.fabric.things

    def forget(self, kind: Kind, id: str) -> None:
        self.fabric.forget(kind, id)

    def spoil(self, port: Port) -> None:
        self.fabric.replace(replace(port, mac_address="02:00:00:00:00:99"))

    def plug(self, port_id: str, up: bool = True) -> None:
        self.fabric.set_up(port_id, up)

    def stop(self) -> None:
        self.fabric.down = True

    def start(self) -> None:
        self.fabric.down = False

    def close(self) -> None:
        self.fabric.close()


TABLES = {
    Kind.NETWORK: "Logical_Switch",
    Kind.PORT: "Logical_Switch_Port",
    Kind.ROUTER: "Logical_Router",
    Kind.FLOATING_IP: "NAT",
    Kind.SECURITY_GROUP: "Port_Group",
}


class OvnBed:
    """OVN's two databases on private sockets, and a fabric that writes them."""

    real = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("nb", "sb"):
            db = folder / f"{name}.db"
            subprocess.run(["ovsdb-tool", "create", str(db), str(SCHEMAS / f"ovn-{name}.ovsschema")], check=True)
        self.start()
        self.nbctl("init")
        self.fabric = OvnFabric(self.remote("nb"), self.remote("sb"), timeout=3.0)

    def remote(self, name: str) -> str:
        return f"unix:{self.folder}/{name}.sock"

    def start(self) -> None:
        for name in ("nb", "sb"):
            sock = self.folder / f"{name}.sock"
            sock.unlink(missing_ok=True)
            command = ["ovsdb-server", "--no-chdir", f"--remote=punix:{sock}", f"--unixctl={self.folder}/{name}.ctl"]
            self.servers[name] = subprocess.Popen(
                [*command, "-vconsole:off", str(self.folder / f"{name}.db")], env=os.environ | {"OVS_RUNDIR": str(self.folder)}
            )
        until = time.monotonic() + 10
        while not all((self.folder / f"{name}.sock").exists() for name in ("nb", "sb")):
            assert time.monotonic() < until
            time.sleep(0.01)

    def stop(self) -> None:
        for server in self.servers.values():
            server.kill()
            server.wait()

    def close(self) -> None:
        self.fabric.close()
        self.stop()

    def nbctl(self, *args: str) -> str:
        return self.ctl("ovn-nbctl", "nb", *args)

    def ctl(self, tool: str, name: str, *args: str) -> str:
        command = [tool, f"--db={self.remote(name)}", "--no-leader-only", "--timeout=5", *args]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, (args, done.stderr)
        return done.stdout.strip()

    def column(self, table: str, record: str, column: str) -> str:
        return self.nbctl("--if-exists", "get", table, record, column)

    def written(self) -> int:
        return (self.folder / "nb.db").stat().st_size

    def has(self, kind: Kind, id: str) -> bool:
        return id in self.nbctl("--bare", "--columns=_uuid", "list", TABLES[kind])

    def forget(self, kind: Kind, id: str) -> None:
        match kind:
            case Kind.NETWORK:
                self.nbctl("ls-del", id)
            case Kind.PORT:
                self.nbctl("lsp-del", id)
            case Kind.ROUTER:
                self.nbctl("lr-del", id)
            case Kind.SECURITY_GROUP:
                self.nbctl("pg-del", ovn_acl.group_name(id))
            case Kind.FLOATING_IP:
                router = self.nbctl("--bare", "--columns=name", "find", "Logical_Router", f"nat{{>=}}{id}")
                self.nbctl("remove", "Logical_Router", router, "nat", id)

    def spoil(self, port: Port) -> None:
        self.nbctl("lsp-set-addresses", port.id, "02:00:00:00:00:99")

    def plug(self, port_id: str, up: bool = True) -> None:
        found = self.ctl("ovn-sbctl", "sb", "--bare", "--columns=_uuid", "find", "Port_Binding", f"logical_port={port_id}")
        if found:
            self.ctl("ovn-sbctl", "sb", "set", "Port_Binding", found, f"up={'true' if up else 'false'}")
            return
        key = str(int(port_id[:4], 16) or 1)
        self.ctl(
            "ovn-sbctl", "sb", "--id=@d", "create", "Datapath_Binding", f"tunnel_key={key}",
            "--", "create", "Port_Binding", "datapath=@d", f"logical_port={port_id}", "tunnel_key=1", f"up={'true' if up else 'false'}",
        )  # fmt: skip


@pytest.fixture(params=["fake", pytest.param("ovn", marks=pytest.mark.host)])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made: Any = FakeBed() if request.param == "fake" else OvnBed(tmp_path)
    yield made
    made.close()


class World:
    """A small tenant: a network behind a router with a floating IP, and a security group."""

    def __init__(self) -> None:
        subnet = Subnet(
            id=new_id(), cidr="10.1.0.0/24", ip_version=4, gateway_ip="10.1.0.1", dns_nameservers=("9.9.9.9", "1.1.1.1"),
            host_routes=(HostRoute("10.9.0.0/16", "10.1.0.7"),),
        )  # fmt: skip
        subnet6 = Subnet(
            id=new_id(), cidr="fd00:1::/64", ip_version=6, gateway_ip="fd00:1::1", ipv6_address_mode="dhcpv6-stateless"
        )
        metadata = MetadataAddress(mac_address="fa:16:3e:00:00:02", ip_addresses=("10.1.0.2",))
        self.network = Network(id=new_id(), dns_domain="example.org.", subnets=(subnet, subnet6), metadata=metadata)
        self.outside = Network(
            id=new_id(), network_type="vlan", physical_network="physnet1", segmentation_id=7, external=True, mtu=1500
        )
        rules = (
            SecurityGroupRule(id=new_id(), direction="egress"),
            SecurityGroupRule(id=new_id(), direction="egress", ethertype="IPv6"),
            SecurityGroupRule(id=new_id(), direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22),
        )
        self.group = SecurityGroup(id=new_id(), rules=rules)
        self.group = replace(
            self.group,
            rules=(*rules, SecurityGroupRule(id=new_id(), direction="ingress", remote_group_id=self.group.id)),
        )
        self.port = Port(
            id=new_id(), network_id=self.network.id, mac_address="fa:16:3e:00:00:0a",
            fixed_ips=(FixedIP(subnet.id, "10.1.0.10"), FixedIP(subnet6.id, "fd00:1::10")),
            security_group_ids=(self.group.id,), dns_name="Web",
        )  # fmt: skip
        self.leg = Port(
            id=new_id(), network_id=self.network.id, mac_address="fa:16:3e:00:00:01", port_kind=PortKind.ROUTER_INTERFACE,
            fixed_ips=(FixedIP(subnet.id, "10.1.0.1"),),
        )  # fmt: skip
        self.way_out = Port(
            id=new_id(), network_id=self.outside.id, mac_address="fa:16:3e:00:01:01", port_kind=PortKind.ROUTER_GATEWAY
        )
        self.router = Router(
            id=new_id(),
            interfaces=(
                RouterInterface(
                    port_id=self.leg.id, network_id=self.network.id, mac_address=self.leg.mac_address, networks=("10.1.0.1/24",)
                ),
            ),
            gateway=RouterGateway(
                port_id=self.way_out.id, network_id=self.outside.id, mac_address=self.way_out.mac_address,
                networks=("172.24.4.10/24",), gateway_ips=("172.24.4.1",),
                chassis=(GatewayChassis("host1", 2), GatewayChassis("host2", 1)),
            ),
            snat_cidrs=("10.1.0.0/24",),
            routes=(HostRoute("10.8.0.0/16", "10.1.0.9"),),
        )  # fmt: skip
        self.floating_ip = FloatingIP(
            id=new_id(), router_id=self.router.id, floating_ip_address="172.24.4.20", fixed_ip_address="10.1.0.10",
            port_id=self.port.id,
        )  # fmt: skip

    @property
    def things(self) -> list[Thing]:
        return [
            self.network, self.outside, self.group, self.port, self.leg, self.way_out, self.router, self.floating_ip,
        ]  # fmt: skip

    def ensure(self, fabric: Fabric) -> None:
        for thing in self.things:
            fabric.ensure(thing)


@pytest.fixture
def world() -> World:
    return World()


def test_ensured_twice_is_written_once(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    assert all(bed.has(*ref(thing)) for thing in world.things)
    written = bed.written()
    world.ensure(bed.fabric)
    bed.fabric.ensure(replace(world.group, rules=tuple(reversed(world.group.rules))))
    assert bed.written() == written


def test_removed_twice_is_gone(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    for _ in range(2):
        for thing in reversed(world.things):
            bed.fabric.remove(*ref(thing))
    assert not any(bed.has(*ref(thing)) for thing in world.things)
    assert bed.fabric.resync([]).removed == ()


def test_removal_in_any_order(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    for thing in world.things:  # the router still has its floating IP, the network its ports
        bed.fabric.remove(*ref(thing))
    assert not any(bed.has(*ref(thing)) for thing in world.things)


def test_ports_and_floating_ips_wait_for_what_they_stand_on(bed: Any, world: World) -> None:
    with pytest.raises(NotReady, match=world.network.id):
        bed.fabric.ensure(world.port)
    with pytest.raises(NotReady, match=world.router.id):
        bed.fabric.ensure(world.floating_ip)


def test_ensured_in_any_order(bed: Any, world: World) -> None:
    for thing in (world.router, world.floating_ip, world.network, world.outside, world.way_out, world.leg, world.port, world.group):
        bed.fabric.ensure(thing)
    report = bed.fabric.resync(world.things)
    assert (report.created, report.changed, report.removed) == ((), (), ())


def test_resync_of_what_is_so_writes_nothing(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    written = bed.written()
    report = bed.fabric.resync(world.things)
    assert (report.created, report.changed, report.removed) == ((), (), ())
    assert bed.written() == written


@pytest.mark.parametrize("kind", list(Kind))
def test_resync_brings_back_what_was_deleted_behind_its_back(bed: Any, world: World, kind: Kind) -> None:
    world.ensure(bed.fabric)
    lost = next(thing for thing in world.things if thing.kind is kind)
    bed.forget(kind, lost.id)
    report = bed.fabric.resync(world.things)
    assert ref(lost) in report.created
    assert bed.fabric.resync(world.things).created == ()
    written = bed.written()
    world.ensure(bed.fabric)
    assert bed.written() == written


def test_ensure_brings_back_what_was_deleted_behind_its_back(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    bed.forget(Kind.PORT, world.port.id)
    bed.fabric.ensure(world.port)
    report = bed.fabric.resync(world.things)
    assert (report.created, report.changed, report.removed) == ((), (), ())


def test_resync_mends_what_was_altered_and_removes_what_is_not_wanted(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    bed.spoil(world.port)
    extra = replace(world.port, id=new_id(), dns_name="")
    bed.fabric.ensure(extra)
    report = bed.fabric.resync(world.things)
    assert report.created == ()
    assert ref(world.port) in report.changed
    assert report.removed == (ref(extra),)
    assert not bed.has(Kind.PORT, extra.id)


def test_changes_are_taken_up(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    world.port = replace(
        world.port, admin_state_up=False, security_group_ids=(), dns_name="db", allowed_address_pairs=(AddressPair("10.1.0.99"),)
    )
    world.router = replace(world.router, gateway=None, routes=())
    world.group = replace(world.group, rules=world.group.rules[:1])
    world.network = replace(world.network, subnets=world.network.subnets[:1], dns_domain="")
    for thing in (world.port, world.router, world.group, world.network):
        bed.fabric.ensure(thing)
    report = bed.fabric.resync(world.things)
    assert (report.created, report.changed, report.removed) == ((), (), ())


def test_ports_come_up_and_watchers_hear_of_it(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    heard: list[tuple[str, bool]] = []
    told = threading.Condition()

    def hear(port_id: str, up: bool) -> None:
        with told:
            heard.append((port_id, up))
            told.notify_all()

    bed.fabric.watch(hear)
    assert bed.fabric.ports().get(world.port.id) is None or not bed.fabric.ports()[world.port.id].up
    for up in (True, False):
        bed.plug(world.port.id, up)
        with told:
            assert told.wait_for(lambda: heard[-1:] == [(world.port.id, up)], timeout=5)  # noqa: B023
        assert bed.fabric.ports()[world.port.id].up is up


def test_while_the_fabric_is_down_calls_say_so_and_go_on_after_it(bed: Any, world: World) -> None:
    bed.fabric.ensure(world.network)
    bed.stop()
    with pytest.raises(FabricUnavailable):
        bed.fabric.ensure(world.port)
    with pytest.raises(FabricUnavailable):
        bed.fabric.ports()
    health = bed.fabric.check()
    assert not health.ok
    assert health.reason
    bed.start()
    until = time.monotonic() + 15
    while not bed.fabric.check().ok and time.monotonic() < until:
        time.sleep(0.05)
    bed.fabric.ensure(world.port)
    assert bed.fabric.check().ok
    assert bed.has(Kind.PORT, world.port.id)


def test_many_threads_share_it(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    ports = [
        replace(world.port, id=new_id(), dns_name="", fixed_ips=(FixedIP(world.network.subnets[0].id, f"10.1.0.{n}"),))
        for n in range(20, 60)
    ]
    failed: list[BaseException] = []

    def work(mine: list[Port]) -> None:
        try:
            for port in mine:
                bed.fabric.ensure(port)
        except FabricError as wrong:
            failed.append(wrong)

    threads = [threading.Thread(target=work, args=(ports[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    report = bed.fabric.resync([*world.things, *ports])
    assert (report.created, report.changed, report.removed) == ((), (), ())


# --- the fake's knobs -------------------------------------------------------------------------------------


def test_the_fake_fails_and_loses_replies_when_told(world: World) -> None:
    fabric = FakeFabric()
    fabric.fail_next(2)
    for _ in range(2):
        with pytest.raises(FabricUnavailable):
            fabric.ensure(world.network)
    assert fabric.things == {}
    fabric.lose_reply()
    with pytest.raises(FabricUnavailable):
        fabric.ensure(world.network)
    assert list(fabric.things) == [ref(world.network)]
    fabric.plug(world.port.id, "host1")
    fabric.ensure(replace(world.port, requested_chassis=("host2",)))
    assert not fabric.ports()[world.port.id].up
    fabric.ensure(world.port)
    assert fabric.ports()[world.port.id].chassis == "host1"


# --- OVN's rows -------------------------------------------------------------------------------------------


@pytest.fixture
def ovn(tmp_path: Path) -> Iterator[OvnBed]:
    made = OvnBed(tmp_path)
    yield made
    made.close()


@pytest.mark.host
def test_dhcp_options_follow_subnet_and_port(ovn: OvnBed, world: World) -> None:
    subnet = world.network.subnets[0]
    world.ensure(ovn.fabric)
    options = ovn.column("DHCP_Options", subnet.id, "options")
    routes = "{169.254.169.254/32,10.1.0.2, 10.9.0.0/16,10.1.0.7, 0.0.0.0/0,10.1.0.1}"
    for part in (f'classless_static_route="{routes}"', 'mtu="1442"', 'router="10.1.0.1"', 'server_id="10.1.0.1"'):
        assert part in options
    assert 'dhcpv6_stateless="true"' in ovn.column("DHCP_Options", world.network.subnets[1].id, "options")
    assert ovn.column("Logical_Switch_Port", world.port.id, "dhcpv4_options") == subnet.id
    ovn.fabric.ensure(replace(world.port, extra_dhcp_opts=(DHCPOption("bootfile-name", "http://10.1.0.2/x.ipxe"),)))
    own = ovn.column("Logical_Switch_Port", world.port.id, "dhcpv4_options")
    assert own not in ("[]", subnet.id)
    assert r'bootfile_name="\"http://10.1.0.2/x.ipxe\""' in ovn.column("DHCP_Options", own, "options")
    ovn.fabric.ensure(replace(world.network, subnets=(replace(subnet, dns_nameservers=("4.4.4.4",)),)))
    assert 'dns_server="4.4.4.4"' in ovn.column("DHCP_Options", own, "options")
    ovn.fabric.ensure(replace(world.network, subnets=(replace(subnet, enable_dhcp=False),)))
    assert ovn.column("Logical_Switch_Port", world.port.id, "dhcpv4_options") == "[]"
    assert ovn.nbctl("--bare", "--columns=_uuid", "list", "DHCP_Options") == ""
    ovn.fabric.ensure(world.network)
    assert ovn.column("Logical_Switch_Port", world.port.id, "dhcpv4_options") == own
    ovn.fabric.remove(Kind.NETWORK, world.network.id)
    assert ovn.nbctl("--bare", "--columns=_uuid", "list", "DHCP_Options") == ""


@pytest.mark.host
def test_names_follow_port_and_network(ovn: OvnBed, world: World) -> None:
    world.ensure(ovn.fabric)
    records = ovn.nbctl("--bare", "--columns=records", "find", "DNS", "records!={}")
    assert records == "web=10.1.0.10 fd00:1::10 web.example.org=10.1.0.10 fd00:1::10"
    ovn.fabric.ensure(replace(world.network, dns_domain=""))
    assert ovn.nbctl("--bare", "--columns=records", "find", "DNS", "records!={}") == "web=10.1.0.10 fd00:1::10"
    ovn.fabric.remove(Kind.PORT, world.port.id)
    assert ovn.nbctl("--bare", "--columns=records", "find", "DNS", "records!={}") == ""


@pytest.mark.host
def test_rows_of_others_stay(ovn: OvnBed, world: World) -> None:
    world.ensure(ovn.fabric)
    ovn.nbctl("ls-add", "theirs", "--", "lsp-add", "theirs", "theirs1", "--", "lsp-add", world.network.id, "guest-of-ours")
    ovn.nbctl("lr-route-add", world.router.id, "10.99.0.0/16", "10.1.0.99")
    ovn.nbctl("set", "Logical_Switch", world.network.id, "external_ids:note=hello")
    written = ovn.written()
    ovn.fabric.resync(world.things)
    world.ensure(ovn.fabric)
    assert ovn.written() == written
    ovn.fabric.ensure(replace(world.network, dns_domain="other."))
    assert ovn.column("Logical_Switch", world.network.id, "external_ids:note") == "hello"
    ovn.fabric.resync([])
    assert set(ovn.nbctl("--bare", "--columns=name", "list", "Logical_Switch").split()) == {"theirs"}
    for table in ("Port_Group", "Logical_Router", "DNS", "DHCP_Options"):
        assert ovn.nbctl("--bare", "--columns=_uuid", "list", table) == ""


@pytest.mark.host
def test_resync_mends_every_kind_of_drift(ovn: OvnBed, world: World) -> None:
    world.ensure(ovn.fabric)
    before = _dump(ovn)
    group = ovn_acl.group_name(world.group.id)
    ovn.nbctl("acl-del", group)
    ovn.nbctl("clear", "Port_Group", "pg_drop", "ports")
    ovn.nbctl("lrp-del", f"lrp-{world.leg.id}")
    ovn.nbctl("lr-route-del", world.router.id, "10.8.0.0/16")
    ovn.nbctl("lr-nat-del", world.router.id, "snat", "10.1.0.0/24")
    ovn.nbctl("clear", "Logical_Router_Port", f"lrp-{world.way_out.id}", "gateway_chassis")
    ovn.nbctl("destroy", "DHCP_Options", world.network.subnets[0].id)
    ovn.nbctl("--all", "destroy", "DNS")
    ovn.nbctl("lsp-set-options", world.port.id, "requested-chassis=elsewhere")
    ovn.nbctl("acl-add", "pg_drop", "to-lport", "2000", "ip", "allow")  # not marked: an operator's own
    ovn.nbctl("set", "Port_Group", group, f"ports=[{world.leg.id}]")
    report = ovn.fabric.resync(world.things)
    assert report.created == ()
    assert set(report.changed) >= {ref(world.network), ref(world.port), ref(world.router), ref(world.group)}
    ovn.nbctl("--type=port-group", "acl-del", "pg_drop", "to-lport", "2000", "ip")
    assert _dump(ovn) == before


def _dump(ovn: OvnBed) -> list[str]:
    """All rows, except for the one that OVN itself makes."""
    command = ["ovsdb-client", "dump", ovn.remote("nb"), "OVN_Northbound"]
    tables = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n\n")
    return [table for table in tables if not table.startswith("NB_Global")]


@pytest.mark.host
def test_a_foreign_row_in_the_way_is_named(ovn: OvnBed, world: World) -> None:
    ovn.fabric.ensure(world.network)
    ovn.nbctl("ls-add", "theirs", "--", "lsp-add", "theirs", world.port.id)
    with pytest.raises(FabricError, match=world.port.id):
        ovn.fabric.ensure(world.port)


@pytest.mark.host
def test_a_stuck_database_does_not_hold_callers_for_ever(ovn: OvnBed, world: World) -> None:
    ovn.fabric.ensure(world.network)
    ovn.servers["nb"].send_signal(19)
    try:
        with pytest.raises(FabricUnavailable):
            ovn.fabric.ensure(world.port)
    finally:
        ovn.servers["nb"].send_signal(18)
    ovn.fabric.ensure(world.port)
    assert ovn.has(Kind.PORT, world.port.id)


@pytest.mark.host
def test_a_database_that_comes_later_is_found_by_watchers(ovn: OvnBed, world: World) -> None:
    ovn.fabric.ensure(world.network)
    ovn.stop()
    late = OvnFabric(ovn.remote("nb"), ovn.remote("sb"), timeout=3.0)
    try:
        heard = threading.Event()
        late.watch(lambda *_: heard.set())
        began = time.monotonic()
        with pytest.raises(FabricUnavailable, match="does not answer"):
            late.ensure(world.port)
        assert time.monotonic() - began < 1.0
        ovn.start()
        ovn.plug(world.port.id)
        assert heard.wait(10)
        late.ensure(world.port)
    finally:
        late.close()
    with pytest.raises(FabricUnavailable, match="closed"):
        late.ensure(world.port)


@pytest.mark.host
@pytest.mark.parametrize("drift", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_any_way_there_leads_to_the_same_rows(tmp_path: Path, seed: int, drift: bool) -> None:
    """Whatever was ensured, removed and lost before: in the end the database is as if made from nothing."""
    chance = random.Random(seed)
    folders = [tmp_path / "long", tmp_path / "short"]
    for folder in folders:
        folder.mkdir()
    long, short = (OvnBed(folder) for folder in folders)
    try:
        world = World()
        wanted = {ref(thing): thing for thing in world.things}
        world.ensure(long.fabric)
        for _ in range(60):
            thing = chance.choice(world.things)
            changed = _varied(thing, world, chance)
            match chance.choice(["ensure", "ensure", "ensure", "remove", "forget" if drift else "ensure"]):
                case "ensure":
                    wanted[ref(thing)] = changed
                    with contextlib.suppress(NotReady):
                        long.fabric.ensure(changed)
                case "remove":
                    long.fabric.remove(*ref(thing))
                case "forget":
                    if long.has(*ref(thing)):
                        long.forget(*ref(thing))
        for one in wanted.values():  # in this order, what stands on others comes after them
            long.fabric.ensure(one)
        report = long.fabric.resync(wanted.values())
        if not drift:  # else what hung on lost rows may still lie about
            assert (report.created, report.changed, report.removed) == ((), (), ())
        short.fabric.resync(wanted.values())
        assert _dump(long) == _dump(short)
    finally:
        long.close()
        short.close()


def _varied(thing: Thing, world: World, chance: random.Random) -> Thing:
    match thing:
        case Network():
            subnets = tuple(
                replace(subnet, enable_dhcp=chance.random() < 0.7, dns_nameservers=chance.choice([(), ("8.8.8.8",)]))
                for subnet in thing.subnets[: chance.randint(0, 2)]
            )
            kind = chance.choice(["geneve", "flat", "vlan"])
            physical = None if kind == "geneve" else "physnet1"
            return replace(
                thing, subnets=subnets, dns_domain=chance.choice(["", "a.", "b"]), network_type=kind, physical_network=physical,
                mtu=chance.choice([1442, 1500]),
            )  # fmt: skip
        case Port():
            return replace(
                thing,
                admin_state_up=chance.random() < 0.5,
                port_security_enabled=chance.random() < 0.7,
                dns_name=chance.choice(["", "x", "y"]) if thing is world.port else "",
                security_group_ids=chance.choice([(), (world.group.id,)]),
                extra_dhcp_opts=chance.choice([(), (DHCPOption("mtu", "1300"),), (DHCPOption("dhcp_disabled", "true"),)]),
                requested_chassis=chance.choice([(), ("a",), ("a", "b")]),
            )
        case Router():
            return replace(
                thing,
                gateway=chance.choice([None, thing.gateway, replace(thing.gateway, chassis=())]) if thing.gateway else None,
                enable_snat=chance.random() < 0.5,
                routes=thing.routes[: chance.randint(0, 1)],
                interfaces=thing.interfaces[: chance.randint(0, 1)],
            )
        case FloatingIP():
            return replace(thing, external_mac=chance.choice([None, "fa:16:3e:09:09:09"]))
        case SecurityGroup():
            return replace(thing, rules=thing.rules[: chance.randint(0, 4)], stateful=chance.random() < 0.5)


@pytest.mark.parametrize(
    ("rule", "match"),
    [
        ({}, "ip4"),
        ({"protocol": "any", "ethertype": "IPv6"}, "ip6"),
        ({"protocol": "tcp", "port_range_min": 22, "port_range_max": 22}, "ip4 && tcp && tcp.dst == 22"),
        ({"protocol": "17", "port_range_min": 1, "port_range_max": 9}, "ip4 && udp && udp.dst >= 1 && udp.dst <= 9"),
        ({"protocol": "icmp"}, "ip4 && icmp4"),
        ({"protocol": "icmp", "port_range_min": 8, "port_range_max": 0}, "ip4 && icmp4 && icmp4.type == 8 && icmp4.code == 0"),
        ({"protocol": "ipv6-icmp", "ethertype": "IPv6", "port_range_min": 128}, "ip6 && icmp6 && icmp6.type == 128"),
        ({"protocol": "icmp", "ethertype": "IPv6"}, "ip6 && icmp6"),
        ({"protocol": "vrrp"}, "ip4 && ip.proto == 112"),
        ({"protocol": "89"}, "ip4 && ip.proto == 89"),
        ({"remote_ip_prefix": "0.0.0.0/0"}, "ip4"),
        ({"remote_ip_prefix": "10.0.0.7/24"}, "ip4 && ip4.src == 10.0.0.0/24"),
    ],
)
def test_rules_in_ovn_words(rule: dict[str, Any], match: str) -> None:
    group = "00000000-0000-0000-0000-000000000001"
    said = ovn_acl.match_of(group, SecurityGroupRule(id="r", direction="ingress", **rule))
    assert said == f"outport == @pg_00000000_0000_0000_0000_000000000001 && {match}"


def test_remote_groups_are_address_sets_and_ports_of_odd_protocols_match_nothing() -> None:
    group = "00000000-0000-0000-0000-000000000001"
    rule = SecurityGroupRule(id="r", direction="egress", remote_group_id=group)
    name = "pg_00000000_0000_0000_0000_000000000001"
    assert ovn_acl.match_of(group, rule) == f"inport == @{name} && ip4 && ip4.dst == ${name}_ip4"
    assert ovn_acl.match_of(group, SecurityGroupRule(id="r", direction="egress", protocol="dccp", port_range_min=1)) is None
