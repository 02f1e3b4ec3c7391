"""Security groups and rules."""

import pytest

from tests.network.api import V2, change, listed, make, net, remove, show, things


def rule(user, group, expect=201, **attributes):
    return make(
        user,
        "security_group_rule",
        expect=expect,
        security_group_id=group["id"],
        **{"direction": "ingress", **attributes},
    )


def test_every_project_has_a_default_group(cloud, alice, bob):
    (mine,) = listed(alice, "security_group", "name=default")
    (bobs,) = listed(bob, "security_group", "name=default")
    assert mine["id"] != bobs["id"]
    kinds = sorted(
        (r["direction"], r["ethertype"], r["remote_group_id"])
        for r in mine["security_group_rules"]
        if r["direction"] == "ingress"
    )
    assert kinds == [("ingress", "IPv4", mine["id"]), ("ingress", "IPv6", mine["id"])]
    assert (
        change(alice, "security_group", mine["id"], expect=409, name="other")["type"]
        == "SecurityGroupCannotUpdateDefault"
    )
    assert (
        remove(alice, "security_group", mine["id"], expect=409)["type"] == "SecurityGroupCannotRemoveDefault"
    )
    assert (
        make(alice, "security_group", name="default", expect=409)["type"]
        == "SecurityGroupDefaultAlreadyExists"
    )
    assert (
        bob.get(f"{V2}/security-groups/{mine['id']}").json["NeutronError"]["type"] == "SecurityGroupNotFound"
    )
    assert mine["id"] in things(cloud, "security_group")


def test_rules_reach_the_fabric_and_go(cloud, alice):
    web = make(alice, "security_group", name="web", description="d")
    assert sorted(r["direction"] for r in web["security_group_rules"]) == ["egress", "egress"]
    made = rule(
        alice, web, protocol="tcp", port_range_min=80, port_range_max=443, remote_ip_prefix="10.1.2.3/8"
    )
    assert (made["ethertype"], made["remote_ip_prefix"], made["normalized_cidr"]) == (
        "IPv4",
        "10.1.2.3/8",
        "10.0.0.0/8",
    )
    held = {r.id: r for r in things(cloud, "security_group")[web["id"]].rules}
    assert (held[made["id"]].protocol, held[made["id"]].port_range_max) == ("tcp", 443)
    same = rule(
        alice, web, 409, protocol="tcp", port_range_min=80, port_range_max=443, remote_ip_prefix="10.1.2.3/8"
    )
    assert same["type"] == "SecurityGroupRuleExists"
    assert rule(alice, web, protocol=1, port_range_min=8, port_range_max=0)["protocol"] == "1"
    remove(alice, "security_group_rule", made["id"])
    assert made["id"] not in {r.id for r in things(cloud, "security_group")[web["id"]].rules}
    assert alice.get(f"{V2}/security-group-rules/{made['id']}").status == 404


@pytest.mark.parametrize(
    "attributes, kind",
    [
        ({"protocol": "nonsense"}, "SecurityGroupInvalidProtocolType"),
        ({"protocol": 256}, "SecurityGroupInvalidProtocolType"),
        ({"ethertype": "IPX"}, "InvalidInput"),
        ({"direction": "sideways"}, "InvalidInput"),
        ({"port_range_min": 5, "port_range_max": 6}, "SecurityGroupProtocolRequiredWithPorts"),
        ({"protocol": "tcp", "port_range_min": 6, "port_range_max": 5}, "SecurityGroupInvalidPortRange"),
        ({"protocol": "tcp", "port_range_min": 1, "port_range_max": 70000}, "SecurityGroupInvalidPortValue"),
        ({"protocol": "icmp", "port_range_min": 300}, "SecurityGroupInvalidIcmpValue"),
        ({"protocol": "icmp", "port_range_max": 3}, "SecurityGroupMissingIcmpType"),
        ({"remote_ip_prefix": "fd00::/64"}, "SecurityGroupRuleParameterConflict"),
        ({"remote_ip_prefix": "10.0.0.0/99"}, "InvalidInput"),
        (
            {"remote_ip_prefix": "10.0.0.0/8", "remote_group_id": "x"},
            "SecurityGroupRemoteGroupAndRemoteIpPrefix",
        ),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(cloud, alice, attributes, kind):
    web = make(alice, "security_group", name="web")
    assert rule(alice, web, 400, **attributes)["type"] == kind


def test_a_group_in_use_stays_and_rules_that_name_a_deleted_one_go(cloud, alice, bob):
    network, _ = net(alice)
    web, db = make(alice, "security_group", name="web"), make(alice, "security_group", name="db")
    through = rule(alice, db, remote_group_id=web["id"])
    port = make(alice, "port", network_id=network["id"], security_groups=[web["id"]])
    assert remove(alice, "security_group", web["id"], expect=409)["type"] == "SecurityGroupInUse"
    make(bob, "security_group_rule", security_group_id=web["id"], direction="ingress", expect=404)
    remove(alice, "port", port["id"])
    remove(alice, "security_group", web["id"])
    assert through["id"] not in {
        r["id"] for r in show(alice, "security_group", db["id"])["security_group_rules"]
    }
    assert through["id"] not in {r.id for r in things(cloud, "security_group")[db["id"]].rules}
    assert web["id"] not in things(cloud, "security_group")


def test_a_rule_lets_the_addresses_of_a_group_through(cloud, alice, bob):
    web = make(alice, "security_group", name="web")
    group = make(alice, "address_group", name="offices", addresses=["192.0.2.0/24", "fd00::/64"])
    made = rule(
        alice, web, protocol="tcp", port_range_min=22, port_range_max=22, remote_address_group_id=group["id"]
    )
    assert made["remote_address_group_id"] == group["id"]

    def through():
        return sorted(
            r.remote_ip_prefix
            for r in things(cloud, "security_group")[web["id"]].rules
            if r.protocol == "tcp"
        )

    assert through() == ["192.0.2.0/24"]
    at = f"{V2}/address-groups/{group['id']}"
    got = alice.put(f"{at}/add_addresses", {"address_group": {"addresses": ["198.51.100.7/32"]}})
    assert (got.status, got.json["address_group"]["addresses"]) == (
        200,
        ["192.0.2.0/24", "fd00::/64", "198.51.100.7/32"],
    )
    assert through() == ["192.0.2.0/24", "198.51.100.7/32"]
    assert alice.put(f"{at}/add_addresses", {"addresses": ["192.0.2.0/24"]}).status == 400
    assert alice.put(f"{at}/remove_addresses", {"addresses": ["192.0.2.0/24"]}).status == 200
    assert through() == ["198.51.100.7/32"]
    assert remove(alice, "address_group", group["id"], expect=409)["type"] == "AddressGroupInUse"
    assert bob.get(at).status == 404
    remove(alice, "security_group_rule", made["id"])
    remove(alice, "address_group", group["id"])
