"""Which host a server gets."""

import pytest

from tests.compute.bed import V, at, boot, show
from tests.conftest import Bed


def host_of(bed: Bed, id: str) -> str:
    return str(show(bed.admin, id)["OS-EXT-SRV-ATTR:host"])


def test_servers_spread_and_obey_hints(pair: Bed) -> None:
    alice = pair.alice
    one, two = boot(pair, alice)["id"], boot(pair, alice)["id"]
    assert {host_of(pair, one), host_of(pair, two)} == {"n1", "n2"}
    assert show(alice, one)["hostId"] != show(alice, two)["hostId"]
    near = boot(pair, alice, hints={"same_host": one})["id"]
    far = boot(pair, alice, hints={"different_host": [one]})["id"]
    assert (host_of(pair, near), host_of(pair, far)) == (host_of(pair, one), host_of(pair, two))
    lost = boot(pair, alice, hints={"different_host": [one, two]})
    assert lost["status"] == "ERROR"
    assert lost["fault"]["message"].count("different_host") == 2


def test_server_groups(pair: Bed) -> None:
    alice = pair.alice

    def group(policy: str) -> str:
        body = {"server_group": {"name": policy, "policies": [policy]}}
        return str(alice.post(f"{V}/os-server-groups", body, headers=at("2.15")).json["server_group"]["id"])

    apart, together = group("anti-affinity"), group("affinity")
    members = [boot(pair, alice, hints={"group": apart}) for _ in range(3)]
    assert [m["status"] for m in members] == ["ACTIVE", "ACTIVE", "ERROR"]
    assert "anti-affinity" in members[2]["fault"]["message"]
    assert len({host_of(pair, m["id"]) for m in members[:2]}) == 2
    held = [boot(pair, alice, hints={"group": together})["id"] for _ in range(3)]
    assert len({host_of(pair, id) for id in held}) == 1
    shown = alice.get(f"{V}/os-server-groups/{together}").json["server_group"]
    assert sorted(shown["members"]) == sorted(held)
    assert pair.bob.get(f"{V}/os-server-groups/{together}").status == 404
    assert alice.delete(f"{V}/os-server-groups/{together}").status == 204


def test_disabled_hosts_and_zones(pair: Bed) -> None:
    alice, admin = pair.alice, pair.admin
    services = {
        s["host"]: s["id"] for s in admin.get(f"{V}/os-services", headers=at("2.53")).json["services"]
    }
    off = {"status": "disabled", "disabled_reason": "new disks"}
    assert (
        admin.put(f"{V}/os-services/{services['n1']}", off, headers=at("2.53")).json["service"]["status"]
        == "disabled"
    )
    assert host_of(pair, boot(pair, alice)["id"]) == "n2"
    forced = boot(pair, admin, availability_zone="nova:n1")
    assert "new disks" in forced["fault"]["message"]
    admin.put(f"{V}/os-services/enable", {"host": "n1", "binary": "nova-compute"})
    zone = admin.post(
        f"{V}/os-aggregates", {"aggregate": {"name": "east", "availability_zone": "east"}}
    ).json["aggregate"]
    assert admin.post(f"{V}/os-aggregates/{zone['id']}/action", {"add_host": {"host": "n1"}}).json[
        "aggregate"
    ]["hosts"] == ["n1"]
    assert [z["zoneName"] for z in alice.get(f"{V}/os-availability-zone").json["availabilityZoneInfo"]] == [
        "east",
        "nova",
    ]
    made = boot(pair, alice, availability_zone="east")
    assert made["OS-EXT-AZ:availability_zone"] == "east"
    assert host_of(pair, made["id"]) == "n1"
    assert admin.delete(f"{V}/os-aggregates/{zone['id']}").status == 400
    assert admin.get(f"{V}/os-availability-zone/detail").json["availabilityZoneInfo"][0]["hosts"].keys() == {
        "n1"
    }
    assert boot(pair, admin, version="2.74", host="n2")["status"] == "ACTIVE"


def test_hypervisors_tell_what_is_used(pair: Bed) -> None:
    alice, admin = pair.alice, pair.admin
    id = boot(pair, alice)["id"]
    name = host_of(pair, id)
    found = {
        h["hypervisor_hostname"]: h
        for h in admin.get(f"{V}/os-hypervisors/detail", headers=at("2.53")).json["hypervisors"]
    }
    assert (found[name]["vcpus_used"], found[name]["running_vms"], found[name]["local_gb_used"]) == (1, 1, 1)
    assert admin.get(f"{V}/os-hypervisors/statistics").json["hypervisor_statistics"]["count"] == 2
    got = admin.get(f"{V}/os-hypervisors?with_servers=true", headers=at("2.53")).json["hypervisors"]
    assert [h["servers"][0]["uuid"] for h in got if "servers" in h] == [id]
    assert alice.get(f"{V}/os-hypervisors").status == 403
    row = next(
        s for s in admin.get(f"{V}/os-services", headers=at("2.53")).json["services"] if s["host"] == name
    )
    assert admin.delete(f"{V}/os-services/{row['id']}", headers=at("2.53")).status == 409


def test_usage_counts_hours(pair: Bed) -> None:
    alice = pair.alice
    boot(pair, alice)
    pair.clock.turn(1800)
    used = alice.get(f"{V}/os-simple-tenant-usage/{alice.project_id}").json["tenant_usage"]
    assert used["total_memory_mb_usage"] == pytest.approx(64, rel=0.01)
    assert used["server_usages"][0]["state"] == "active"
    assert pair.bob.get(f"{V}/os-simple-tenant-usage/{alice.project_id}").status == 403
