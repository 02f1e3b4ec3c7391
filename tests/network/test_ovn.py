"""The rows that the OVN driver writes, looked at with OVN's own tools, on databases without northd or hosts."""

import contextlib
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from stackling.network.driver import (
    DHCPOption,
    FabricError,
    FabricUnavailable,
    FloatingIP,
    Kind,
    Network,
    NotReady,
    Port,
    Router,
    SecurityGroup,
    SecurityGroupRule,
    Thing,
    ref,
)
from stackling.network.drivers import ovn_acl
from stackling.network.drivers.ovn import OvnFabric
from tests.network.fabric_bed import OvnBed, World


@pytest.fixture
def world() -> World:
    return World()


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
    for part in (
        f'classless_static_route="{routes}"',
        'mtu="1442"',
        'router="10.1.0.1"',
        'server_id="10.1.0.1"',
    ):
        assert part in options
    assert 'dhcpv6_stateless="true"' in ovn.column("DHCP_Options", world.network.subnets[1].id, "options")
    assert ovn.column("Logical_Switch_Port", world.port.id, "dhcpv4_options") == subnet.id
    ovn.fabric.ensure(
        replace(world.port, extra_dhcp_opts=(DHCPOption("bootfile-name", "http://10.1.0.2/x.ipxe"),))
    )
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
    assert (
        ovn.nbctl("--bare", "--columns=records", "find", "DNS", "records!={}") == "web=10.1.0.10 fd00:1::10"
    )
    ovn.fabric.remove(Kind.PORT, world.port.id)
    assert ovn.nbctl("--bare", "--columns=records", "find", "DNS", "records!={}") == ""


@pytest.mark.host
def test_rows_of_others_stay(ovn: OvnBed, world: World) -> None:
    world.ensure(ovn.fabric)
    ovn.nbctl(
        "ls-add",
        "theirs",
        "--",
        "lsp-add",
        "theirs",
        "theirs1",
        "--",
        "lsp-add",
        world.network.id,
        "guest-of-ours",
    )
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
                replace(
                    subnet,
                    enable_dhcp=chance.random() < 0.7,
                    dns_nameservers=chance.choice([(), ("8.8.8.8",)]),
                )
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
                extra_dhcp_opts=chance.choice(
                    [(), (DHCPOption("mtu", "1300"),), (DHCPOption("dhcp_disabled", "true"),)]
                ),
                requested_chassis=chance.choice([(), ("a",), ("a", "b")]),
            )
        case Router():
            return replace(
                thing,
                gateway=chance.choice([None, thing.gateway, replace(thing.gateway, chassis=())])
                if thing.gateway
                else None,
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
        (
            {"protocol": "17", "port_range_min": 1, "port_range_max": 9},
            "ip4 && udp && udp.dst >= 1 && udp.dst <= 9",
        ),
        ({"protocol": "icmp"}, "ip4 && icmp4"),
        (
            {"protocol": "icmp", "port_range_min": 8, "port_range_max": 0},
            "ip4 && icmp4 && icmp4.type == 8 && icmp4.code == 0",
        ),
        (
            {"protocol": "ipv6-icmp", "ethertype": "IPv6", "port_range_min": 128},
            "ip6 && icmp6 && icmp6.type == 128",
        ),
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
    assert (
        ovn_acl.match_of(
            group, SecurityGroupRule(id="r", direction="egress", protocol="dccp", port_range_min=1)
        )
        is None
    )
