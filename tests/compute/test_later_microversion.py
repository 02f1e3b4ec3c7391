"""What changed from microversion 2.80 on changes just there."""

from tests.compute.bed import V, act, at, boot, image, show
from tests.compute.test_shelf import shelved
from tests.compute.test_volume_attachment import volume
from tests.conftest import Bed, User


def from_volume(cloud: Bed, user: User, **more: str) -> str:
    """A server that boots from a volume which is made of an image."""
    root = {"source_type": "image", "destination_type": "volume", "uuid": image(user), "boot_index": 0}
    made = boot(cloud, user, block_device_mapping_v2=[{**root, "volume_size": 1}], **more)
    assert made["status"] == "ACTIVE", made
    return str(made["id"])


def test_migrations_are_asked_for_by_owner_from_2_80(cloud: Bed, admin: User) -> None:
    path = f"{V}/os-migrations?user_id={admin.id}&project_id={admin.project_id}"
    assert admin.get(path, headers=at("2.79")).status == 400
    assert admin.get(path, headers=at("2.80")).json == {"migrations": []}


def test_events_of_accelerators_from_2_82(cloud: Bed, alice: User, admin: User) -> None:
    event = {"server_uuid": boot(cloud, alice)["id"], "name": "accelerator-request-bound", "tag": "arq"}
    body = {"events": [event]}
    assert admin.post(f"{V}/os-server-external-events", body, headers=at("2.81")).status == 400
    assert admin.post(f"{V}/os-server-external-events", body, headers=at("2.82")).status == 200


def test_everybody_filters_by_more_from_2_83(cloud: Bed, alice: User, admin: User) -> None:
    old = boot(cloud, alice, config_drive=True)
    cloud.turn(10)
    new = boot(cloud, alice)
    launched = show(alice, new["id"])["OS-SRV-USG:launched_at"]

    def listed(query: str, version: str = "2.83", user: User = alice) -> list[str]:
        got = user.get(f"{V}/servers?{query}", headers=at(version))
        assert got.status == 200, got
        return [s["id"] for s in got.json["servers"]]

    both = [new["id"], old["id"]]
    for query, found in (
        (f"created_at={new['created']}", [new["id"]]),
        (f"launched_at={launched}", [new["id"]]),
        (f"terminated_at={launched}", []),
        ("config_drive=true", [old["id"]]),
        ("progress=0", both),
        ("progress=100", []),
        ("vm_state=active", both),
        ("vm_state=stopped", []),
        ("power_state=4", []),
        ("task_state=deleting", []),
        ("availability_zone=mars", []),
        ("key_name=lost", []),
        ("user_id=somebody", []),
    ):
        assert listed(query) == found, query
        assert listed(query, "2.82") == both, f"{query} is not for everybody yet"
        assert listed(f"{query}&all_tenants=1", "2.1", admin) == found, query
    assert alice.get(f"{V}/servers?created_at=yesterday", headers=at("2.83")).status == 400
    assert alice.get(f"{V}/servers?created_at=9999-12-31T23:59:59", headers=at("2.83")).status == 200
    assert listed(f"hostname={old['name']}") == both, "not among those that were opened"


def test_failed_events_have_details_from_2_84(cloud: Bed, alice: User, admin: User) -> None:
    for _ in range(2):  # where each step runs twice
        cloud.host("n1").fail_next("ensure", "no room for it")
    id = boot(cloud, alice)["id"]
    request = alice.get(f"{V}/servers/{id}/os-instance-actions").json["instanceActions"][0]["request_id"]

    def event(user: User, version: str) -> dict[str, str]:
        got = user.get(f"{V}/servers/{id}/os-instance-actions/{request}", headers=at(version))
        return dict(got.json["instanceAction"]["events"][0])

    assert "details" not in event(admin, "2.83")
    assert "no room for it" in event(admin, "2.84")["details"]
    assert "details" not in event(alice, "2.84"), "admins only"


def test_what_becomes_of_a_volume_is_changed_from_2_85(
    cloud: Bed, alice: User, bob: User, admin: User
) -> None:
    vol, other = volume(cloud, alice), volume(cloud, alice)
    id = boot(cloud, alice)["id"]
    path = f"{V}/servers/{id}/os-volume_attachments"
    alice.post(path, {"volumeAttachment": {"volumeId": vol, "tag": "data"}}, headers=at("2.79"))
    cloud.settle()

    def put(user: User, version: str = "2.85", **sent: object) -> int:
        body = {"volumeAttachment": {"volumeId": vol, **sent}}
        return user.put(f"{path}/{vol}", body, headers=at(version)).status

    def goes() -> bool:
        got = alice.get(f"{path}/{vol}", headers=at("2.79")).json["volumeAttachment"]
        return bool(got["delete_on_termination"])

    whole = {"id": vol, "serverId": id, "device": "/dev/vdb", "tag": "data", "delete_on_termination": True}
    assert put(admin, "2.84", delete_on_termination=True) == 400
    assert put(alice, "2.84") == 403, "it is about another volume still, which is for admins"
    assert put(alice, **whole) == 202
    assert goes()
    for name, value in (("id", other), ("serverId", other), ("device", "/dev/vdc"), ("tag", "root")):
        assert put(alice, **{**whole, "delete_on_termination": False, name: value}) == 400, name
    assert goes(), "nothing was changed"
    assert put(alice, delete_on_termination="maybe") == 400
    assert put(alice) == 202
    assert put(bob, delete_on_termination=False) == 404
    assert put(alice, volumeId=other) == 403
    assert put(admin, volumeId=other) == 501
    alice.delete(f"{V}/servers/{id}")
    cloud.settle()
    assert alice.get(f"/volume/v3/volumes/{vol}").status == 404


GOOD = [
    ("hw:cpu_policy", "dedicated"),
    ("hw:cpu_realtime_mask", "^0-1,3"),
    ("hw:numa_cpus.0", "0-3"),
    ("hw:mem_page_size", "2MB"),
    ("hw_rng:allowed", "True"),
    ("quota:disk_total_iops_sec", "0"),
    ("quota:cpu_shares_level", "high"),
    ("resources:VGPU", "1"),
    ("resources_GPU1:CUSTOM_THING", "1"),
    ("trait:HW_CPU_X86_AVX2", "required"),
    ("trait2:CUSTOM_FAST", "forbidden"),
    ("capabilities:cpu_info:features", "<in> aes"),
    ("capabilities:vcpus", ">= 4"),
    ("aggregate_instance_extra_specs:ssd", "true"),
    ("pci_passthrough:alias", "gpu:1, nic:2"),
    ("group_policy", "none"),
    ("mine", "anything"),
    ("mine:else", "anything"),
]
BAD = [
    ("hw:cpu_policy", "sharrred"),
    ("hw:cpu_polizy", "shared"),
    ("hw:numa_nodes", "0"),
    ("hw:numa_cpus.x", "0"),
    ("hw:cpu_realtime_mask", "1-"),
    ("hw:boot_menu", "maybe"),
    ("hw_rng:rate_bytes", "-1"),
    ("quota:cpu_share", "1"),
    ("quota:memory_limit", "much"),
    ("resources:GOLD", "1"),
    ("resources1:VCPU", "many"),
    ("trait:CUSTOM_FAST", "wanted"),
    ("trait:NO_SUCH", "required"),
    ("capabilities:weather", "fine"),
    ("os:secure_boot", "maybe"),
    ("group_policy", "any"),
]


def test_extra_specs_that_are_known_are_checked_from_2_86(cloud: Bed, admin: User) -> None:
    path = f"{V}/flavors/42/os-extra_specs"
    for name, value in GOOD:
        got = admin.post(path, {"extra_specs": {name: value}}, headers=at("2.86"))
        assert got.status == 200, (name, got)
    for name, value in BAD:
        got = admin.post(path, {"extra_specs": {"mine": "x", name: value}}, headers=at("2.86"))
        assert got.status == 400, (name, got)
        assert name in got.json["badRequest"]["message"]
        assert admin.put(f"{path}/{name}", {name: value}, headers=at("2.86")).status == 400, name
        assert admin.post(path, {"extra_specs": {name: value}}, headers=at("2.85")).status == 200, name


def test_a_server_that_boots_from_a_volume_is_rescued_from_2_87(cloud: Bed, alice: User) -> None:
    id, other = from_volume(cloud, alice), image(alice)
    got = act(alice, id, "rescue", {"rescue_image_ref": other}, "2.86")
    assert (got.status, "volume-backed" in got.json["badRequest"]["message"]) == (400, True)
    got = act(alice, id, "rescue", None, "2.87")
    assert "rescue_image_ref" in got.json["badRequest"]["message"], "it has no image to begin with"
    assert act(alice, id, "rescue", {"rescue_image_ref": other}, "2.87").status == 200
    cloud.settle()
    assert show(alice, id)["status"] == "RESCUE"
    domain = cloud.host("n1").domains[id]
    assert (domain.image, domain.rescue.id, len(domain.disks)) == (None, other, 1)
    assert act(alice, id, "unrescue").status == 202
    cloud.settle()
    assert show(alice, id)["status"] == "ACTIVE"
    assert cloud.host("n1").domains[id].rescue is None
    assert [d.boot_index for d in cloud.host("n1").domains[id].disks] == [0]


def test_hypervisors_have_no_numbers_from_2_88(cloud: Bed, admin: User) -> None:
    old, new = (
        admin.get(f"{V}/os-hypervisors/detail", headers=at(v)).json["hypervisors"][0]
        for v in ("2.87", "2.88")
    )
    assert {"vcpus", "memory_mb_used", "running_vms", "cpu_info", "disk_available_least"} <= set(old)
    brief = {"id", "hypervisor_hostname", "state", "status"}
    assert set(new) == brief | {"hypervisor_type", "hypervisor_version", "host_ip", "service", "uptime"}
    path = f"{V}/os-hypervisors/{new['id']}"
    shown = admin.get(f"{path}?with_servers=true", headers=at("2.88")).json["hypervisor"]
    assert shown == {**new, "servers": []}
    assert " up " in new["uptime"]
    for gone in (f"{path}/uptime", f"{V}/os-hypervisors/statistics"):
        assert [admin.get(gone, headers=at(v)).status for v in ("2.87", "2.88")] == [200, 404]
    cloud.host("n1").down = True
    cloud.turn(120)
    assert admin.get(path, headers=at("2.88")).json["hypervisor"]["uptime"] is None, "nobody knows"


def test_attachments_have_their_own_ids_from_2_89(cloud: Bed, alice: User) -> None:
    vol = volume(cloud, alice)
    id = boot(cloud, alice)["id"]
    path = f"{V}/servers/{id}/os-volume_attachments"
    made = alice.post(path, {"volumeAttachment": {"volumeId": vol}}, headers=at("2.89"))
    assert set(made.json["volumeAttachment"]) == {
        *("id", "serverId", "volumeId", "device", "tag", "delete_on_termination")
    }
    cloud.settle()
    old = alice.get(f"{path}/{vol}", headers=at("2.88")).json["volumeAttachment"]
    new = alice.get(f"{path}/{vol}", headers=at("2.89")).json["volumeAttachment"]
    assert (set(old) - set(new), set(new) - set(old)) == ({"id"}, {"attachment_id", "bdm_uuid"})
    assert alice.get(path, headers=at("2.89")).json["volumeAttachments"] == [new]
    attachments = alice.get("/volume/v3/attachments", headers={"OpenStack-API-Version": "volume 3.27"}).json[
        "attachments"
    ]
    assert [a["id"] for a in attachments] == [new["attachment_id"]]


def test_hostnames_are_chosen_from_2_90(cloud: Bed, alice: User) -> None:
    key, img = "OS-EXT-SRV-ATTR:hostname", image(alice)
    want = {"name": "My Web", "flavorRef": "42", "imageRef": img, "networks": "none", "hostname": "www"}
    assert alice.post(f"{V}/servers", {"server": want}, headers=at("2.89")).status == 400
    for wrong in ("w", "-www", "www.example.org", "w" * 64, "www\n", ""):
        got = alice.post(f"{V}/servers", {"server": {**want, "hostname": wrong}}, headers=at("2.90"))
        assert got.status == 400, wrong
    several = alice.post(f"{V}/servers", {"server": {**want, "max_count": 2}}, headers=at("2.90"))
    assert "hostname" in several.json["badRequest"]["message"]
    id = boot(cloud, alice, **want, version="2.90")["id"]
    documents = cloud.host("n1").domains[id].guest_data.meta_data
    assert (documents["hostname"], documents["name"]) == ("www", "My Web")
    assert key not in show(alice, id, "2.89")
    assert show(alice, id, "2.90")[key] == "www"
    path = f"{V}/servers/{id}"
    assert alice.put(path, {"server": {"hostname": "db"}}, headers=at("2.89")).status == 400
    assert alice.put(path, {"server": {"hostname": None}}, headers=at("2.90")).status == 400
    assert alice.put(path, {"server": {"hostname": "db"}}, headers=at("2.90")).json["server"][key] == "db"
    cloud.settle()
    assert cloud.host("n1").domains[id].guest_data.meta_data["hostname"] == "db"
    rebuilt = act(alice, id, "rebuild", {"imageRef": img, "hostname": "mail"}, "2.90")
    assert rebuilt.json["server"][key] == "mail"
    cloud.settle()
    assert cloud.host("n1").domains[id].guest_data.meta_data["hostname"] == "mail"


def test_unshelving_to_a_host_from_2_91(pair: Bed) -> None:
    alice, admin = pair.alice, pair.admin
    near = admin.post(
        f"{V}/os-aggregates", {"aggregate": {"name": "near", "availability_zone": "moon"}}
    ).json["aggregate"]["id"]
    admin.post(f"{V}/os-aggregates/{near}/action", {"add_host": {"host": "n2"}})
    id = boot(pair, alice, availability_zone="moon")["id"]
    shelved(pair, alice, id)
    for early in ({"host": "n2"}, {"availability_zone": None}, {}):
        assert act(admin, id, "unshelve", early, "2.90").status == 400, early
    assert act(alice, id, "unshelve", {"host": "n2"}, "2.91").status == 403, "admins only"
    assert act(admin, id, "unshelve", {"host": "n9"}, "2.91").status == 400
    got = act(admin, id, "unshelve", {"host": "n1"}, "2.91")
    assert (got.status, "availability zone nova, not moon" in got.text) == (409, True)
    assert act(admin, id, "unshelve", {"host": "n2", "availability_zone": "nova"}, "2.91").status == 409
    assert act(admin, id, "unshelve", {"host": "n1", "availability_zone": None}, "2.91").status == 202
    pair.turn(5)
    assert show(admin, id)["OS-EXT-SRV-ATTR:host"] == "n1"
    shelved(pair, alice, id)
    assert show(alice, id)["OS-EXT-AZ:availability_zone"] == "", "no zone is asked for any more"
    assert act(alice, id, "unshelve", {"availability_zone": "moon"}, "2.91").status == 202
    pair.turn(5)
    assert show(admin, id)["OS-EXT-SRV-ATTR:host"] == "n2"
    shelved(pair, alice, id)
    assert act(alice, id, "unshelve", {}, "2.91").status == 202
    pair.turn(5)
    assert show(admin, id)["OS-EXT-SRV-ATTR:host"] == "n2", "its zone is its own"


def test_key_pairs_are_made_by_their_owners_from_2_92(cloud: Bed, alice: User) -> None:
    path = f"{V}/os-keypairs"
    public = alice.post(path, {"keypair": {"name": "made"}}, headers=at("2.91")).json["keypair"]["public_key"]
    refused = alice.post(path, {"keypair": {"name": "a"}}, headers=at("2.92"))
    assert (refused.status, "public_key" in refused.text) == (400, True)
    mail = {"keypair": {"name": "alice@example.org", "public_key": public}}
    assert alice.post(path, mail, headers=at("2.91")).status == 400
    made = alice.post(path, mail, headers=at("2.92"))
    assert made.status == 201, made
    assert alice.get(f"{path}/alice@example.org", headers=at("2.92")).status == 200
    assert (
        alice.post(path, {"keypair": {"name": "a/b", "public_key": public}}, headers=at("2.92")).status == 400
    )
