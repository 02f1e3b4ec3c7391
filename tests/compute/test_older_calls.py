"""Calls that newer microversions no longer have, and older clients still use."""

from typing import Any

from tests.compute.bed import V, at, boot, network, show
from tests.conftest import Bed, User


def test_an_admin_sees_what_a_host_has_and_what_its_servers_use(cloud: Bed, admin: User, alice: User) -> None:
    boot(cloud, alice)
    assert admin.get(f"{V}/os-hosts").json == {
        "hosts": [{"host_name": "n1", "service": "compute", "zone": "nova"}]
    }
    assert admin.get(f"{V}/os-hosts?zone=elsewhere").json == {"hosts": []}
    assert len(admin.get(f"{V}/os-hosts?zone=").json["hosts"]) == 1
    shown = [h["resource"] for h in admin.get(f"{V}/os-hosts/n1").json["host"]]
    assert [r["project"] for r in shown] == ["(total)", "(used_now)", "(used_max)", alice.project_id]
    assert shown[2]["memory_mb"] == shown[3]["memory_mb"] > 0
    assert alice.get(f"{V}/os-hosts").status == 403
    assert admin.get(f"{V}/os-hosts/n9").status == 404
    assert admin.get(f"{V}/os-hosts", headers=at("2.43")).status == 404


def test_a_host_is_disabled_and_enabled_but_not_switched_off(cloud: Bed, admin: User, alice: User) -> None:
    assert admin.put(f"{V}/os-hosts/n1", {"status": "disable"}).json == {"host": "n1", "status": "disabled"}
    assert admin.get(f"{V}/os-services").json["services"][0]["status"] == "disabled"
    assert admin.put(f"{V}/os-hosts/n1", {"status": "enable"}).json == {"host": "n1", "status": "enabled"}
    bad: list[Any] = [{}, {"status": "off"}, {"status": 1}, {"other": "enable"}, []]
    for body in bad:
        assert admin.put(f"{V}/os-hosts/n1", body).status == 400
    assert admin.put(f"{V}/os-hosts/n9", {"status": "enable"}).status == 404
    assert admin.put(f"{V}/os-hosts/n1", {"maintenance_mode": "enable"}).status == 501
    for verb in ("startup", "shutdown", "reboot"):
        assert admin.get(f"{V}/os-hosts/n1/{verb}").status == 501
        assert admin.get(f"{V}/os-hosts/n9/{verb}").status == 404
        assert alice.get(f"{V}/os-hosts/n1/{verb}").status == 403


def test_a_server_gets_a_floating_ip_from_compute(cloud: Bed, admin: User, alice: User, bob: User) -> None:
    v2 = "/network/v2.0"
    out = admin.post(f"{v2}/networks", {"network": {"name": "out", "router:external": True}}).json["network"][
        "id"
    ]
    admin.post(f"{v2}/subnets", {"subnet": {"network_id": out, "cidr": "198.51.100.0/24", "ip_version": 4}})
    net = network(alice)
    subnet = alice.get(f"{v2}/subnets?network_id={net}").json["subnets"][0]["id"]
    router = alice.post(f"{v2}/routers", {"router": {"external_gateway_info": {"network_id": out}}}).json[
        "router"
    ]["id"]
    alice.put(f"{v2}/routers/{router}/add_router_interface", {"subnet_id": subnet})
    one, two = (boot(cloud, alice, networks=[{"uuid": net}])["id"] for _ in range(2))
    assert "out" in [p["name"] for p in alice.get(f"{V}/os-floating-ip-pools").json["floating_ip_pools"]]
    assert alice.post(f"{V}/os-floating-ips", {"pool": "nowhere"}).status == 404
    made = alice.post(f"{V}/os-floating-ips", {"pool": "out"}).json["floating_ip"]
    assert (made["pool"], made["instance_id"], made["fixed_ip"]) == ("out", None, None)
    assert alice.get(f"{V}/os-floating-ips").json == {"floating_ips": [made]}
    assert bob.get(f"{V}/os-floating-ips").json == {"floating_ips": []}
    assert bob.get(f"{V}/os-floating-ips/{made['id']}").status == 404

    def act(server: str, verb: str, address: str) -> int:
        return alice.post(f"{V}/servers/{server}/action", {verb: {"address": address}}).status

    assert act(one, "addFloatingIp", made["ip"]) == 202
    shown = alice.get(f"{V}/os-floating-ips/{made['id']}").json["floating_ip"]
    assert shown["instance_id"] == one
    listed = show(alice, one)["addresses"]["net"]
    assert [(a["addr"], a["OS-EXT-IPS:type"]) for a in listed] == [
        (shown["fixed_ip"], "fixed"),
        (made["ip"], "floating"),
    ]
    assert act(two, "removeFloatingIp", made["ip"]) == 409
    assert act(two, "addFloatingIp", made["ip"]) == 202  # it moves
    assert act(one, "removeFloatingIp", made["ip"]) == 409
    other = alice.post(f"{V}/os-floating-ips", {"pool": out}).json["floating_ip"]
    assert act(two, "addFloatingIp", other["ip"]) == 400  # one address can't have two
    assert act(two, "removeFloatingIp", made["ip"]) == 202
    assert act(two, "removeFloatingIp", "203.0.113.9") == 404
    assert alice.delete(f"{V}/os-floating-ips/{made['id']}").status == 202
    assert alice.get(f"{V}/os-floating-ips", headers=at("2.36")).status == 404


def test_usage_audits_say_that_none_was_run(cloud: Bed, admin: User, alice: User) -> None:
    path = f"{V}/os-instance_usage_audit_log"
    assert admin.get(path).json["instance_usage_audit_logs"]["hosts_not_run"] == ["n1"]
    shown = admin.get(f"{path}/2026-03-15 10:00:00").json["instance_usage_audit_log"]
    assert (shown["period_beginning"], shown["period_ending"]) == (
        "2026-02-01 00:00:00",
        "2026-03-01 00:00:00",
    )
    assert admin.get(f"{path}/yesterday").status == 400
    assert admin.get(f"{path}/0001-01-01 00:00:00").status == 400
    assert alice.get(path).status == 403


def test_what_is_not_offered_is_first_refused_for_the_server_state(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    for verb in ("unpause", "resume", "unshelve", "confirmResize", "revertResize", "unrescue"):
        assert alice.post(f"{V}/servers/{id}/action", {verb: None}).status == 409, verb
    assert alice.post(f"{V}/servers/{id}/action", {"changePassword": {"adminPass": "x"}}).status == 501


def test_a_list_of_none(cloud: Bed, admin: User, alice: User) -> None:
    boot(cloud, alice)
    for path, key in (("servers", "servers"), ("servers/detail", "servers"), ("flavors", "flavors")):
        assert alice.get(f"{V}/{path}?limit=0").json == {key: []}
    assert admin.get(f"{V}/os-hypervisors?limit=0", headers=at("2.33")).json == {"hypervisors": []}


def test_a_private_flavor_is_nobodys_at_first(cloud: Bed, admin: User) -> None:
    want = {"name": "own", "ram": 64, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": False}
    id = admin.post(f"{V}/flavors", {"flavor": want}).json["flavor"]["id"]
    assert admin.get(f"{V}/flavors/{id}/os-flavor-access").json == {"flavor_access": []}
