"""Networks, subnets, subnet pools."""

import pytest
from msgspec.structs import replace

from stackling.base.config import ExternalNetwork
from stackling.boot import assembly
from tests.network.api import V2, change, listed, make, net, outside, remove, show, things


def test_a_network_with_a_subnet_is_in_the_fabric_and_goes_again(cloud, alice):
    network, subnet = net(alice, name="blue", mtu=1400)
    assert (network["status"], network["mtu"], network["router:external"], network["shared"]) == (
        "ACTIVE",
        1400,
        False,
        False,
    )
    assert subnet["gateway_ip"] == "10.0.0.1"
    assert subnet["allocation_pools"] == [{"start": "10.0.0.2", "end": "10.0.0.254"}]
    made = things(cloud, "network")[network["id"]]
    assert [s.cidr for s in made.subnets] == ["10.0.0.0/24"]
    assert made.metadata.ip_addresses == ("10.0.0.2",)
    (metadata,) = listed(alice, "port", f"network_id={network['id']}&device_owner=network:distributed")
    assert metadata["id"] in things(cloud, "port")
    remove(alice, "network", network["id"])
    assert network["id"] not in things(cloud, "network")
    assert metadata["id"] not in things(cloud, "port")
    assert alice.get(f"{V2}/subnets/{subnet['id']}").status == 404


def test_external_networks_follow_the_configuration(cloud, alice, admin):
    public = outside(alice)
    assert public["is_default"] is True
    assert "provider:network_type" not in public
    assert show(admin, "network", public["id"])["provider:physical_network"] == "public"
    lab = ExternalNetwork(name="lab", cidr="192.0.2.0/24", gateway="192.0.2.1", vlan=7, shared=True)
    section = replace(cloud.cloud.config.network, external=[ExternalNetwork(pool_start="172.24.4.100"), lab])
    cloud.cloud.config = replace(cloud.cloud.config, network=section)
    for _ in range(2):
        assembly.prepare(cloud.cloud)
    first, lab = listed(admin, "network", "router:external=true")
    assert (first["id"], lab["name"]) == (public["id"], "lab")
    assert (lab["provider:network_type"], lab["provider:segmentation_id"], lab["shared"]) == ("vlan", 7, True)
    assert show(alice, "subnet", first["subnets"][0])["allocation_pools"] == [
        {"start": "172.24.4.100", "end": "172.24.4.254"}
    ]
    assert things(cloud, "network")[lab["id"]].physical_network == "lab"


def test_another_projects_network_does_not_exist(cloud, alice, bob, reader, admin):
    network, subnet = net(alice)
    for kind, id in (("network", network["id"]), ("subnet", subnet["id"])):
        assert bob.get(f"{V2}/{kind}s/{id}").json["NeutronError"]["type"] == f"{kind.title()}NotFound"
        change(bob, kind, id, expect=404, name="mine")
        remove(bob, kind, id, expect=404)
        assert show(reader, kind, id)["id"] == id
        change(reader, kind, id, expect=403, name="mine")
    assert network["id"] not in {n["id"] for n in listed(bob, "network")}
    assert network["id"] in {n["id"] for n in listed(admin, "network")}
    make(bob, "subnet", network_id=network["id"], cidr="10.9.0.0/24", ip_version=4, expect=404)
    make(bob, "port", network_id=network["id"], expect=404)
    make(alice, "network", project_id=bob.project_id, expect=403)


def test_a_shared_network_is_seen_and_used_by_all_and_owned_by_one(cloud, bob, admin):
    make(bob, "network", shared=True, expect=403)
    network, subnet = net(admin, shared=True)
    assert show(bob, "network", network["id"])["shared"] is True
    assert listed(bob, "subnet", f"id={subnet['id']}")
    port = make(bob, "port", network_id=network["id"])
    change(bob, "network", network["id"], expect=403, name="mine")
    assert change(admin, "network", network["id"], expect=409, shared=False)["type"] == "InvalidSharedSetting"
    remove(bob, "port", port["id"])
    change(admin, "network", network["id"], shared="False")


@pytest.mark.parametrize(
    "attributes, says",
    [
        ({"name": 5}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"mtu": 9000}, "mtu"),
        ({"mtu": 2**40}, "mtu"),
        ({"admin_state_up": "maybe"}, "admin_state_up"),
        ({"nonsense": 1}, "nonsense"),
        ({"status": "ACTIVE"}, "status"),
        ({"network_type": "geneve"}, "network_type"),
    ],
)
def test_bad_input_for_a_network_is_refused_by_name(cloud, alice, attributes, says):
    got = make(alice, "network", expect=400, **attributes)
    assert says in got["message"]


@pytest.mark.parametrize(
    "attributes, kind",
    [
        ({"cidr": "10.0.0.0/33"}, "InvalidInput"),
        ({"cidr": "10.0.0.0"}, "InvalidInput"),
        ({"cidr": "224.0.0.0/24"}, "InvalidInput"),
        ({"cidr": "fd00::/64"}, "InvalidInput"),
        ({"cidr": "10.0.0.128/25"}, "InvalidInput"),
        (
            {"gateway_ip": "10.1.0.5", "allocation_pools": [{"start": "10.1.0.2", "end": "10.1.0.9"}]},
            "GatewayConflictWithAllocationPools",
        ),
        ({"allocation_pools": [{"start": "10.1.0.9", "end": "10.1.0.2"}]}, "InvalidAllocationPool"),
        ({"allocation_pools": [{"start": "10.2.0.2", "end": "10.2.0.9"}]}, "OutOfBoundsAllocationPool"),
        (
            {
                "allocation_pools": [
                    {"start": "10.1.0.2", "end": "10.1.0.9"},
                    {"start": "10.1.0.5", "end": "10.1.0.7"},
                ]
            },
            "OverlappingAllocationPools",
        ),
        ({"dns_nameservers": ["nowhere"]}, "InvalidInput"),
        ({"host_routes": [{"destination": "10.0.0.0/8", "nexthop": "fd00::1"}]}, "InvalidInput"),
        ({"host_routes": [{"destination": "10.0.0.0/8"}]}, "HTTPBadRequest"),
        ({"ipv6_ra_mode": "slaac"}, "InvalidInput"),
    ],
)
def test_a_subnet_that_does_not_fit_is_refused(cloud, alice, attributes, kind):
    network, _ = net(alice)
    status = 409 if "Conflict" in kind or "Overlapping" in kind else 400
    got = make(
        alice,
        "subnet",
        expect=status,
        **{"network_id": network["id"], "ip_version": 4, "cidr": "10.1.0.0/24", **attributes},
    )
    assert got["type"] == kind, got


def test_a_subnet_changes_and_its_network_with_it(cloud, alice):
    network, subnet = net(alice)
    made = change(
        alice, "subnet", subnet["id"],
        dns_nameservers=["192.0.2.53"], host_routes=[{"destination": "10.9.0.0/16", "nexthop": "10.0.0.9"}], gateway_ip=None, name="s",
    )  # fmt: skip
    assert made["revision_number"] > subnet["revision_number"]
    held = things(cloud, "network")[network["id"]].subnets[0]
    assert (held.dns_nameservers, held.gateway_ip, held.host_routes[0].nexthop) == (
        ("192.0.2.53",),
        None,
        "10.0.0.9",
    )
    change(alice, "subnet", subnet["id"], enable_dhcp=False)
    assert things(cloud, "network")[network["id"]].metadata is None
    change(alice, "subnet", subnet["id"], expect=400, cidr="10.5.0.0/24")
    assert show(alice, "network", network["id"])["revision_number"] > network["revision_number"]


def test_what_is_in_use_is_not_deleted(cloud, alice):
    network, subnet = net(alice)
    port = make(alice, "port", network_id=network["id"])
    assert remove(alice, "network", network["id"], expect=409)["type"] == "NetworkInUse"
    assert remove(alice, "subnet", subnet["id"], expect=409)["type"] == "SubnetInUse"
    remove(alice, "port", port["id"])
    remove(alice, "subnet", subnet["id"])
    assert listed(alice, "port", f"network_id={network['id']}") == []


def test_lists_filter_sort_page_and_pick_fields(cloud, alice):
    names = ["c", "a", "e", "b", "d"]
    for name in names:
        make(alice, "network", name=name, description="ours")
        cloud.clock.turn(1)
    ours = "description=ours"
    assert [n["name"] for n in listed(alice, "network", ours)] == names
    assert [n["name"] for n in listed(alice, "network", f"{ours}&sort_key=name&sort_dir=desc")] == sorted(
        names, reverse=True
    )
    assert {n["name"] for n in listed(alice, "network", "name=a&name=b")} == {"a", "b"}
    assert [set(n) for n in listed(alice, "network", "name=a&fields=id&fields=name")] == [{"id", "name"}]
    seen, path = [], f"{V2}/networks?{ours}&sort_key=name&limit=2"
    while path:
        got = alice.get(path).json
        seen += [n["name"] for n in got["networks"]]
        path = next(
            (
                link["href"].split("://", 1)[1].partition("/")[2]
                for link in got.get("networks_links", [])
                if link["rel"] == "next"
            ),
            None,
        )
        path = path and "/" + path
    assert seen == sorted(names)
    ids = {n["name"]: n["id"] for n in listed(alice, "network", ours)}
    back = listed(alice, "network", f"{ours}&sort_key=name&limit=2&marker={ids['d']}&page_reverse=True")
    assert [n["name"] for n in back] == ["b", "c"]
    for query, status in (
        ("nonsense=1", 400),
        ("limit=-1", 400),
        ("sort_key=nonsense", 400),
        ("sort_key=name&sort_dir=up", 400),
        ("marker=nowhere", 404),
    ):
        assert alice.get(f"{V2}/networks?{query}").status == status, query


def test_bulk_creation_is_all_or_nothing(cloud, alice):
    got = alice.post(f"{V2}/networks", {"networks": [{"name": "b1"}, {"name": "b2"}]})
    assert got.status == 201
    assert [n["name"] for n in got.json["networks"]] == ["b1", "b2"]
    assert alice.post(f"{V2}/networks", {"networks": [{"name": "b3"}, {"mtu": 1}]}).status == 400
    assert listed(alice, "network", "name=b3") == []
    for body in ({"networks": []}, {"network": []}, {}, [], {"network": {}, "x": 1}):
        assert alice.post(f"{V2}/networks", body).status == 400, body
    assert alice.post(f"{V2}/networks", data=b"{").json["NeutronError"]["type"] == "HTTPBadRequest"


def test_tags(cloud, alice, bob):
    network, _ = net(alice)
    at = f"{V2}/networks/{network['id']}/tags"
    assert alice.put(at, {"tags": ["red", "blue"]}).json == {"tags": ["blue", "red"]}
    assert alice.put(f"{at}/green").status == 201
    assert (alice.get(f"{at}/green").status, alice.get(f"{at}/black").status) == (204, 404)
    assert [n["id"] for n in listed(alice, "network", "tags=red,green")] == [network["id"]]
    assert listed(alice, "network", "tags=red,black") == []
    assert [n["id"] for n in listed(alice, "network", "tags-any=red,black")] == [network["id"]]
    assert network["id"] not in {n["id"] for n in listed(alice, "network", "not-tags-any=red")}
    assert alice.delete(f"{at}/red").status == 204
    assert alice.delete(f"{at}/red").status == 404
    assert bob.get(at).status == 404
    assert alice.put(at, {"tags": ["a/b"]}).status == 400
    assert alice.delete(at).status == 204
    assert show(alice, "network", network["id"])["tags"] == []


def test_subnet_pools_hand_out_prefixes(cloud, alice, bob):
    pool = make(
        alice,
        "subnetpool",
        name="p",
        prefixes=["10.8.0.0/16", "10.9.0.0/16"],
        default_prefixlen=24,
        default_quota=600,
    )
    assert (pool["prefixes"], pool["min_prefixlen"], pool["ip_version"]) == (["10.8.0.0/15"], "8", 4)
    network = make(alice, "network")
    first = make(alice, "subnet", network_id=network["id"], ip_version=4, subnetpool_id=pool["id"])
    second = make(
        alice, "subnet", network_id=network["id"], ip_version=4, subnetpool_id=pool["id"], prefixlen=26
    )
    assert (first["cidr"], first["subnetpool_id"]) == ("10.8.0.0/24", pool["id"])
    assert second["cidr"].endswith("/26")
    assert second["cidr"] != first["cidr"]
    refused = make(
        alice,
        "subnet",
        network_id=network["id"],
        ip_version=4,
        subnetpool_id=pool["id"],
        prefixlen=22,
        expect=409,
    )
    assert refused["type"] == "SubnetPoolQuotaExceeded"
    assert remove(alice, "subnetpool", pool["id"], expect=409)["type"] == "SubnetPoolInUse"
    assert bob.get(f"{V2}/subnetpools/{pool['id']}").status == 404
    assert (
        change(alice, "subnetpool", pool["id"], expect=400, prefixes=["10.8.0.0/16"])["type"]
        == "IllegalSubnetPoolPrefixUpdate"
    )
    got = alice.put(f"{V2}/subnetpools/{pool['id']}/add_prefixes", {"prefixes": ["10.10.0.0/16"]})
    assert "10.10.0.0/16" in got.json["prefixes"]


def test_an_old_revision_is_refused(cloud, alice):
    network, _ = net(alice)
    at = f"{V2}/networks/{network['id']}"
    got = alice.put(at, {"network": {"name": "x"}}, headers={"If-Match": "revision_number=99"})
    assert (got.status, got.json["NeutronError"]["type"]) == (412, "RevisionNumberConstraintFailed")
    now = show(alice, "network", network["id"])["revision_number"]
    assert (
        alice.put(at, {"network": {"name": "x"}}, headers={"If-Match": f"revision_number={now}"}).status
        == 200
    )
