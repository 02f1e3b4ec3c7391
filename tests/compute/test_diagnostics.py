"""What a server uses, as an admin sees it."""

from tests.compute.bed import V, act, at, boot, network
from tests.conftest import Bed, User


def test_a_server_is_measured(cloud: Bed, alice: User, bob: User, admin: User) -> None:
    id = boot(cloud, alice, networks=[{"uuid": network(alice)}], config_drive=True)["id"]
    path = f"{V}/servers/{id}/diagnostics"
    cloud.clock.turn(90)
    got = admin.get(path, headers=at("2.48"))
    assert got.status == 200, got
    port = alice.get(f"/network/v2.0/ports?device_id={id}").json["ports"][0]
    none = dict.fromkeys(["octets", "packets", "errors", "drop"], 0)
    counters = {f"{way}_{what}": n for way in ("rx", "tx") for what, n in none.items()}
    disk = dict.fromkeys(["read_bytes", "read_requests", "write_bytes", "write_requests", "errors_count"], 0)
    assert got.json == {
        "state": "running",
        "driver": "libvirt",
        "hypervisor": "fake",
        "hypervisor_os": "linux",
        "uptime": 90,
        "config_drive": True,
        "num_cpus": 1,
        "num_disks": 1,
        "num_nics": 1,
        "cpu_details": [{"id": 0, "time": 0, "utilisation": None}],
        "disk_details": [disk],
        "nic_details": [{"mac_address": port["mac_address"], "rx_rate": None, "tx_rate": None, **counters}],
        "memory_details": {"maximum": 128, "used": 128},
    }
    flat = admin.get(path, headers=at("2.47")).json
    tap = f"tap{port['id'][:11]}"
    assert flat["memory"] == 128 * 1024
    assert {"cpu0_time", "vda_read", "vda_write_req", "vda_errors", f"{tap}_rx", f"{tap}_tx_drop"} <= set(
        flat
    )
    assert alice.get(path).status == 403, "admins only"
    assert bob.get(path).status == 404


def test_one_that_does_not_run_is_not(cloud: Bed, alice: User, admin: User) -> None:
    id = boot(cloud, alice)["id"]
    path = f"{V}/servers/{id}/diagnostics"
    act(alice, id, "pause")
    cloud.settle()
    assert "paused" in admin.get(path).json["conflictingRequest"]["message"]
    act(alice, id, "unpause")
    cloud.settle()
    cloud.host("n1").down = True
    assert admin.get(path).status == 503
    cloud.host("n1").down = False
    act(alice, id, "os-stop")
    cloud.settle()
    assert admin.get(path).status == 409
    alice.delete(f"{V}/servers/{id}")
    cloud.settle()
    assert admin.get(path).status == 404
