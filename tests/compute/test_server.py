"""The life of servers, as their owners see it."""

from pathlib import Path

import pytest

from tests.compute.bed import V, act, at, boot, image, network, show, status
from tests.conftest import Bed, User


def refuse(cloud: Bed, why: str) -> None:
    """The host refuses the next start, also when the step is run twice."""
    for _ in range(2 if cloud.worker._twice else 1):
        cloud.host("n1").fail_next("ensure", why)


def test_a_server_boots_with_its_port_and_answers_with_all_it_has(cloud: Bed, alice: User) -> None:
    net = network(alice)
    key = alice.post(f"{V}/os-keypairs", {"keypair": {"name": "k"}}).json["keypair"]
    made = boot(
        cloud,
        alice,
        networks=[{"uuid": net}],
        key_name="k",
        metadata={"a": "1"},
        user_data="aGVsbG8=",
        config_drive=True,
        adminPass="s3cret",
    )
    assert (made["status"], made["OS-EXT-STS:vm_state"], made["OS-EXT-STS:power_state"]) == (
        "ACTIVE",
        "active",
        1,
    )
    addr = made["addresses"]["net"][0]
    assert addr["OS-EXT-IPS:type"] == "fixed"
    assert made["config_drive"] == "True"
    assert made["key_name"] == "k"
    assert made["security_groups"] == [{"name": "default"}]
    domain = cloud.host("n1").domains[made["id"]]
    assert (domain.vcpus, domain.memory_mib, domain.root_disk_gib) == (1, 128, 1)
    meta = domain.guest_data.meta_data
    assert meta["uuid"] == made["id"]
    assert meta["public_keys"] == {"k": key["public_key"]}
    assert meta["meta"] == {"a": "1"}
    assert meta["admin_pass"] == "s3cret"
    assert domain.guest_data.user_data == b"hello"
    assert domain.guest_data.network_data["networks"][0]["ip_address"] == addr["addr"]
    assert domain.nics[0].fixed_ips == (addr["addr"],)
    held = cloud.admin.get(
        f"/placement/allocations/{made['id']}", headers={"OpenStack-API-Version": "placement 1.28"}
    ).json
    assert next(iter(held["allocations"].values()))["resources"] == {
        "DISK_GB": 1,
        "MEMORY_MB": 128,
        "VCPU": 1,
    }


def test_stop_start_and_both_reboots(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice, networks=[{"uuid": network(alice)}])["id"]
    host = cloud.host("n1")
    for verb, value, ends, starts in (
        ("os-stop", None, "SHUTOFF", 1),
        ("os-start", None, "ACTIVE", 2),
        ("reboot", {"type": "SOFT"}, "ACTIVE", 3),
        ("reboot", {"type": "HARD"}, "ACTIVE", 4),
    ):
        assert act(alice, id, verb, value).status == 202
        assert show(alice, id)["OS-EXT-STS:task_state"] is not None
        cloud.settle()
        assert status(alice, id) == ends
        assert host.starts(id) == starts or cloud.worker._twice
    assert act(alice, id, "os-start").status == 409
    actions = [
        a["action"] for a in alice.get(f"{V}/servers/{id}/os-instance-actions").json["instanceActions"]
    ]
    assert actions == ["reboot", "reboot", "start", "stop", "create"]


def test_a_deaf_guest_is_switched_off_after_the_time_for_shutting_down(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    cloud.host("n1").deaf = True
    act(alice, id, "os-stop")
    cloud.turn(10)
    assert show(alice, id)["OS-EXT-STS:task_state"] == "powering-off"
    cloud.turn(cloud.config.compute.shutdown_timeout + 2)
    assert status(alice, id) == "SHUTOFF"


def test_a_guest_that_powers_itself_off_is_seen_and_stays_off(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    cloud.host("n1").guest_powers_off(id)
    cloud.settle()
    assert status(alice, id) == "SHUTOFF"
    cloud.turn(30)
    assert status(alice, id) == "SHUTOFF"
    act(alice, id, "os-start")
    cloud.settle()
    assert status(alice, id) == "ACTIVE"


def test_a_server_boots_even_when_the_host_loses_its_replies(cloud: Bed, alice: User) -> None:
    net = network(alice)
    cloud.host("n1").lose_reply(3)
    made = boot(cloud, alice, networks=[{"uuid": net}])
    cloud.turn(20)
    assert status(alice, made["id"]) == "ACTIVE"
    assert list(cloud.host("n1").domains) == [made["id"]]


def test_a_host_that_dies_and_comes_back_has_its_servers_running_again(cloud: Bed, alice: User) -> None:
    running, stopped = boot(cloud, alice, networks=[{"uuid": network(alice)}])["id"], boot(cloud, alice)["id"]
    act(alice, stopped, "os-stop")
    cloud.settle()
    host = cloud.host("n1")
    host.die()
    cloud.turn(90, every=10)
    services = cloud.admin.get(f"{V}/os-services").json["services"]
    assert [s["state"] for s in services] == ["down"]
    refused = boot(cloud, alice)
    assert refused["status"] == "ERROR"
    assert "has not reported" in refused["fault"]["message"]
    host.boot()
    cloud.turn(40, every=5)
    assert (status(alice, running), status(alice, stopped)) == ("ACTIVE", "SHUTOFF")
    assert cloud.admin.get(f"{V}/os-services").json["services"][0]["state"] == "up"


def test_no_room_is_said_per_host(cloud: Bed, alice: User, admin: User) -> None:
    flavor = {"id": "big", "name": "big", "ram": 1 << 20, "vcpus": 2000, "disk": 1}
    assert admin.post(f"{V}/flavors", {"flavor": flavor}).status == 200
    admin.put(f"{V}/os-quota-sets/{alice.project_id}", {"quota_set": {"cores": -1, "ram": -1}})
    made = boot(cloud, alice, flavor="big")
    assert made["status"] == "ERROR"
    fault = made["fault"]["message"]
    assert fault.startswith("No valid host was found.")
    for word in ("n1", "not enough VCPU: 2000 wanted", "not enough MEMORY_MB: 1048576 MiB wanted"):
        assert word in fault
    assert made["hostId"] == ""
    assert alice.delete(f"{V}/servers/{made['id']}").status == 204
    cloud.settle()
    assert status(alice, made["id"]) == "404"


def test_a_build_that_the_host_refuses_ends_in_error_and_gives_all_back(cloud: Bed, alice: User) -> None:
    net = network(alice)
    refuse(cloud, "QEMU has no such machine type; update it")
    made = boot(cloud, alice, networks=[{"uuid": net}])
    assert made["status"] == "ERROR"
    assert "QEMU has no such machine type" in made["fault"]["message"]
    assert "n1" in made["fault"]["message"]
    assert cloud.admin.get(f"/placement/allocations/{made['id']}").json["allocations"] == {}
    assert alice.get(f"/network/v2.0/ports?device_id={made['id']}").json["ports"] == []
    assert cloud.host("n1").domains == {}
    assert alice.delete(f"{V}/servers/{made['id']}").status == 204
    cloud.settle()
    assert status(alice, made["id"]) == "404"


def test_a_port_that_never_comes_up_is_named_in_the_fault(cloud: Bed, alice: User) -> None:
    net = network(alice)
    cloud.host("n1").on_plug = None
    made = boot(cloud, alice, networks=[{"uuid": net}])
    assert made["status"] == "BUILD"
    cloud.turn(cloud.config.compute.boot_timeout + 10, every=10)
    fault = show(alice, made["id"])["fault"]["message"]
    assert "port" in fault
    assert "host n1" in fault
    assert f"{cloud.config.compute.boot_timeout} seconds" in fault


@pytest.mark.parametrize("when", ["building", "active", "stopped", "stopping", "rebooting", "error"])
def test_deletion_from_every_state_gives_everything_back(cloud: Bed, alice: User, when: str) -> None:
    net = network(alice)
    cloud.host("n1").deaf = when in ("stopping", "rebooting")
    if when == "error":
        refuse(cloud, "no")
    id = boot(cloud, alice, networks=[{"uuid": net}], settle=when != "building")["id"]
    if when in ("stopped", "stopping"):
        act(alice, id, "os-stop")
    if when == "rebooting":
        act(alice, id, "reboot", {"type": "SOFT"})
    cloud.settle()
    assert alice.delete(f"{V}/servers/{id}").status == 204
    assert alice.delete(f"{V}/servers/{id}").status in (204, 404)
    cloud.settle()
    assert status(alice, id) == "404"
    assert cloud.host("n1").domains == {}
    assert alice.get(f"/network/v2.0/ports?device_id={id}").json["ports"] == []
    assert cloud.admin.get(f"/placement/allocations/{id}").json["allocations"] == {}
    assert alice.delete(f"/network/v2.0/networks/{net}").status == 204


def test_deletion_waits_for_a_host_that_is_gone_and_says_so(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    cloud.host("n1").down = True
    alice.delete(f"{V}/servers/{id}")
    cloud.turn(30, every=5)
    shown = show(alice, id)
    assert shown["OS-EXT-STS:task_state"] == "deleting"
    assert "waits for host n1" in shown["fault"]["message"]
    cloud.host("n1").down = False
    cloud.turn(20, every=5)
    assert status(alice, id) == "404"
    assert cloud.host("n1").domains == {}


def test_a_hard_reboot_mends_a_server_that_failed_to_start(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    act(alice, id, "os-stop")
    cloud.settle()
    refuse(cloud, "disk image is damaged")
    act(alice, id, "os-start")
    cloud.settle()
    assert "disk image is damaged" in show(alice, id)["fault"]["message"]
    assert status(alice, id) == "ERROR"
    assert act(alice, id, "reboot", {"type": "HARD"}).status == 202
    cloud.settle()
    shown = show(alice, id)
    assert shown["status"] == "ACTIVE"
    assert "fault" not in shown


def test_locks_keep_others_but_not_admins_out(cloud: Bed, alice: User, admin: User) -> None:
    id = boot(cloud, alice)["id"]
    assert act(admin, id, "lock").status == 202
    assert act(alice, id, "os-stop").status == 409
    assert act(alice, id, "unlock").status == 403
    assert act(admin, id, "unlock").status == 202
    assert act(alice, id, "lock", {"locked_reason": "mine"}, version="2.73").status == 202
    assert show(alice, id, "2.73")["locked_reason"] == "mine"
    assert act(alice, id, "unlock").status == 202


def test_console_output(cloud: Bed, alice: User, reader: User) -> None:
    id = boot(cloud, alice)["id"]
    assert act(alice, id, "os-getConsoleOutput", {"length": 1}).json["output"].endswith("login: \n")
    assert act(reader, id, "os-getConsoleOutput", {}).status == 403
    cloud.host("n1").down = True
    assert act(alice, id, "os-getConsoleOutput", {}).status == 503


def test_nobody_reaches_a_server_of_another_project(cloud: Bed, alice: User, bob: User, reader: User) -> None:
    id = boot(cloud, alice)["id"]
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/metadata"),
        ("GET", "/os-interface"),
        ("GET", "/os-volume_attachments"),
        ("GET", "/ips"),
        ("GET", "/os-instance-actions"),
        ("GET", "/os-security-groups"),
        ("GET", "/os-server-password"),
    ):
        assert bob.call(method, f"{V}/servers/{id}{path}").status == 404, path
    assert act(bob, id, "os-stop").status == 404
    assert bob.get(f"{V}/servers/detail").json["servers"] == []
    assert bob.get(f"{V}/servers?all_tenants=1").status == 403
    assert reader.get(f"{V}/servers/{id}").status == 200
    assert reader.delete(f"{V}/servers/{id}").status == 403
    assert act(reader, id, "os-stop").status == 403
    assert cloud.admin.get(f"{V}/servers/detail?all_tenants=1").json["servers"][0]["id"] == id


def test_quotas_are_kept(cloud: Bed, alice: User, admin: User) -> None:
    img = image(alice)
    path = f"{V}/os-quota-sets/{alice.project_id}"
    assert admin.put(path, {"quota_set": {"instances": 3}}).json["quota_set"]["instances"] == 3
    want = {"name": "n", "flavorRef": "42", "imageRef": img}
    many = alice.post(
        f"{V}/servers", {"server": {**want, "min_count": 2, "max_count": 9, "return_reservation_id": True}}
    )
    assert many.status == 202
    found = alice.get(f"{V}/servers?reservation_id={many.json['reservation_id']}").json["servers"]
    assert sorted(s["name"] for s in found) == ["n-1", "n-2", "n-3"]
    over = alice.post(f"{V}/servers", {"server": want})
    assert over.status == 403
    assert "Quota exceeded for instances" in over.json["forbidden"]["message"]
    detail = alice.get(f"{path}/detail").json["quota_set"]["instances"]
    assert detail == {"limit": 3, "in_use": 3, "reserved": 0}
    assert alice.get(f"{V}/limits").json["limits"]["absolute"]["totalInstancesUsed"] == 3
    assert admin.put(path, {"quota_set": {"instances": 1}}).status == 400
    assert admin.delete(path).status == 202
    assert alice.get(path).json["quota_set"]["instances"] == 10


def test_metadata_and_tags(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice, metadata={"a": "1"})["id"]
    path = f"{V}/servers/{id}/metadata"
    assert alice.post(path, {"metadata": {"b": "2"}}).json["metadata"] == {"a": "1", "b": "2"}
    assert alice.put(f"{path}/a", {"meta": {"a": "9"}}).json == {"meta": {"a": "9"}}
    assert alice.put(f"{path}/a", {"meta": {"x": "9"}}).status == 400
    assert alice.delete(f"{path}/b").status == 204
    assert alice.get(f"{path}/b").status == 404
    assert alice.put(path, {"metadata": {"z": ""}}).json["metadata"] == {"z": ""}
    cloud.settle()
    assert cloud.host("n1").domains[id].guest_data.meta_data["meta"] == {"z": ""}
    assert alice.get(f"{V}/servers/detail?metadata=%7B%22z%22:%22%22%7D").json["servers"][0]["id"] == id
    tags = f"{V}/servers/{id}/tags"
    now = {"headers": at("2.26")}
    assert alice.get(tags).status == 404
    assert alice.put(tags, {"tags": ["x", "y"]}, **now).json == {"tags": ["x", "y"]}
    assert alice.put(f"{tags}/w", **now).status == 201
    assert alice.put(f"{tags}/w", **now).status == 204
    assert alice.get(f"{tags}/nope", **now).status == 404
    assert alice.delete(f"{tags}/w", **now).status == 204
    for query, found in (
        ("tags=x,y", 1),
        ("tags=x,q", 0),
        ("tags-any=x,q", 1),
        ("not-tags=x,q", 1),
        ("not-tags-any=x", 0),
    ):
        assert len(alice.get(f"{V}/servers?{query}", **now).json["servers"]) == found, query


def test_lists_filter_sort_and_page(cloud: Bed, alice: User) -> None:
    for name in ("web-1", "web-2", "db.x"):
        boot(cloud, alice, name=name)
        cloud.clock.turn(1)

    def names(query: str) -> list[str]:
        got = alice.get(f"{V}/servers?{query}")
        assert got.status == 200, got
        return [s["name"] for s in got.json["servers"]]

    assert names("") == ["db.x", "web-2", "web-1"]
    assert names("name=^web-1$") == ["web-1"]
    assert names("name=web") == ["web-2", "web-1"]
    assert names("name=^db%5C.x$") == ["db.x"]
    assert names("sort_key=display_name&sort_dir=asc") == ["db.x", "web-1", "web-2"]
    assert names("status=ACTIVE") == ["db.x", "web-2", "web-1"]
    assert names("status=error") == []
    assert names("name=(a%2B)%2B$") == []
    assert alice.get(f"{V}/servers?name=(a)%5C1").status == 400
    assert alice.get(f"{V}/servers?name=%5B").status == 400
    assert alice.get(f"{V}/servers?marker=nope").status == 400
    assert alice.get(f"{V}/servers?limit=-1").status == 400
    first = alice.get(f"{V}/servers/detail?limit=2").json
    assert [s["name"] for s in first["servers"]] == ["db.x", "web-2"]
    link = first["servers_links"][0]["href"]
    assert link.startswith("http")
    rest = alice.get(link.partition("falconframework.org")[2]).json
    assert [s["name"] for s in rest["servers"]] == ["web-1"]
    assert "servers_links" not in rest


def test_changes_since_shows_deleted_servers(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    before = cloud.clock.now().isoformat() + "Z"
    cloud.clock.turn(5)
    alice.delete(f"{V}/servers/{id}")
    cloud.settle()
    assert alice.get(f"{V}/servers/detail").json["servers"] == []
    changed = alice.get(f"{V}/servers/detail?changes-since={before}").json["servers"]
    assert [(s["id"], s["status"]) for s in changed] == [(id, "DELETED")]


def test_interfaces_come_and_go(cloud: Bed, alice: User) -> None:
    first, second = network(alice, "one"), network(alice, "two", "10.2.0.0/24")
    id = boot(cloud, alice, networks=[{"uuid": first}])["id"]
    path = f"{V}/servers/{id}/os-interface"
    made = alice.post(path, {"interfaceAttachment": {"net_id": second}})
    assert made.status == 200, made
    port = made.json["interfaceAttachment"]["port_id"]
    cloud.settle()
    assert [n.port_id for n in cloud.host("n1").domains[id].nics][-1] == port
    assert set(show(alice, id)["addresses"]) == {"one", "two"}
    assert len(alice.get(path).json["interfaceAttachments"]) == 2
    assert alice.delete(f"{path}/{port}").status == 202
    cloud.settle()
    assert len(cloud.host("n1").domains[id].nics) == 1
    assert alice.get(f"/network/v2.0/ports/{port}").status == 404
    assert alice.get(f"{path}/{port}").status == 404
    own = alice.post("/network/v2.0/ports", {"port": {"network_id": second}}).json["port"]["id"]
    assert alice.post(path, {"interfaceAttachment": {"port_id": own}}).status == 200
    cloud.settle()
    assert alice.delete(f"{path}/{own}").status == 202
    cloud.settle()
    assert alice.get(f"/network/v2.0/ports/{own}").json["port"]["device_id"] == ""


def test_fixed_addresses_come_and_go(cloud: Bed, alice: User) -> None:
    net = network(alice)
    id = boot(cloud, alice, networks=[{"uuid": net}])["id"]
    assert act(alice, id, "addFixedIp", {"networkId": net}).status == 202
    cloud.settle()
    addrs = [a["addr"] for a in show(alice, id)["addresses"]["net"]]
    assert len(addrs) == 2
    assert act(alice, id, "removeFixedIp", {"address": addrs[1]}).status == 202
    assert [a["addr"] for a in show(alice, id)["addresses"]["net"]] == addrs[:1]
    assert act(alice, id, "addFixedIp", {"networkId": net}, version="2.44").status == 404


def test_security_groups_of_a_server(cloud: Bed, alice: User) -> None:
    net = network(alice)
    group = alice.post(
        f"{V}/os-security-groups", {"security_group": {"name": "web", "description": "d"}}
    ).json["security_group"]
    rule = {"parent_group_id": group["id"], "ip_protocol": "tcp", "from_port": 22, "to_port": 22}
    made = alice.post(f"{V}/os-security-group-rules", {"security_group_rule": rule})
    assert made.status == 200, made
    assert made.json["security_group_rule"]["ip_range"] == {"cidr": "0.0.0.0/0"}
    assert (
        alice.get(f"{V}/os-security-groups/{group['id']}").json["security_group"]["rules"][0]["from_port"]
        == 22
    )
    assert alice.get(f"{V}/os-security-groups", headers=at("2.36")).status == 404
    id = boot(cloud, alice, networks=[{"uuid": net}], security_groups=[{"name": "web"}])["id"]
    assert show(alice, id)["security_groups"] == [{"name": "web"}]
    assert act(alice, id, "addSecurityGroup", {"name": "default"}).status == 202
    assert show(alice, id)["security_groups"] == [{"name": "default"}, {"name": "web"}]
    assert act(alice, id, "removeSecurityGroup", {"name": "web"}).status == 202
    assert act(alice, id, "removeSecurityGroup", {"name": "web"}).status == 404
    assert [g["name"] for g in alice.get(f"{V}/servers/{id}/os-security-groups").json["security_groups"]] == [
        "default"
    ]


def test_update(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    made = alice.put(
        f"{V}/servers/{id}",
        {"server": {"name": "new", "accessIPv4": "192.0.2.1", "accessIPv6": "2001:db8::1"}},
    )
    assert made.status == 200
    assert (made.json["server"]["name"], made.json["server"]["accessIPv4"]) == ("new", "192.0.2.1")
    for bad in (
        {"name": ""},
        {"name": " x"},
        {"accessIPv4": "300.1.1.1"},
        {"color": "red"},
        {"name": "x" * 256},
        {"name": 5},
    ):
        assert alice.put(f"{V}/servers/{id}", {"server": bad}).status == 400, bad


def test_what_is_not_offered_says_so_in_the_api_s_words(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    assert act(alice, id, "changePassword", {"adminPass": "x"}).json["notImplemented"]["code"] == 501
    assert act(alice, id, "dance").json["badRequest"]["message"] == "There is no such action: dance"
    assert alice.post(f"{V}/servers/{id}/action", {"os-stop": None, "os-start": None}).status == 400
    assert act(alice, "0" * 8 + "-0000-0000-0000-" + "0" * 12, "os-stop").status == 404
    assert alice.get(f"{V}/os-agents").status == 410
    assert act(alice, id, "trigger_crash_dump", version="2.16").status == 400


def test_orphans_are_told_and_left_alone(cloud: Bed, alice: User) -> None:
    from stackling.compute.steps.host import orphans

    id = boot(cloud, alice)["id"]
    assert orphans(cloud.cloud) == {}
    with cloud.db.begin() as tx:
        tx.exec_driver_sql("DELETE FROM server")
    assert orphans(cloud.cloud) == {"n1": [id]}


@pytest.mark.parametrize(
    "more",
    [
        {"name": ""},
        {"name": None},
        {"name": "x" * 256},
        {"flavorRef": "nope"},
        {"flavorRef": {}},
        {"imageRef": "not-a-uuid"},
        {"imageRef": "11111111-2222-3333-4444-555555555555"},
        {"networks": "some"},
        {"networks": [{"uuid": "x"}]},
        {"networks": [{}]},
        {"networks": [{"uuid": "11111111-2222-3333-4444-555555555555"}]},
        {"networks": [{"port": "11111111-2222-3333-4444-555555555555"}]},
        {"key_name": "nobody"},
        {"user_data": "%%%"},
        {"user_data": "A" * 65536},
        {"metadata": {"k": "v" * 256}},
        {"metadata": {"": "v"}},
        {"metadata": {"k": 1}},
        {"metadata": []},
        {"min_count": 0},
        {"min_count": 3, "max_count": 2},
        {"min_count": "x"},
        {"availability_zone": "moon"},
        {"availability_zone": "nova:n1"},
        {"security_groups": [{"name": "nobody"}]},
        {
            "block_device_mapping_v2": [
                {
                    "source_type": "volume",
                    "destination_type": "volume",
                    "boot_index": 0,
                    "uuid": "11111111-2222-3333-4444-555555555555",
                }
            ]
        },
        {"block_device_mapping_v2": [{"source_type": "moon"}]},
        {
            "block_device_mapping_v2": [
                {"source_type": "blank", "destination_type": "volume", "boot_index": 5, "volume_size": 1}
            ]
        },
        {
            "block_device_mapping_v2": [
                {"source_type": "blank", "destination_type": "local", "volume_size": 100}
            ]
        },
        {"personality": [{"path": "/etc/motd", "contents": "aGk="}]},
        {"OS-DCF:diskConfig": "SOMETIMES"},
        {"accessIPv4": "::1"},
        {"unknown": 1},
        {"tags": ["a"]},
        {"description": "d" * 256},
    ],
)
def test_bad_bodies_are_refused_with_the_field(cloud: Bed, alice: User, more: dict[str, object]) -> None:
    want = {"name": "x", "flavorRef": "42", "imageRef": image(alice), "networks": "none", **more}
    got = alice.post(f"{V}/servers", {"server": want}, headers=at("2.37"))
    assert 400 <= got.status < 500, got
    assert alice.get(f"{V}/servers").json["servers"] == []


def test_the_readme_names_every_action_that_is_not_offered() -> None:
    from stackling.compute.api.server_action import VERBS

    text = (Path(__file__).parents[2] / "src/stackling/compute/README.md").read_text()
    assert [name for name, verb in VERBS.items() if verb.act is None and f"`{name}`" not in text] == []
