"""Servers and their volumes."""

from typing import Any

from tests.compute.bed import V, act, at, boot, image, show, status
from tests.conftest import Bed, User


def volume(cloud: Bed, user: User, **more: Any) -> str:
    made = user.post("/volume/v3/volumes", {"volume": {"size": 1, **more}})
    assert made.status == 202, made
    cloud.settle()
    return str(made.json["volume"]["id"])


def state(user: User, id: str) -> str:
    got = user.get(f"/volume/v3/volumes/{id}")
    return str(got.json["volume"]["status"]) if got.status == 200 else str(got.status)


def test_a_volume_is_attached_and_detached(cloud: Bed, alice: User, bob: User) -> None:
    vol = volume(cloud, alice)
    id = boot(cloud, alice)["id"]
    path = f"{V}/servers/{id}/os-volume_attachments"
    assert bob.post(path, {"volumeAttachment": {"volumeId": vol}}).status == 404
    made = alice.post(path, {"volumeAttachment": {"volumeId": vol}})
    assert made.status == 200, made
    assert made.json["volumeAttachment"] == {"id": vol, "serverId": id, "volumeId": vol, "device": "/dev/vdb"}
    cloud.settle()
    assert state(alice, vol) == "in-use"
    disk = cloud.host("n1").domains[id].disks[0]
    assert (disk.volume_id, disk.device) == (vol, "vdb")
    assert show(alice, id, "2.3")["os-extended-volumes:volumes_attached"] == [
        {"id": vol, "delete_on_termination": False}
    ]
    assert alice.post(path, {"volumeAttachment": {"volumeId": vol}}).status == 400
    cloud.host("n1").slow_detach = 2
    assert alice.delete(f"{path}/{vol}").status == 202
    cloud.settle()
    assert state(alice, vol) == "detaching"
    cloud.turn(30)
    assert state(alice, vol) == "available"
    assert alice.get(f"{path}/{vol}").status == 404
    assert cloud.host("n1").domains[id].disks == ()


def test_a_stopped_server_takes_volumes_too(cloud: Bed, alice: User) -> None:
    vol = volume(cloud, alice)
    id = boot(cloud, alice)["id"]
    act(alice, id, "os-stop")
    cloud.settle()
    alice.post(f"{V}/servers/{id}/os-volume_attachments", {"volumeAttachment": {"volumeId": vol}})
    cloud.settle()
    assert (state(alice, vol), status(alice, id)) == ("in-use", "SHUTOFF")
    alice.delete(f"{V}/servers/{id}")
    cloud.settle()
    assert state(alice, vol) == "available"


def test_an_attachment_that_the_host_refuses_is_taken_back(cloud: Bed, alice: User) -> None:
    vol = volume(cloud, alice)
    id = boot(cloud, alice)["id"]
    cloud.host("n1").fail_next("ensure", "no more PCI slots")
    cloud.host("n1").fail_next("ensure", "no more PCI slots")
    alice.post(f"{V}/servers/{id}/os-volume_attachments", {"volumeAttachment": {"volumeId": vol}})
    cloud.settle()
    assert (state(alice, vol), status(alice, id)) == ("available", "ACTIVE")
    request = alice.get(f"{V}/servers/{id}/os-instance-actions").json["instanceActions"][0]
    shown = cloud.admin.get(f"{V}/servers/{id}/os-instance-actions/{request['request_id']}").json[
        "instanceAction"
    ]
    assert shown["action"] == "attach_volume"
    assert (shown["events"][0]["result"], shown["events"][0]["traceback"]) == ("Error", "no more PCI slots")


def test_boot_from_a_new_volume_of_an_image(cloud: Bed, alice: User) -> None:
    img = image(alice)
    root = {
        "source_type": "image",
        "destination_type": "volume",
        "uuid": img,
        "boot_index": 0,
        "volume_size": 1,
        "delete_on_termination": True,
    }
    data = {"source_type": "blank", "destination_type": "volume", "volume_size": 2}
    made = boot(cloud, alice, block_device_mapping_v2=[root, data])
    assert made["status"] == "ACTIVE", made
    assert made["image"] == ""
    held = alice.get(f"{V}/servers/{made['id']}/os-volume_attachments", headers=at("2.79")).json[
        "volumeAttachments"
    ]
    assert [h["device"] for h in held] == ["/dev/vda", "/dev/vdb"]
    assert [h["delete_on_termination"] for h in held] == [True, False]
    domain = cloud.host("n1").domains[made["id"]]
    assert domain.image is None
    assert [d.boot_index for d in domain.disks] == [0, None]
    used = next(iter(cloud.admin.get(f"/placement/allocations/{made['id']}").json["allocations"].values()))[
        "resources"
    ]
    assert "DISK_GB" not in used
    assert alice.delete(f"{V}/servers/{made['id']}/os-volume_attachments/{held[0]['volumeId']}").status == 400
    alice.delete(f"{V}/servers/{made['id']}")
    cloud.settle()
    assert [state(alice, h["volumeId"]) for h in held] == ["404", "available"]


def test_boot_from_an_existing_volume(cloud: Bed, alice: User) -> None:
    vol = volume(cloud, alice, imageRef=image(alice))
    plain = volume(cloud, alice)
    root = {"source_type": "volume", "destination_type": "volume", "boot_index": 0}
    refused = alice.post(
        f"{V}/servers",
        {"server": {"name": "x", "flavorRef": "42", "block_device_mapping_v2": [{**root, "uuid": plain}]}},
    )
    assert "not bootable" in refused.json["badRequest"]["message"]
    made = boot(cloud, alice, block_device_mapping_v2=[{**root, "uuid": vol}])
    assert made["status"] == "ACTIVE"
    assert state(alice, vol) == "in-use"
    alice.delete(f"{V}/servers/{made['id']}")
    cloud.settle()
    assert state(alice, vol) == "available"


def test_a_volume_that_comes_first_is_booted_from_even_beside_an_image(cloud: Bed, alice: User) -> None:
    vol = volume(cloud, alice)
    root = {"source_type": "volume", "destination_type": "volume", "boot_index": 0, "uuid": vol}
    made = boot(cloud, alice, imageRef=image(alice), block_device_mapping_v2=[root])
    assert (made["status"], made["image"]) == ("ACTIVE", "")
    assert cloud.host("n1").domains[made["id"]].image is None


def test_a_volume_that_cannot_be_made_is_told_in_the_fault(cloud: Bed, alice: User) -> None:
    from stackling.boot import fake

    backend = fake.backend(cloud.cloud, "n1")
    img = image(alice)
    root = {
        "source_type": "image",
        "destination_type": "volume",
        "uuid": img,
        "boot_index": 0,
        "volume_size": 1,
    }
    want = {"name": "x", "flavorRef": "42", "block_device_mapping_v2": [root]}
    made = alice.post(f"{V}/servers", {"server": want}).json["server"]["id"]
    backend.fail_next("ensure", "the disk is full")
    cloud.settle()
    shown = show(alice, made)
    assert shown["status"] == "ERROR"
    assert "volume" in shown["fault"]["message"]
    assert cloud.admin.get(f"/placement/allocations/{made}").json["allocations"] == {}


def test_a_server_knows_that_its_volume_was_extended(cloud: Bed, alice: User) -> None:
    vol, other = volume(cloud, alice, size=2), volume(cloud, alice)
    id = boot(cloud, alice)["id"]
    alice.post(f"{V}/servers/{id}/os-volume_attachments", {"volumeAttachment": {"volumeId": vol}})
    cloud.settle()

    def extend(volume_id: str, size: int) -> None:
        got = alice.post(
            f"/volume/v3/volumes/{volume_id}/action",
            {"os-extend": {"new_size": size}},
            headers={"OpenStack-API-Version": "volume 3.42"},
        )
        assert got.status == 202, got
        cloud.settle()

    def extended() -> list[dict[str, Any]]:
        listed = alice.get(f"{V}/servers/{id}/os-instance-actions").json["instanceActions"]
        return [a for a in listed if a["action"] == "extend_volume"]

    assert extended() == [], "attaching it is not extending it"
    extend(vol, 3)
    extend(other, 3)
    assert state(alice, vol) == "in-use"
    assert len(extended()) == 1
    assert (extended()[0]["user_id"], extended()[0]["project_id"]) == (alice.id, alice.project_id)
    shown = cloud.admin.get(f"{V}/servers/{id}/os-instance-actions/{extended()[0]['request_id']}")
    event = shown.json["instanceAction"]["events"][0]
    assert (event["event"], event["result"]) == ("compute_extend_volume", "Success")
    assert event["finish_time"]
    act(alice, id, "os-stop")
    cloud.settle()
    extend(vol, 4)
    cloud.turn(60)
    assert len({a["request_id"] for a in extended()}) == 2
