"""Servers that stand still, begin again or are rescued, as a user of the Compute API sees them."""

from typing import Any

import pytest

from stackling.compute.driver import HostUnavailable, Power
from tests.compute.bed import V, act, at, boot, image, show, status
from tests.conftest import Bed, User


def state(user: User, id: str) -> tuple[str, str, str | None]:
    got = show(user, id)
    return got["status"], got["OS-EXT-STS:vm_state"], got["OS-EXT-STS:task_state"]


STILL = [
    ("pause", "unpause", "PAUSED", "paused", 3),
    ("suspend", "resume", "SUSPENDED", "suspended", 4),
]


@pytest.mark.parametrize("stop, go, word, vm_state, power", STILL)
def test_a_server_stands_still_and_goes_on(
    cloud: Bed, alice: User, stop: str, go: str, word: str, vm_state: str, power: int
) -> None:
    id = boot(cloud, alice)["id"]
    starts = cloud.host("n1").starts(id)
    assert act(alice, id, go).status == 409
    assert act(alice, id, stop).status == 202
    assert state(alice, id) == ("ACTIVE", "active", "pausing" if stop == "pause" else "suspending")
    cloud.settle()
    assert state(alice, id) == (word, vm_state, None)
    assert show(alice, id)["OS-EXT-STS:power_state"] == power
    for refused in (stop, "os-stop", "os-start"):
        assert act(alice, id, refused).status == 409, refused
    assert [s["id"] for s in alice.get(f"{V}/servers?status={word}").json["servers"]] == [id]
    cloud.turn(60)
    assert state(alice, id) == (word, vm_state, None), "the host's watch leaves it alone"
    assert act(alice, id, go).status == 202
    cloud.settle()
    assert state(alice, id) == ("ACTIVE", "active", None)
    assert cloud.host("n1").starts(id) == starts, "it went on from where it stood"
    actions = alice.get(f"{V}/servers/{id}/os-instance-actions").json["instanceActions"]
    assert [a["action"] for a in actions] == [go, stop, "create"]


@pytest.mark.parametrize("stop", ["pause", "suspend", "rescue"])
def test_a_server_that_stands_still_can_be_deleted(cloud: Bed, alice: User, stop: str) -> None:
    id = boot(cloud, alice)["id"]
    act(alice, id, stop)
    cloud.settle()
    assert alice.delete(f"{V}/servers/{id}").status == 204
    cloud.settle()
    assert status(alice, id) == "404"
    assert cloud.host("n1").domains == {}


@pytest.mark.parametrize("stop", ["pause", "suspend"])
def test_a_hard_reboot_ends_it(cloud: Bed, alice: User, stop: str) -> None:
    id = boot(cloud, alice)["id"]
    starts = cloud.host("n1").starts(id)
    act(alice, id, stop)
    cloud.settle()
    assert act(alice, id, "reboot", {"type": "SOFT"}).status == 409
    assert act(alice, id, "reboot", {"type": "HARD"}).status == 202
    cloud.settle()
    assert status(alice, id) == "ACTIVE"
    assert cloud.host("n1").starts(id) == starts + 1, "its memory is gone"


@pytest.mark.parametrize("stop, call", [("pause", "pause"), ("suspend", "suspend")])
def test_the_host_s_trouble_is_waited_out(cloud: Bed, alice: User, stop: str, call: str) -> None:
    id = boot(cloud, alice)["id"]
    cloud.host("n1").fail_next(call, "busy", HostUnavailable)
    cloud.host("n1").slow_copy = 1
    cloud.host("n1").lose_reply()
    act(alice, id, stop)
    cloud.turn(30)
    assert status(alice, id) == ("PAUSED" if stop == "pause" else "SUSPENDED")


def test_a_paused_server_whose_host_dies_runs_again(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    act(alice, id, "pause")
    cloud.settle()
    cloud.host("n1").die()
    cloud.host("n1").boot()
    cloud.turn(30)
    assert status(alice, id) == "ACTIVE"
    assert cloud.host("n1").power(id) is Power.ON


def test_a_suspended_server_outlives_its_host_s_restart(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    act(alice, id, "suspend")
    cloud.settle()
    cloud.host("n1").die()
    cloud.host("n1").boot()
    cloud.turn(30)
    assert status(alice, id) == "SUSPENDED"
    act(alice, id, "resume")
    cloud.settle()
    assert (status(alice, id), cloud.host("n1").starts(id)) == ("ACTIVE", 1)


@pytest.mark.parametrize("verb", ["pause", "suspend", "rebuild", "rescue"])
def test_others_can_not(cloud: Bed, alice: User, bob: User, reader: User, verb: str) -> None:
    made = boot(cloud, alice)
    value = {"imageRef": made["image"]["id"]} if verb == "rebuild" else None
    assert act(bob, made["id"], verb, value).status == 404
    assert act(reader, made["id"], verb, value).status == 403
    act(alice, made["id"], "lock")
    assert act(alice, made["id"], verb, value).status == 409


# -- rebuild -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stopped", [False, True])
def test_rebuild(cloud: Bed, alice: User, stopped: bool) -> None:
    made = boot(cloud, alice)
    id, other = made["id"], image(alice)
    if stopped:
        act(alice, id, "os-stop")
        cloud.turn(3)
    want = {"imageRef": other, "name": "again", "metadata": {"a": "b"}, "adminPass": "secret-pass"}
    got = act(alice, id, "rebuild", want)
    assert got.status == 202, got
    told = got.json["server"]
    assert (told["adminPass"], told["status"], told["name"]) == ("secret-pass", "REBUILD", "again")
    assert (told["metadata"], told["image"]["id"]) == ({"a": "b"}, other)
    assert got.headers["location"].endswith(id)
    cloud.turn(5)
    assert state(alice, id)[0] == ("SHUTOFF" if stopped else "ACTIVE")
    there = cloud.host("n1").domains[id]
    assert (there.generation, there.image.id) == (1, other)
    act(alice, id, "rebuild", {"imageRef": other})
    cloud.turn(5)
    assert cloud.host("n1").domains[id].generation == 2, "the same image makes new disks as well"


def test_fields_that_came_to_rebuild(cloud: Bed, alice: User) -> None:
    made = boot(cloud, alice)
    id, ref = made["id"], made["image"]["id"]
    key = alice.post(f"{V}/os-keypairs", {"keypair": {"name": "k"}}).json["keypair"]["name"]
    for field, value, first in (
        ("description", "x", "2.19"),
        ("key_name", key, "2.54"),
        ("user_data", "eA==", "2.57"),
        ("trusted_image_certificates", ["c"], "2.63"),
    ):
        before = f"2.{int(first[2:]) - 1}"
        body = {"imageRef": ref, field: value}
        assert act(alice, id, "rebuild", body, before).status == 400, field
        got = act(alice, id, "rebuild", body, first)
        assert got.status == 202, got
        assert got.json["server"][field] == value
        cloud.turn(5)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"imageRef": "x"},
        {"imageRef": "11111111-2222-3333-4444-555555555555"},
        {"imageRef": "IMAGE", "name": ""},
        {"imageRef": "IMAGE", "accessIPv4": "x"},
        {"imageRef": "IMAGE", "metadata": {"": "x"}},
        {"imageRef": "IMAGE", "color": "red"},
        {"imageRef": "IMAGE", "preserve_ephemeral": True},
        {"imageRef": "LARGE"},
        {"imageRef": "HUNGRY"},
    ],
)
def test_bad_rebuilds_change_nothing(cloud: Bed, alice: User, body: dict[str, Any]) -> None:
    made = boot(cloud, alice)
    ref = {
        "IMAGE": lambda: made["image"]["id"],
        "LARGE": lambda: image(alice, min_disk=100),
        "HUNGRY": lambda: image(alice, min_ram=100_000),
    }.get(body.get("imageRef", ""))
    got = act(alice, made["id"], "rebuild", body | ({"imageRef": ref()} if ref else {}))
    assert got.status == 400, got
    assert state(alice, made["id"]) == ("ACTIVE", "active", None)


def test_a_rebuild_mends_a_server_in_error(cloud: Bed, alice: User, admin: User) -> None:
    made = boot(cloud, alice)
    act(admin, made["id"], "os-resetState", {"state": "error"})
    cloud.settle()
    assert act(alice, made["id"], "rebuild", {"imageRef": made["image"]["id"]}).status == 202
    cloud.turn(5)
    assert state(alice, made["id"]) == ("ACTIVE", "active", None)


# -- rescue ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stopped", [False, True])
def test_rescue_and_back(cloud: Bed, alice: User, stopped: bool) -> None:
    id, other = boot(cloud, alice)["id"], image(alice)
    if stopped:
        act(alice, id, "os-stop")
        cloud.turn(3)
    got = act(alice, id, "rescue", {"adminPass": "secret-pass", "rescue_image_ref": other})
    assert (got.status, got.json) == (200, {"adminPass": "secret-pass"})
    cloud.settle()
    assert state(alice, id) == ("RESCUE", "rescued", None)
    assert cloud.host("n1").domains[id].rescue.id == other
    cloud.turn(60)
    assert state(alice, id) == ("RESCUE", "rescued", None)
    for refused in ("rescue", "pause", "os-stop"):
        assert act(alice, id, refused).status == 409, refused
    assert act(alice, id, "reboot", {"type": "HARD"}).status == 409
    assert act(alice, id, "unrescue").status == 202
    cloud.settle()
    assert state(alice, id) == ("ACTIVE", "active", None)
    assert cloud.host("n1").domains[id].rescue is None


def test_rescue_from_its_own_image(cloud: Bed, alice: User) -> None:
    made = boot(cloud, alice)
    got = act(alice, made["id"], "rescue")
    assert len(got.json["adminPass"]) == 12
    cloud.settle()
    assert cloud.host("n1").domains[made["id"]].rescue.id == made["image"]["id"]
    assert act(alice, made["id"], "rescue", {"rescue_image_ref": "x"}).status == 400
    assert act(alice, made["id"], "unrescue", version="2.1").status == 202


def test_a_rescued_server_whose_host_dies_is_rescued_again(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    act(alice, id, "rescue")
    cloud.settle()
    cloud.host("n1").die()
    cloud.host("n1").boot()
    cloud.turn(30)
    assert status(alice, id) == "RESCUE"
    assert cloud.host("n1").power(id) is Power.ON


def test_states_of_images_of_servers_that_stand_still(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    for stop, go in (("pause", "unpause"), ("suspend", "resume")):
        act(alice, id, stop)
        cloud.settle()
        made = act(alice, id, "createImage", {"name": stop}, "2.45").json["image_id"]
        assert act(alice, id, go).status == 409, "while its disk is copied"
        cloud.turn(3)
        assert alice.get(f"/image/v2/images/{made}").json["status"] == "active"
        assert act(alice, id, go).status == 202
        cloud.settle()
    assert alice.get(f"{V}/servers/{id}", headers=at("2.1")).json["server"]["status"] == "ACTIVE"
