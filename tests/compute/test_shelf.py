"""Shelved servers and backups, as a user of the Compute API sees them."""

from typing import Any

import pytest

from stackling.compute.driver import HostUnavailable
from tests.compute.bed import V, act, at, boot, image, network, show, status
from tests.conftest import Bed, User

IMAGES = "/image/v2/images"


def shelved(cloud: Bed, user: User, id: str) -> dict[str, Any]:
    got = act(user, id, "shelve")
    assert got.status == 202, got
    cloud.turn(10)
    assert status(user, id) == "SHELVED_OFFLOADED", show(user, id)
    return show(user, id)


def images(user: User) -> list[dict[str, Any]]:
    return list(user.get(f"{IMAGES}?visibility=private").json["images"])


@pytest.mark.parametrize("before", [None, "os-stop", "pause", "suspend"])
def test_shelve_and_back(cloud: Bed, alice: User, before: str | None) -> None:
    id = boot(cloud, alice, networks=[{"uuid": network(alice)}])["id"]
    addresses = show(alice, id)["addresses"]
    if before:
        act(alice, id, before)
        cloud.turn(3)
    assert act(alice, id, "unshelve").status == 409
    assert shelved(cloud, alice, id)["OS-EXT-STS:vm_state"] == "shelved_offloaded"
    assert cloud.host("n1").domains == {}
    assert cloud.host("n1").exports.copies == {}
    kept = images(alice)
    assert [(i["name"], i["status"]) for i in kept] == [("web-shelved", "active")]
    for refused in ("shelve", "shelveOffload", "os-start", "pause"):
        assert act(alice, id, refused).status in (403, 409), refused
    assert [s["id"] for s in alice.get(f"{V}/servers?status=SHELVED_OFFLOADED").json["servers"]] == [id]
    assert act(alice, id, "unshelve").status == 202
    cloud.turn(5)
    assert status(alice, id) == "ACTIVE"
    assert show(alice, id)["addresses"] == addresses
    assert cloud.host("n1").domains[id].image.id == kept[0]["id"], "its own disk"
    assert images(alice) == []


def test_a_shelved_server_takes_no_room(cloud: Bed, alice: User, admin: User) -> None:
    id = boot(cloud, alice)["id"]
    provider = admin.get("/placement/resource_providers").json["resource_providers"][0]["uuid"]
    path = f"/placement/resource_providers/{provider}/usages"
    assert admin.get(path).json["usages"]["VCPU"] == 1
    shelved(cloud, alice, id)
    assert admin.get(path).json["usages"]["VCPU"] == 0
    cloud.host("n1").die()
    cloud.turn(120)
    got = act(alice, id, "unshelve")
    assert (got.status, "has not reported" in got.text) == (409, True), got
    assert status(alice, id) == "SHELVED_OFFLOADED"


def test_deleting_a_shelved_server_takes_its_image_along(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    shelved(cloud, alice, id)
    assert alice.delete(f"{V}/servers/{id}").status == 204
    cloud.settle()
    assert (status(alice, id), images(alice)) == ("404", [])


def test_trouble_while_shelving(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    cloud.host("n1").slow_copy = 2
    cloud.host("n1").fail_next("export_disk", "busy", HostUnavailable)
    cloud.host("n1").lose_reply()
    act(alice, id, "shelve")
    cloud.turn(30)
    assert status(alice, id) == "SHELVED_OFFLOADED"


def test_a_disk_that_can_not_be_copied_stays_where_it_is(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    for _ in range(2):
        cloud.host("n1").fail_next("export_disk", "the disk is broken")
    act(alice, id, "shelve")
    cloud.turn(10)
    got = show(alice, id)
    assert (got["status"], "the disk is broken" in got["fault"]["message"]) == ("ERROR", True)
    assert images(alice) == []
    assert list(cloud.host("n1").domains) == [id], "nothing of it is lost"
    act(alice, id, "reboot", {"type": "HARD"})
    cloud.settle()
    assert status(alice, id) == "ACTIVE"


def test_volumes_come_and_go_while_it_is_shelved(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    made = [alice.post("/volume/v3/volumes", {"volume": {"size": 1}}).json["volume"]["id"] for _ in "ab"]
    cloud.settle()
    shelved(cloud, alice, id)
    for volume in made:
        got = alice.post(
            f"{V}/servers/{id}/os-volume_attachments", {"volumeAttachment": {"volumeId": volume}}
        )
        assert got.status == 200, got
    assert alice.delete(f"{V}/servers/{id}/os-volume_attachments/{made[0]}").status == 202
    cloud.settle()
    states = [alice.get(f"/volume/v3/volumes/{v}").json["volume"]["status"] for v in made]
    assert states == ["available", "in-use"]
    act(alice, id, "unshelve")
    cloud.turn(5)
    assert status(alice, id) == "ACTIVE"
    assert alice.get(f"/volume/v3/volumes/{made[1]}").json["volume"]["status"] == "in-use"


def test_others_can_not(cloud: Bed, alice: User, bob: User, reader: User) -> None:
    id = boot(cloud, alice)["id"]
    backup = {"name": "b", "backup_type": "daily", "rotation": 1}
    for verb, value in (("shelve", None), ("unshelve", None), ("createBackup", backup)):
        assert act(bob, id, verb, value).status == 404, verb
        assert act(reader, id, verb, value).status == 403, verb
    assert act(alice, id, "shelveOffload").status == 403, "admins only"


def test_unshelve_into_a_zone(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    shelved(cloud, alice, id)
    assert act(alice, id, "unshelve", {"availability_zone": "mars"}, "2.77").status == 400
    assert act(alice, id, "unshelve", {"color": "red"}, "2.77").status == 400
    assert act(alice, id, "unshelve", {"availability_zone": "nova"}, "2.77").status == 202
    cloud.turn(5)
    assert status(alice, id) == "ACTIVE"


# -- backups -----------------------------------------------------------------------------------------------------------


def test_backups_rotate(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    made = []
    for number in range(3):
        want = {"name": f"b{number}", "backup_type": "daily", "rotation": 2}
        got = act(alice, id, "createBackup", want, "2.45")
        assert got.status == 202, got
        assert show(alice, id)["OS-EXT-STS:task_state"] == "image_backup"
        assert len(images(alice)) == min(number + 1, 3), "none goes before the new one is there"
        made.append(got.json["image_id"])
        cloud.turn(5)
        assert show(alice, id)["OS-EXT-STS:task_state"] is None
    kept = images(alice)
    assert {i["id"] for i in kept} == set(made[1:])
    assert {(i["image_type"], i["backup_type"]) for i in kept} == {("backup", "daily")}
    act(alice, id, "createBackup", {"name": "w", "backup_type": "weekly", "rotation": 1})
    cloud.turn(5)
    assert len(images(alice)) == 3, "each kind for itself"
    act(alice, id, "createBackup", {"name": "none", "backup_type": "daily", "rotation": "0"})
    cloud.turn(5)
    assert [i["backup_type"] for i in images(alice)] == ["weekly"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "b", "backup_type": "daily"},
        {"name": "b", "backup_type": "daily", "rotation": -1},
        {"name": "b", "backup_type": "daily", "rotation": "x"},
        {"name": "", "backup_type": "daily", "rotation": 1},
        {"name": "b", "backup_type": "daily", "rotation": 1, "color": "red"},
    ],
)
def test_bad_backups_change_nothing(cloud: Bed, alice: User, body: dict[str, Any]) -> None:
    id = boot(cloud, alice)["id"]
    assert act(alice, id, "createBackup", body).status == 400
    assert images(alice) == []


def test_no_backup_of_a_server_on_a_volume(cloud: Bed, alice: User) -> None:
    disk = {"boot_index": 0, "uuid": image(alice), "source_type": "image", "destination_type": "volume"}
    id = boot(cloud, alice, block_device_mapping_v2=[{**disk, "volume_size": 1}])["id"]
    cloud.turn(3)
    want = {"name": "b", "backup_type": "daily", "rotation": 1}
    assert act(alice, id, "createBackup", want).status == 400
    shelved(cloud, alice, id)
    assert images(alice) == [], "its volume keeps its disk"
    act(alice, id, "unshelve")
    cloud.turn(5)
    assert alice.get(f"{V}/servers/{id}", headers=at("2.1")).json["server"]["status"] == "ACTIVE"
