"""The service as a whole: discovery, quotas, agents, trouble with the fabric."""

import pytest

from stackling.network.api.extension import EXTENSIONS
from stackling.network.driver import Kind
from stackling.network.steps.fabric import resync
from tests.network.api import V2, leg, listed, make, net, outside, remove, show, things


def test_discovery_needs_no_token(cloud, alice):
    versions = cloud.nobody.get("/network/").json["versions"]
    assert [(v["id"], v["status"]) for v in versions] == [("v2.0", "CURRENT")]
    collections = {r["collection"] for r in cloud.nobody.get(f"{V2}/").json["resources"]}
    assert {"networks", "subnets", "ports", "routers", "floatingips", "security_groups"} <= collections
    assert {e["alias"] for e in alice.get(f"{V2}/extensions").json["extensions"]} == set(EXTENSIONS)
    assert alice.get(f"{V2}/extensions/router").json["extension"]["alias"] == "router"
    assert alice.get(f"{V2}/extensions/nothing").status == 404


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("GET", f"{V2}/nothing", 404),
        ("GET", f"{V2}/networks/x/y", 404),
        ("DELETE", f"{V2}/networks", 405),
        ("PUT", f"{V2}/security-group-rules/x", 405),
        ("GET", f"{V2}/networks/not-there", 404),
    ],
)
def test_what_is_not_served_is_said_in_the_apis_own_words(cloud, alice, method, path, status):
    got = alice.call(method, path)
    assert got.status == status
    assert set(got.json["NeutronError"]) == {"type", "message", "detail"}
    assert cloud.nobody.call(method, path).status == 401


def test_quotas_hold(cloud, alice, bob, admin):
    at = f"{V2}/quotas/{alice.project_id}"
    assert alice.get(at).json["quota"]["network"] == 100
    assert bob.get(at).status == 403
    assert alice.put(at, {"quota": {"network": 500}}).status == 403
    assert admin.put(at, {"quota": {"network": 1, "port": -1}}).json["quota"]["network"] == 1
    make(alice, "network")
    got = make(alice, "network", expect=409)
    assert got["type"] == "OverQuota"
    assert alice.get(f"{at}/details.json").json["quota"]["network"] == {"limit": 1, "used": 1, "reserved": 0}
    assert [q["project_id"] for q in admin.get(f"{V2}/quotas").json["quotas"]] == [alice.project_id]
    for bad in ({"network": "many"}, {"nonsense": 1}, {"network": -2}, {"network": 1.5}):
        assert admin.put(at, {"quota": bad}).status == 400, bad
    assert admin.delete(at).status == 204
    assert alice.get(at).json["quota"]["network"] == 100
    assert alice.get(f"{at}/default").json["quota"]["port"] == 500


def test_agents_are_the_fabrics_hosts(cloud, alice, admin, reader):
    (agent,) = admin.get(f"{V2}/agents").json["agents"]
    assert (agent["host"], agent["alive"]) == ("n1", True)
    assert admin.get(f"{V2}/agents/{agent['id']}").json["agent"]["host"] == "n1"
    assert alice.get(f"{V2}/agents").json == {"agents": []}
    assert alice.get(f"{V2}/agents/{agent['id']}").status == 404
    router = make(alice, "router", external_gateway_info={"network_id": outside(alice)["id"]})
    carrying = admin.get(f"{V2}/routers/{router['id']}/l3-agents").json["agents"]
    assert [(a["host"], a["ha_state"]) for a in carrying] == [("n1", "active")]
    assert [r["id"] for r in admin.get(f"{V2}/agents/{agent['id']}/l3-routers").json["routers"]] == [
        router["id"]
    ]
    assert alice.get(f"{V2}/routers/{router['id']}/l3-agents").status == 403
    zones = alice.get(f"{V2}/availability_zones").json["availability_zones"]
    assert {(z["name"], z["resource"]) for z in zones} == {("nova", "network"), ("nova", "router")}


def test_address_use_is_told(cloud, alice, admin):
    network, _ = net(alice)
    make(alice, "port", network_id=network["id"])
    got = admin.get(f"{V2}/network-ip-availabilities/{network['id']}").json["network_ip_availability"]
    assert (got["total_ips"], got["used_ips"]) == (253, 2)


def built(alice):
    network, subnet = net(alice)
    port = make(alice, "port", network_id=network["id"])
    router = make(alice, "router", external_gateway_info={"network_id": outside(alice)["id"]})
    leg(alice, router["id"], subnet_id=subnet["id"])
    fip = make(alice, "floatingip", floating_network_id=outside(alice)["id"], port_id=port["id"])
    return network, port, router, fip


def test_a_fabric_that_is_away_gets_it_all_when_it_comes_back(cloud, alice):
    cloud.fabric.down = True
    network, port, router, fip = built(alice)
    gone = make(alice, "network")
    cloud.turn(5)
    remove(alice, "network", gone["id"])
    assert show(alice, "network", network["id"])["status"] == "ACTIVE"
    cloud.fabric.down = False
    cloud.turn(60, every=5)
    assert network["id"] in things(cloud, "network")
    assert gone["id"] not in things(cloud, "network")
    assert port["id"] in things(cloud, "port")
    assert router["id"] in things(cloud, "router")
    assert fip["id"] in things(cloud, "floating_ip")


def test_lost_replies_change_nothing(cloud, alice):
    cloud.fabric.lose_reply(4)
    _, port, _, fip = built(alice)
    cloud.turn(20)
    assert {port["id"]} <= set(things(cloud, "port"))
    assert fip["id"] in things(cloud, "floating_ip")


def test_drift_is_mended(cloud, alice):
    _, port, _, fip = built(alice)
    cloud.settle()
    before = dict(cloud.fabric.things)
    cloud.fabric.forget(Kind.PORT, port["id"])
    cloud.fabric.forget(Kind.FLOATING_IP, fip["id"])
    report = resync(cloud.cloud)
    assert {r.id for r in report.created} == {port["id"], fip["id"]}
    cloud.settle()
    assert cloud.fabric.things == before
    again = resync(cloud.cloud)
    assert (again.created, again.changed, again.removed) == ((), (), ())


def test_the_descriptions_of_one_and_of_all_agree(cloud, alice):
    """Each thing that its own job described is what a full resync would describe."""
    built(alice)
    net(alice, "fd00:5::/64")
    cloud.settle()
    report = resync(cloud.cloud)
    assert (report.created, report.changed, report.removed) == ((), (), ())


def test_a_project_gets_a_routed_network_for_the_asking(cloud, alice, bob, admin):
    at = f"{V2}/auto-allocated-topology/{alice.project_id}"
    refused = alice.get(at)
    assert (refused.status, refused.json["NeutronError"]["type"]) == (409, "AutoAllocationFailure")
    make(
        admin,
        "subnetpool",
        name="p",
        prefixes=["10.70.0.0/16"],
        default_prefixlen=26,
        shared=True,
        is_default=True,
    )
    assert alice.get(f"{at}?fields=dry-run").json["auto_allocated_topology"]["id"] == "dry-run=pass"
    made = alice.get(at).json["auto_allocated_topology"]
    assert alice.get(at).json["auto_allocated_topology"] == made
    (network,) = listed(alice, "network", f"id={made['id']}")
    assert network["subnets"]
    (router,) = listed(alice, "router")
    assert router["external_gateway_info"]["network_id"] == outside(alice)["id"]
    assert bob.get(at).status == 403
    assert alice.delete(at).status == 204
    assert listed(alice, "router") == []


def test_metering_labels_are_kept_for_admins(cloud, alice, admin):
    at = f"{V2}/metering/metering-labels"
    label = admin.post(at, {"metering_label": {"name": "l"}}).json["metering_label"]
    rule = admin.post(
        f"{V2}/metering/metering-label-rules",
        {"metering_label_rule": {"metering_label_id": label["id"], "remote_ip_prefix": "10.0.0.0/24"}},
    )
    assert (rule.status, rule.json["metering_label_rule"]["direction"]) == (201, "ingress")
    assert alice.post(at, {"metering_label": {"name": "l"}}).status == 403
    assert admin.delete(f"{at}/{label['id']}").status == 204
    assert admin.get(f"{V2}/metering/metering-label-rules").json["metering_label_rules"] == []
