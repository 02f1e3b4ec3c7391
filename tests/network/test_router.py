"""Routers and floating IPs."""

import pytest

from tests.network.api import V2, change, leg, listed, make, net, outside, remove, show, things


@pytest.fixture
def public(alice):
    return outside(alice)


def routed(user, public, cidr="10.0.0.0/24"):
    network, subnet = net(user, cidr)
    router = make(user, "router", name="r", external_gateway_info={"network_id": public["id"]})
    leg(user, router["id"], subnet_id=subnet["id"])
    return network, subnet, router


def test_a_router_joins_a_subnet_with_the_outside(cloud, alice, public):
    _, subnet, router = routed(alice, public)
    assert router["status"] == "ACTIVE"
    gateway = router["external_gateway_info"]
    assert (gateway["network_id"], gateway["enable_snat"]) == (public["id"], True)
    held = things(cloud, "router")[router["id"]]
    assert (held.interfaces[0].networks, held.snat_cidrs, held.gateway.gateway_ips) == (
        ("10.0.0.1/24",),
        ("10.0.0.0/24",),
        ("172.24.4.1",),
    )
    assert held.gateway.networks == (f"{gateway['external_fixed_ips'][0]['ip_address']}/24",)
    assert [c.name for c in held.gateway.chassis] == ["n1"]
    assert remove(alice, "router", router["id"], expect=409)["type"] == "RouterInUse"
    (own,) = listed(alice, "port", f"device_id={router['id']}")
    assert own["device_owner"] == "network:router_interface"
    assert remove(alice, "port", own["id"], expect=409)["type"] == "ServicePortInUse"
    assert leg(alice, router["id"], verb="remove", port_id=own["id"])["subnet_id"] == subnet["id"]
    remove(alice, "router", router["id"])
    assert things(cloud, "router") == {}
    assert [p for p in things(cloud, "port").values() if p.port_kind.startswith("router")] == []


def test_interfaces_that_do_not_fit_are_refused(cloud, alice, bob, public):
    _, subnet, router = routed(alice, public)
    _, same = net(alice, "10.0.0.0/25")
    _, bobs = net(bob, "10.5.0.0/24")
    leg(alice, router["id"], 400, subnet_id=subnet["id"])
    leg(alice, router["id"], 400, subnet_id=same["id"])
    leg(alice, router["id"], 404, subnet_id=bobs["id"])
    leg(alice, router["id"], 400)
    leg(alice, router["id"], 400, subnet_id=subnet["id"], port_id="x")
    leg(alice, router["id"], 404, port_id="x")
    leg(alice, router["id"], 404, verb="remove", subnet_id=same["id"])
    leg(bob, router["id"], 404, subnet_id=bobs["id"])
    third, third_subnet = net(alice, "10.6.0.0/24")
    port = make(alice, "port", network_id=third["id"], fixed_ips=[{"ip_address": "10.6.0.9"}])
    assert leg(alice, router["id"], port_id=port["id"])["subnet_ids"] == [third_subnet["id"]]
    leg(alice, router["id"], 409, port_id=port["id"])
    assert "10.6.0.9/24" in {n for i in things(cloud, "router")[router["id"]].interfaces for n in i.networks}


def test_gateways_come_change_and_go(cloud, alice, admin, public):
    _, _, router = routed(alice, public)
    network, _ = net(alice, "10.7.0.0/24")
    change(alice, "router", router["id"], expect=400, external_gateway_info={"network_id": network["id"]})
    assert (
        change(alice, "router", router["id"], expect=404, external_gateway_info={"network_id": router["id"]})[
            "type"
        ]
        == "NetworkNotFound"
    )
    change(
        alice,
        "router",
        router["id"],
        expect=403,
        external_gateway_info={"network_id": public["id"], "enable_snat": False},
    )
    made = change(
        admin, "router", router["id"],
        external_gateway_info={"network_id": public["id"], "enable_snat": False, "external_fixed_ips": [{"ip_address": "172.24.4.200"}]},
    )  # fmt: skip
    assert made["external_gateway_info"]["external_fixed_ips"][0]["ip_address"] == "172.24.4.200"
    assert things(cloud, "router")[router["id"]].enable_snat is False
    assert change(alice, "router", router["id"], external_gateway_info={})["external_gateway_info"] is None
    assert things(cloud, "router")[router["id"]].gateway is None


def test_extra_routes(cloud, alice, public):
    _, _, router = routed(alice, public)
    one, two = (
        {"destination": "10.50.0.0/16", "nexthop": "10.0.0.9"},
        {"destination": "10.51.0.0/16", "nexthop": "10.0.0.9"},
    )
    assert change(alice, "router", router["id"], routes=[one])["routes"] == [one]
    change(
        alice,
        "router",
        router["id"],
        expect=400,
        routes=[{"destination": "10.52.0.0/16", "nexthop": "192.0.2.1"}],
    )
    got = alice.put(f"{V2}/routers/{router['id']}/add_extraroutes", {"router": {"routes": [one, two]}})
    assert got.json["router"]["routes"] == [one, two]
    assert {r.destination for r in things(cloud, "router")[router["id"]].routes} == {
        "10.50.0.0/16",
        "10.51.0.0/16",
    }
    subnet_id = listed(alice, "port", f"device_id={router['id']}")[0]["fixed_ips"][0]["subnet_id"]
    assert (
        leg(alice, router["id"], 409, verb="remove", subnet_id=subnet_id)["NeutronError"]["type"]
        == "RouterInterfaceInUseByRoute"
    )
    got = alice.put(f"{V2}/routers/{router['id']}/remove_extraroutes", {"router": {"routes": [one, two]}})
    assert got.json["router"]["routes"] == []


def test_a_floating_ip_leads_to_a_port_and_lets_go(cloud, alice, bob, public):
    network, subnet, router = routed(alice, public)
    port = make(alice, "port", network_id=network["id"])
    fip = make(alice, "floatingip", floating_network_id=public["id"])
    assert (fip["status"], fip["port_id"], fip["port_details"]) == ("DOWN", None, None)
    assert things(cloud, "floating_ip") == {}
    made = change(alice, "floatingip", fip["id"], port_id=port["id"])
    assert (made["status"], made["fixed_ip_address"], made["router_id"]) == (
        "ACTIVE",
        "10.0.0.3",
        router["id"],
    )
    assert made["port_details"]["mac_address"] == port["mac_address"]
    held = things(cloud, "floating_ip")[fip["id"]]
    assert (held.floating_ip_address, held.fixed_ip_address, held.external_mac) == (
        fip["floating_ip_address"],
        "10.0.0.3",
        None,
    )
    twin = make(alice, "floatingip", floating_network_id=public["id"], port_id=port["id"], expect=409)
    assert twin["type"] == "FloatingIPPortAlreadyAssociated"
    assert (
        leg(alice, router["id"], 409, verb="remove", subnet_id=subnet["id"])["NeutronError"]["type"]
        == "RouterInterfaceInUseByFloatingIP"
    )
    got = change(alice, "router", router["id"], expect=409, external_gateway_info=None)
    assert got["type"] == "RouterExternalGatewayInUseByFloatingIp"
    assert bob.get(f"{V2}/floatingips/{fip['id']}").status == 404
    remove(alice, "port", port["id"])
    assert show(alice, "floatingip", fip["id"])["port_id"] is None
    assert things(cloud, "floating_ip") == {}
    remove(alice, "floatingip", fip["id"])
    again = make(alice, "floatingip", floating_network_id=public["id"])
    assert again["floating_ip_address"] != fip["floating_ip_address"]


def test_floating_ips_that_can_not_lead_there_are_refused(cloud, alice, bob, admin, public):
    network, _ = net(alice)
    port = make(alice, "port", network_id=network["id"])
    unreachable = make(alice, "floatingip", floating_network_id=public["id"], port_id=port["id"], expect=404)
    assert unreachable["type"] == "ExternalGatewayForFloatingIPNotFound"
    make(alice, "floatingip", floating_network_id=network["id"], expect=400)
    make(alice, "floatingip", floating_network_id="nowhere", expect=404)
    make(bob, "floatingip", floating_network_id=public["id"], port_id=port["id"], expect=404)
    make(alice, "floatingip", floating_network_id=public["id"], floating_ip_address="172.24.4.99", expect=403)
    assert (
        make(admin, "floatingip", floating_network_id=public["id"], floating_ip_address="172.24.4.99")[
            "floating_ip_address"
        ]
        == "172.24.4.99"
    )
    make(alice, "floatingip", floating_network_id=public["id"], fixed_ip_address="10.0.0.3", expect=400)


def test_a_distributed_router_has_floating_ips_answer_at_home(cloud, alice, admin, public):
    network, _, router = routed(alice, public)
    port = make(alice, "port", network_id=network["id"])
    fip = make(alice, "floatingip", floating_network_id=public["id"], port_id=port["id"])
    change(alice, "router", router["id"], expect=403, distributed=True)
    assert change(admin, "router", router["id"], distributed=True)["distributed"] is True
    assert things(cloud, "floating_ip")[fip["id"]].external_mac is not None


def test_a_gateway_without_a_subnet_gets_its_address_with_the_first_one(cloud, alice, admin):
    bare = make(admin, "network", name="bare", **{"router:external": True})
    router = make(alice, "router", external_gateway_info={"network_id": bare["id"]})
    assert router["external_gateway_info"]["external_fixed_ips"] == []
    assert things(cloud, "router")[router["id"]].gateway is None
    make(admin, "subnet", network_id=bare["id"], ip_version=4, cidr="198.51.100.0/24")
    cloud.settle()
    (fixed,) = show(alice, "router", router["id"])["external_gateway_info"]["external_fixed_ips"]
    assert things(cloud, "router")[router["id"]].gateway.networks == (f"{fixed['ip_address']}/24",)
