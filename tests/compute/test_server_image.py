"""Images made of servers, as a user of the Compute and Image APIs sees them."""

import json
from typing import Any

import pytest

from stackling.compute.driver import HostUnavailable
from tests.compute.bed import V, act, at, boot, image, show, status
from tests.conftest import Bed, User

IMAGES = "/image/v2/images"


def create_image(user: User, id: str, name: str = "golden", version: str = "2.45", **more: Any) -> Any:
    return act(user, id, "createImage", {"name": name, **more}, version)


def shown(user: User, id: str) -> dict[str, Any]:
    got = user.get(f"{IMAGES}/{id}")
    assert got.status == 200, got
    return dict(got.json)


def task(user: User, id: str) -> str | None:
    return show(user, id)["OS-EXT-STS:task_state"]


def last_action(user: User, id: str) -> dict[str, Any]:
    actions = user.get(f"{V}/servers/{id}/os-instance-actions", headers=at("2.51")).json["instanceActions"]
    path = f"{V}/servers/{id}/os-instance-actions/{actions[0]['request_id']}"
    return dict(user.get(path, headers=at("2.51")).json["instanceAction"])


@pytest.mark.parametrize("running", [True, False])
def test_a_server_becomes_an_image_that_servers_boot_from(cloud: Bed, alice: User, running: bool) -> None:
    source = image(alice, min_ram=17, os_distro="debian")
    id = boot(cloud, alice, imageRef=source)["id"]
    if not running:
        act(alice, id, "os-stop")
        cloud.turn(5)
    got = create_image(alice, id, metadata={"kind": "golden"})
    assert got.status == 202, got
    made = got.json["image_id"]
    assert "location" not in got.headers
    assert task(alice, id) == "image_snapshot"
    assert create_image(alice, id).status == 409, "one at a time"
    assert shown(alice, made)["status"] == "queued"
    cloud.turn(3)
    found = shown(alice, made)
    assert (found["status"], found["visibility"], found["disk_format"]) == ("active", "private", "qcow2")
    assert (found["min_ram"], found["min_disk"], found["owner"]) == (17, 1, alice.project_id)
    assert (found["kind"], found["os_distro"], found["image_type"]) == ("golden", "debian", "snapshot")
    assert (found["base_image_ref"], found["instance_uuid"]) == (source, id)
    assert task(alice, id) is None
    assert status(alice, id) == ("ACTIVE" if running else "SHUTOFF")
    assert cloud.host("n1").exports.copies == {}
    assert last_action(alice, id)["events"][0]["result"] == "Success"
    assert boot(cloud, alice, imageRef=made)["status"] == "ACTIVE"


def test_before_2_45_the_id_is_in_the_location(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    got = create_image(alice, id, version="2.44")
    assert (got.status, got.text) == (202, "")
    assert shown(alice, got.headers["location"].rpartition("/")[2])["name"] == "golden"


def test_others_can_not(cloud: Bed, alice: User, bob: User, reader: User) -> None:
    id = boot(cloud, alice)["id"]
    assert create_image(bob, id).status == 404
    assert create_image(reader, id).status == 403
    assert act(alice, id, "lock").status == 202
    assert create_image(alice, id).status == 202, "a lock does not forbid it: its owner's lock"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "x" * 256},
        {"name": 5},
        {"name": "x", "metadata": {"": ""}},
        {"name": "x", "metadata": {"a" * 256: "b"}},
        {"name": "x", "metadata": {"a": 1}},
        {"name": "x", "color": "red"},
    ],
)
def test_bad_requests_change_nothing(cloud: Bed, alice: User, body: dict[str, Any]) -> None:
    id = boot(cloud, alice)["id"]
    assert act(alice, id, "createImage", body).status == 400
    assert task(alice, id) is None
    assert alice.get(f"{IMAGES}?visibility=private").json["images"] == []


def test_the_host_s_trouble_is_waited_out(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    cloud.host("n1").slow_copy = 2
    cloud.host("n1").fail_next("export_disk", "busy", HostUnavailable)
    cloud.host("n1").lose_reply()
    made = create_image(alice, id).json["image_id"]
    cloud.turn(20)
    assert (shown(alice, made)["status"], task(alice, id)) == ("active", None)


def test_a_copy_that_fails_leaves_no_image_and_a_reason(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    for _ in range(2):  # each step may run twice
        cloud.host("n1").fail_next("export_disk", "the disk is broken")
    made = create_image(alice, id).json["image_id"]
    cloud.turn(3)
    assert alice.get(f"{IMAGES}/{made}").status == 404
    assert (task(alice, id), status(alice, id)) == (None, "ACTIVE")
    assert last_action(alice, id)["message"] == "Error"


@pytest.mark.parametrize("what", ["server", "image"])
def test_what_is_deleted_meanwhile_ends_it(cloud: Bed, alice: User, what: str) -> None:
    id = boot(cloud, alice)["id"]
    cloud.host("n1").slow_copy = 2
    made = create_image(alice, id).json["image_id"]
    cloud.settle()
    gone = f"{V}/servers/{id}" if what == "server" else f"{IMAGES}/{made}"
    assert alice.delete(gone).status == 204
    cloud.turn(5)
    assert alice.get(f"{IMAGES}/{made}").status == 404
    assert cloud.host("n1").exports.copies == {}
    if what == "image":
        assert task(alice, id) is None
    else:
        assert status(alice, id) == "404"


def test_a_host_that_dies_during_the_copy(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    cloud.host("n1").slow_copy = 1
    made = create_image(alice, id).json["image_id"]
    cloud.settle()
    cloud.host("n1").die()
    cloud.turn(30)
    assert task(alice, id) == "image_snapshot"
    cloud.host("n1").boot()
    cloud.turn(60)
    assert (shown(alice, made)["status"], task(alice, id)) == ("active", None)


def test_a_server_on_volumes_becomes_snapshots(cloud: Bed, alice: User) -> None:
    mapping = [
        {
            "boot_index": 0,
            "uuid": image(alice),
            "source_type": "image",
            "destination_type": "volume",
            "volume_size": 2,
            "delete_on_termination": True,
        }
    ]
    id = boot(cloud, alice, block_device_mapping_v2=mapping)["id"]
    cloud.turn(3)
    assert status(alice, id) == "ACTIVE"
    made = create_image(alice, id).json["image_id"]
    found = shown(alice, made)
    assert (found["status"], found["size"]) == ("active", 0)
    disk = json.loads(found["block_device_mapping"])[0]
    assert (disk["source_type"], disk["destination_type"], disk["boot_index"]) == ("snapshot", "volume", 0)
    cloud.turn(3)
    snapshot = alice.get(f"/volume/v3/snapshots/{disk['snapshot_id']}").json["snapshot"]
    assert (snapshot["status"], snapshot["name"]) == ("available", "snapshot for golden")
    again = boot(cloud, alice, imageRef=made)
    cloud.turn(3)
    assert status(alice, again["id"]) == "ACTIVE"
    held = show(alice, again["id"])["os-extended-volumes:volumes_attached"]
    volume = alice.get(f"/volume/v3/volumes/{held[0]['id']}").json["volume"]
    assert volume["snapshot_id"] == snapshot["id"]
    other = alice.post("/volume/v3/volumes", {"volume": {"size": 2, "imageRef": made}}).json["volume"]
    cloud.turn(3)
    other = alice.get(f"/volume/v3/volumes/{other['id']}").json["volume"]
    assert (other["status"], other["snapshot_id"], other["bootable"]) == ("available", snapshot["id"], "true")


def test_a_damaged_mapping_is_refused(cloud: Bed, alice: User) -> None:
    for damaged in (
        "{",
        "[5]",
        '[{"source_type": "snapshot"}]',
        '[{"source_type": "x", "destination_type": 1}]',
    ):
        broken = image(alice, block_device_mapping=damaged)
        want = {"name": "x", "flavorRef": "42", "imageRef": broken, "networks": "none"}
        got = alice.post(f"{V}/servers", {"server": want}, headers=at("2.37"))
        assert (got.status, "Block Device Mapping" in got.text) == (400, True), got
