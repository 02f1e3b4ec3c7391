"""Ports and their addresses; the ports of servers."""

import pytest

from stackling.base import errors, jobs
from stackling.identity.actions import token
from stackling.network.actions import network as network_actions
from stackling.network.actions import port as port_actions
from stackling.network.actions import security_group as security_group_actions
from tests.network.api import V2, change, leg, listed, make, net, outside, remove, show, things


def addresses(port):
    return [f["ip_address"] for f in port["fixed_ips"]]


def test_a_port_gets_address_mac_and_default_group(cloud, alice):
    network, _ = net(alice)
    port = make(alice, "port", network_id=network["id"], name="p")
    (default,) = listed(alice, "security_group", "name=default")
    assert (addresses(port), port["status"], port["security_groups"]) == (
        ["10.0.0.3"],
        "DOWN",
        [default["id"]],
    )
    assert port["mac_address"].startswith("fa:16:3e:")
    assert "binding:host_id" not in port
    held = things(cloud, "port")[port["id"]]
    assert [f.ip_address for f in held.fixed_ips] == ["10.0.0.3"]
    cloud.fabric.set_up(port["id"])
    cloud.turn(40)
    assert show(alice, "port", port["id"])["status"] == "ACTIVE"
    remove(alice, "port", port["id"])
    assert port["id"] not in things(cloud, "port")


def test_addresses_are_given_once_and_run_out(cloud, alice):
    network = make(alice, "network")
    subnet = make(
        alice, "subnet", network_id=network["id"], cidr="10.0.0.0/24", ip_version=4, enable_dhcp=False,
        allocation_pools=[{"start": "10.0.0.10", "end": "10.0.0.12"}],
    )  # fmt: skip
    ports = [make(alice, "port", network_id=network["id"]) for _ in range(3)]
    assert [addresses(p) for p in ports] == [["10.0.0.10"], ["10.0.0.11"], ["10.0.0.12"]]
    assert make(alice, "port", network_id=network["id"], expect=409)["type"] == "IpAddressGenerationFailure"
    remove(alice, "port", ports[1]["id"])
    assert addresses(make(alice, "port", network_id=network["id"])) == ["10.0.0.11"]
    outside_pool = make(alice, "port", network_id=network["id"], fixed_ips=[{"ip_address": "10.0.0.50"}])
    assert outside_pool["fixed_ips"] == [{"subnet_id": subnet["id"], "ip_address": "10.0.0.50"}]
    again = make(alice, "port", network_id=network["id"], fixed_ips=[{"ip_address": "10.0.0.50"}], expect=409)
    assert again["type"] == "IpAddressAlreadyAllocated"


@pytest.mark.parametrize(
    "attributes, status, kind",
    [
        ({"fixed_ips": [{"ip_address": "10.7.0.1"}]}, 400, "InvalidIpForNetwork"),
        ({"fixed_ips": [{"ip_address": "10.0.0.255"}]}, 400, "InvalidIpForSubnet"),
        ({"fixed_ips": [{"ip_address": "here"}]}, 400, "InvalidInput"),
        ({"fixed_ips": [{"subnet_id": "nowhere"}]}, 404, "SubnetNotFound"),
        ({"fixed_ips": "all"}, 400, "HTTPBadRequest"),
        ({"mac_address": "01:00:00:00:00:01"}, 400, "InvalidInput"),
        ({"mac_address": "'; DROP TABLE port; --"}, 400, "InvalidInput"),
        ({"security_groups": ["nowhere"]}, 404, "SecurityGroupNotFound"),
        ({"allowed_address_pairs": [{"ip_address": "224.0.0.5"}]}, 400, "InvalidInput"),
        (
            {"allowed_address_pairs": [{"ip_address": "10.0.0.9"}, {"ip_address": "10.0.0.9"}]},
            400,
            "DuplicateAddressPairInRequest",
        ),
        ({"extra_dhcp_opts": [{"opt_name": "tftp", "opt_value": " "}]}, 400, "InvalidInput"),
        ({"binding:host_id": "n1"}, 403, "PolicyNotAuthorized"),
        ({"device_owner": "network:router_interface"}, 403, "PolicyNotAuthorized"),
        ({"binding:vnic_type": "direct"}, 400, "InvalidInput"),
    ],
)
def test_bad_input_for_a_port_is_refused(cloud, alice, bob, admin, attributes, status, kind):
    shared, _ = net(admin, "10.0.0.0/24", shared=True)
    own, _ = net(alice)
    network = shared if "device_owner" in attributes else own
    got = make(
        alice,
        "port",
        expect=status,
        **{"network_id": network["id"], **{k.replace(":", "__"): v for k, v in attributes.items()}},
    )
    assert got["type"] == kind, got


def test_a_port_changes(cloud, alice, admin):
    network, subnet = net(alice)
    port = make(alice, "port", network_id=network["id"])
    other = make(alice, "subnet", network_id=network["id"], cidr="10.1.0.0/24", ip_version=4)
    group = make(alice, "security_group", name="web")
    mine = addresses(port)[0]
    made = change(
        alice, "port", port["id"],
        fixed_ips=[{"subnet_id": subnet["id"], "ip_address": mine}, {"subnet_id": other["id"]}],
        security_groups=[group["id"]],
        allowed_address_pairs=[{"ip_address": "10.0.0.0/28"}],
        extra_dhcp_opts=[{"opt_name": "bootfile-name", "opt_value": "x"}],
        admin_state_up=False,
    )  # fmt: skip
    assert addresses(made)[0] == mine
    assert addresses(made)[1].startswith("10.1.0.")
    assert made["allowed_address_pairs"] == [
        {"ip_address": "10.0.0.0/28", "mac_address": port["mac_address"]}
    ]
    held = things(cloud, "port")[port["id"]]
    assert (held.admin_state_up, held.security_group_ids, held.extra_dhcp_opts[0].opt_value) == (
        False,
        (group["id"],),
        "x",
    )
    assert (
        change(alice, "port", port["id"], expect=409, port_security_enabled=False)["type"]
        == "PortSecurityPortHasSecurityGroup"
    )
    change(
        alice, "port", port["id"], port_security_enabled=False, security_groups=[], allowed_address_pairs=[]
    )
    assert things(cloud, "port")[port["id"]].port_security_enabled is False
    bound = change(admin, "port", port["id"], binding__host_id="n1", binding__profile={"a": "b"})
    assert (bound["binding:host_id"], bound["binding:vif_type"], bound["binding:profile"]) == (
        "n1",
        "ovs",
        {"a": "b"},
    )
    assert things(cloud, "port")[port["id"]].requested_chassis == ("n1",)


def test_ports_are_found_by_what_they_have(cloud, alice):
    network, subnet = net(alice)
    port = make(alice, "port", network_id=network["id"], name="p", device_id="d1")
    group = port["security_groups"][0]
    for query in (
        "name=p", "device_id=d1&device_id=d2", f"fixed_ips=ip_address={addresses(port)[0]}", "fixed_ips=ip_address_substr=10.0.0.3",
        f"fixed_ips=subnet_id={subnet['id']}&device_id=d1", f"security_groups={group}", f"mac_address={port['mac_address']}", "status=DOWN&name=p",
    ):  # fmt: skip
        assert [p["id"] for p in listed(alice, "port", query)] == [port["id"]], query
    assert listed(alice, "port", "status=ACTIVE&name=p") == []


def test_guests_of_slaac_subnets_have_the_address_that_they_make(cloud, alice):
    network, _ = net(alice)
    early = make(alice, "port", network_id=network["id"], mac_address="fa:16:3e:00:00:01")
    subnet = make(
        alice,
        "subnet",
        network_id=network["id"],
        cidr="fd00:1::/64",
        ip_version=6,
        ipv6_ra_mode="slaac",
        ipv6_address_mode="slaac",
    )
    late = make(alice, "port", network_id=network["id"], mac_address="fa:16:3e:00:00:02")
    assert addresses(show(alice, "port", early["id"])) == ["10.0.0.3", "fd00:1::f816:3eff:fe00:1"]
    assert addresses(late)[1] == "fd00:1::f816:3eff:fe00:2"
    assert len(things(cloud, "port")[early["id"]].fixed_ips) == 2
    refused = make(
        alice,
        "port",
        network_id=network["id"],
        fixed_ips=[{"subnet_id": subnet["id"], "ip_address": "fd00:1::9"}],
        expect=400,
    )
    assert refused["type"] == "InvalidInput"
    router = make(alice, "router")
    leg(alice, router["id"], subnet_id=subnet["id"])
    assert things(cloud, "router")[router["id"]].interfaces[0].ipv6_ra_mode == "slaac"
    assert remove(alice, "subnet", subnet["id"], expect=409)["type"] == "SubnetInUse"
    leg(alice, router["id"], verb="remove", subnet_id=subnet["id"])
    remove(alice, "subnet", subnet["id"])
    assert addresses(show(alice, "port", late["id"])) == ["10.0.0.4"]


def test_stateful_subnets_hand_out_addresses_of_their_pool(cloud, alice):
    network, subnet = net(alice, "fd00:2::/64")
    assert subnet["gateway_ip"] == "fd00:2::1"
    assert addresses(make(alice, "port", network_id=network["id"]))[0].startswith("fd00:2::")


def test_an_unshared_external_network_takes_no_guests(cloud, alice):
    public = outside(alice)
    make(alice, "port", network_id=public["id"], expect=403)


# -- for servers -------------------------------------------------------------------------------------------------------


def caller(cloud, user):
    return token.authenticator(cloud.cloud)(user.token)


def test_ports_of_a_server_come_go_and_are_described(cloud, alice, bob):
    c, who = cloud.cloud, caller(cloud, alice)
    network, _ = net(alice, name="blue")
    given = make(alice, "port", network_id=network["id"], name="given")
    web = make(alice, "security_group", name="web")
    with cloud.db.begin() as tx:
        assert [n.id for n in network_actions.for_servers(tx, who)] == [network["id"]]
        groups = security_group_actions.resolve(tx, c, who, ["web", "default"])
        assert groups[0] == web["id"]
        with pytest.raises(errors.NotFound):
            security_group_actions.resolve(tx, c, who, ["nope"])
        made = port_actions.create_for_server(
            tx,
            c,
            who,
            server_id="s1",
            network_id=network["id"],
            fixed_ip="10.0.0.77",
            security_group_ids=groups,
        )
        port_actions.take_for_server(tx, c, who, given["id"], server_id="s1")
    with cloud.db.begin() as tx, pytest.raises(errors.Conflict):
        port_actions.take_for_server(tx, c, who, given["id"], server_id="s2")
    with cloud.db.begin() as tx, pytest.raises(errors.NotFound):
        port_actions.take_for_server(tx, c, caller(cloud, bob), given["id"], server_id="s2")
    with cloud.db.begin() as tx:
        port_actions.bind(tx, c, "s1", "n1")
        first, second = port_actions.plugs(tx, "s1")
        assert set(port_actions.plugs_of(tx, ["s1", "s2"])) == {"s1", "s2"}
    assert (first.port_id, first.created_by_server, second.port_id, second.created_by_server) == (
        made.id,
        True,
        given["id"],
        False,
    )
    assert (first.network_name, first.host, first.security_group_names) == ("blue", "n1", ("default", "web"))
    (ip,) = first.fixed_ips
    assert (ip.ip_address, ip.prefixlen, ip.gateway_ip) == ("10.0.0.77", 24, "10.0.0.1")
    assert first.metadata.cidrs == ("10.0.0.2/24",)
    assert things(cloud, "port")[made.id].requested_chassis == ("n1",)
    for _ in range(2):
        with cloud.db.begin() as tx:
            port_actions.release(tx, c, first.port_id, "s1")
            port_actions.release(tx, c, second.port_id, "s1")
    assert alice.get(f"{V2}/ports/{made.id}").status == 404
    free = show(alice, "port", given["id"])
    assert (free["device_id"], free["device_owner"]) == ("", "")


def test_a_port_that_comes_up_wakes_its_server(cloud, alice):
    c, who = cloud.cloud, caller(cloud, alice)
    network, _ = net(alice)
    with cloud.db.begin() as tx:
        row = port_actions.create_for_server(tx, c, who, server_id="s1", network_id=network["id"], host="n1")
        later = cloud.clock.now()
        jobs.start(tx, "compute.server", "s1", now=later, delay=500)
    with cloud.db.begin() as tx:
        assert port_actions.seen(tx, c, row.id, True)
        assert not port_actions.seen(tx, c, row.id, True)
        due = tx.execute(jobs.job.select().where(jobs.job.c.kind == "compute.server")).one().due_at
        tx.execute(jobs.job.delete().where(jobs.job.c.kind == "compute.server"))
    assert due <= cloud.clock.now()


def test_an_external_network_is_refused_to_a_server_of_a_member(cloud, alice):
    who = caller(cloud, alice)
    public = outside(alice)
    with cloud.db.begin() as tx, pytest.raises(errors.Forbidden):
        port_actions.create_for_server(tx, cloud.cloud, who, server_id="s1", network_id=public["id"])
    bare = make(alice, "network")
    with cloud.db.begin() as tx, pytest.raises(errors.BadRequest):
        port_actions.create_for_server(tx, cloud.cloud, who, server_id="s1", network_id=bare["id"])
