"""Many at once: no address twice, no quota overdrawn, no deadlock."""

from concurrent.futures import ThreadPoolExecutor

from tests.network.api import V2, change, listed, make, net, outside, remove


def test_ports_made_at_once_have_different_addresses(cloud, alice):
    network, _ = net(alice)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make(alice, "port", network_id=network["id"]), range(40)))
    addresses = [p["fixed_ips"][0]["ip_address"] for p in made]
    assert len(set(addresses)) == 40


def test_a_quota_is_not_overdrawn_by_many_at_once(cloud, alice, admin):
    assert admin.put(f"{V2}/quotas/{alice.project_id}", {"quota": {"network": 5}}).status == 200
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: alice.post(f"{V2}/networks", {"network": {}}).status, range(16)))
    assert sorted(statuses) == [201] * 5 + [409] * 11


def test_making_and_deleting_at_once_never_breaks(cloud, alice):
    public = outside(alice)["id"]

    def churn(n: int) -> None:
        network, subnet = net(alice, f"10.{n}.0.0/24")
        router = make(alice, "router", external_gateway_info={"network_id": public})
        at = f"{V2}/routers/{router['id']}"
        assert alice.put(f"{at}/add_router_interface", {"subnet_id": subnet["id"]}).status == 200
        port = make(alice, "port", network_id=network["id"])
        fip = make(alice, "floatingip", floating_network_id=public, port_id=port["id"])
        change(alice, "port", port["id"], name="x")
        remove(alice, "floatingip", fip["id"])
        remove(alice, "port", port["id"])
        assert alice.put(f"{at}/remove_router_interface", {"subnet_id": subnet["id"]}).status == 200
        remove(alice, "router", router["id"])
        remove(alice, "network", network["id"])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(churn, range(1, 13)))
    cloud.settle()
    assert listed(alice, "port") == []
    assert {ref.kind.value for ref in cloud.fabric.things} == {"network", "security_group"}


def test_a_network_that_gets_ports_while_it_is_deleted_keeps_none(cloud, alice):
    network, _ = net(alice)

    def port(_: int) -> int:
        return alice.post(f"{V2}/ports", {"port": {"network_id": network["id"]}}).status

    def delete(_: int) -> int:
        return alice.delete(f"{V2}/networks/{network['id']}").status

    with ThreadPoolExecutor(6) as pool:
        ports, deletes = pool.map(port, range(8)), pool.map(delete, range(4))
        assert set(ports) <= {201, 404, 409}
        assert set(deletes) <= {204, 404, 409}
    left = listed(alice, "port", f"network_id={network['id']}")
    assert not left or alice.get(f"{V2}/networks/{network['id']}").status == 200
