"""Images made of volumes, as a user of the Block Storage and Image APIs sees them."""

from typing import Any

import pytest

from stackling.image import store
from stackling.image.actions import data
from stackling.image.state.image import State
from stackling.volume.driver import BackendUnavailable
from tests.volume.test_volume import act, acting, attachments, available, backend, show

IMAGE = "/image/v2/images"


def upload(user: Any, id: str, version: str = "3.0", **more: Any) -> Any:
    return act(user, id, "os-volume_upload_image", {"image_name": "copy", **more}, version)


def image(user: Any, id: str) -> dict[str, Any]:
    got = user.get(f"{IMAGE}/{id}")
    assert got.status == 200, got
    return got.json


@pytest.mark.parametrize("disk_format", ["qcow2", "raw"])
def test_a_volume_becomes_an_image(cloud: Any, alice: Any, bob: Any, disk_format: str) -> None:
    made = available(cloud, alice)
    got = upload(alice, made["id"], disk_format=disk_format)
    assert got.status == 202, got
    told = got.json["os-volume_upload_image"]
    assert (told["status"], told["disk_format"], told["image_name"]) == ("uploading", disk_format, "copy")
    assert "visibility" not in told
    assert show(alice, made["id"])["status"] == "uploading"
    assert image(alice, told["image_id"])["status"] == "queued"
    assert upload(alice, made["id"]).status == 400, "one at a time"
    cloud.turn(3)
    assert show(alice, made["id"])["status"] == "available"
    found = image(alice, told["image_id"])
    assert (found["status"], found["visibility"], found["container_format"]) == ("active", "private", "bare")
    assert len(alice.get(f"{IMAGE}/{told['image_id']}/file").content) == found["size"] > 0
    assert bob.get(f"{IMAGE}/{told['image_id']}").status == 404
    assert backend(cloud).exports.copies == {}
    again = available(cloud, alice, imageRef=told["image_id"])
    assert again["bootable"] == "true"


def test_fields_of_3_1(cloud: Any, alice: Any, admin: Any) -> None:
    id = available(cloud, alice)["id"]
    assert upload(alice, id, visibility="private").status == 400, "the field is not there yet"
    assert upload(alice, id, "3.1", visibility="public").status == 403
    told = upload(alice, id, "3.1", visibility="shared", protected=True).json["os-volume_upload_image"]
    assert (told["visibility"], told["protected"]) == ("shared", True)


@pytest.mark.parametrize(
    "more", [{"disk_format": "iso"}, {"container_format": "ova"}, {"image_name": ""}, {"force": "perhaps"}]
)
def test_bad_requests_change_nothing(cloud: Any, alice: Any, more: dict[str, Any]) -> None:
    id = available(cloud, alice)["id"]
    got = upload(alice, id, **more)
    assert got.status == 400, got
    assert show(alice, id)["status"] == "available"
    assert alice.get(f"{IMAGE}?visibility=private").json["images"] == []


def test_others_can_not(cloud: Any, alice: Any, bob: Any, reader: Any) -> None:
    id = available(cloud, alice)["id"]
    assert upload(bob, id).status == 404
    assert upload(reader, id).status == 403


def test_in_use_only_by_force(cloud: Any, alice: Any) -> None:
    id = available(cloud, alice)["id"]
    with cloud.db.begin() as tx:
        held = attachments.reserve(tx, cloud.cloud, acting(cloud, alice), id, None)
        attachments.complete(tx, cloud.cloud, held.id, host="n1", device="/dev/vdb")
    assert upload(alice, id).status == 400
    assert upload(alice, id, force=True).status == 202
    cloud.turn(3)
    assert show(alice, id)["status"] == "in-use"


def test_trouble_of_the_backend_is_waited_out(cloud: Any, alice: Any) -> None:
    id = available(cloud, alice)["id"]
    backend(cloud).slow_copy = 2
    backend(cloud).fail_next("export", "no answer", BackendUnavailable)
    backend(cloud).lose_reply()
    told = upload(alice, id, disk_format="qcow2").json["os-volume_upload_image"]
    cloud.turn(20)
    assert show(alice, id)["status"] == "available"
    assert image(alice, told["image_id"])["status"] == "active"


def test_what_fails_leaves_no_image(cloud: Any, alice: Any) -> None:
    id = available(cloud, alice)["id"]
    for _ in range(2):  # each step may run twice
        backend(cloud).fail_next("export", "the disk is broken")
    told = upload(alice, id).json["os-volume_upload_image"]
    cloud.turn(3)
    assert show(alice, id)["status"] == "available"
    assert alice.get(f"{IMAGE}/{told['image_id']}").status == 404
    messages = alice.get("/volume/v3/messages", headers={"OpenStack-API-Version": "volume 3.3"}).json
    assert "the disk is broken" in str(messages)


def test_an_image_deleted_meanwhile_ends_it(cloud: Any, alice: Any) -> None:
    id = available(cloud, alice)["id"]
    backend(cloud).slow_copy = 1
    told = upload(alice, id).json["os-volume_upload_image"]
    cloud.settle()
    assert alice.delete(f"{IMAGE}/{told['image_id']}").status == 204
    cloud.turn(3)
    assert show(alice, id)["status"] == "available"
    assert backend(cloud).exports.copies == {}


def test_an_upload_that_died_is_taken_over(cloud: Any, alice: Any) -> None:
    """As after a crash between the copy's first bytes and its last."""
    id = available(cloud, alice)["id"]
    backend(cloud).slow_copy = 1
    told = upload(alice, id, disk_format="qcow2").json["os-volume_upload_image"]
    cloud.settle()
    stores = store.of(cloud.cloud)
    into = stores[stores.default]
    with cloud.db.begin() as tx:
        row = data._begin(tx, cloud.cloud, None, told["image_id"], State.SAVING, None, into)
    into.incoming(row.id, row.upload).write(b"half")
    cloud.turn(3)
    assert image(alice, told["image_id"])["status"] == "active"
