"""Snapshots."""

from typing import Any

import pytest

from tests.volume.test_volume import V3, act, at, available, backend, create, show


def snap(user: Any, volume_id: str, **more: Any) -> dict[str, Any]:
    got = user.post(f"{V3}/snapshots", {"snapshot": {"volume_id": volume_id, "name": "before", **more}})
    assert got.status == 202, got
    return got.json["snapshot"]


def shown(user: Any, id: str) -> dict[str, Any]:
    return user.get(f"{V3}/snapshots/{id}").json["snapshot"]


@pytest.mark.parametrize("knob", ["", "lose", "slow"])
def test_snapshot_lives_and_goes(cloud: Any, alice: Any, knob: str) -> None:
    id = available(cloud, alice, size=2)["id"]
    if knob == "lose":
        backend(cloud).lose_reply()
    if knob == "slow":
        backend(cloud).slow_copy = 3
    made = snap(alice, id, metadata={"a": "b"}, description="x")
    assert (made["status"], made["size"], made["volume_id"], made["metadata"]) == (
        "creating",
        2,
        id,
        {"a": "b"},
    )
    assert "os-extended-snapshot-attributes:progress" not in made
    cloud.turn(6)
    got = shown(alice, made["id"])
    assert (got["status"], got["os-extended-snapshot-attributes:progress"]) == ("available", "100%")
    assert backend(cloud).snapshots == {made["id"]: 2}
    assert alice.delete(f"{V3}/volumes/{id}").status == 400
    copy = available(cloud, alice, size=None, snapshot_id=made["id"])
    assert (copy["size"], copy["snapshot_id"]) == (2, made["id"])
    assert alice.post(f"{V3}/volumes", {"volume": {"size": 1, "snapshot_id": made["id"]}}).status == 400
    assert alice.delete(f"{V3}/snapshots/{made['id']}").status == 202
    cloud.settle()
    assert alice.get(f"{V3}/snapshots/{made['id']}").status == 404
    assert backend(cloud).snapshots == {}
    assert alice.delete(f"{V3}/volumes/{id}").status == 202


def test_snapshot_of_a_volume_in_use_needs_force(cloud: Any, alice: Any) -> None:
    id = available(cloud, alice)["id"]
    act(alice, id, "os-attach", {"instance_uuid": "11111111-2222-3333-4444-555555555555"})
    assert alice.post(f"{V3}/snapshots", {"snapshot": {"volume_id": id}}).status == 400
    assert snap(alice, id, force=True)["status"] == "creating"


def test_cascade(cloud: Any, alice: Any) -> None:
    id = available(cloud, alice)["id"]
    first = snap(alice, id)["id"]
    cloud.settle()
    copy = create(alice, snapshot_id=first)["id"]
    assert alice.delete(f"{V3}/volumes/{id}?cascade=true").status == 202
    cloud.turn(20)
    assert alice.get(f"{V3}/volumes/{id}").status == 404
    assert alice.get(f"{V3}/snapshots/{first}").status == 404
    assert show(alice, copy)["status"] == "available"
    assert list(backend(cloud).volumes) == [copy]


def test_cascade_takes_a_snapshot_that_is_still_being_made(cloud: Any, alice: Any) -> None:
    id = available(cloud, alice)["id"]
    backend(cloud).slow_copy = 3
    made = snap(alice, id)["id"]
    cloud.turn(1)
    assert shown(alice, made)["status"] == "creating"
    assert alice.delete(f"{V3}/volumes/{id}?cascade=true").status == 202
    cloud.turn(20)
    assert alice.get(f"{V3}/volumes/{id}").status == 404
    assert alice.get(f"{V3}/snapshots/{made}").status == 404
    assert not backend(cloud).snapshots
    assert not backend(cloud).volumes


def test_failure_says_why(cloud: Any, alice: Any, admin: Any) -> None:
    id = available(cloud, alice)["id"]
    backend(cloud).fail_next("ensure_snapshot", "no room for a copy")
    made = snap(alice, id)["id"]
    cloud.settle()
    assert shown(alice, made)["status"] == "error"
    assert "no room" in alice.get(f"{V3}/messages", headers=at("3.3")).json["messages"][0]["user_message"]
    own = f"{V3}/snapshots/{made}/action"
    assert alice.post(own, {"os-reset_status": {"status": "available"}}).status == 403
    assert admin.post(own, {"os-reset_status": {"status": "fine"}}).status == 400
    assert admin.post(own, {"os-reset_status": {"status": "creating"}}).status == 202
    assert admin.post(own, {"os-update_snapshot_status": {"status": "error"}}).status == 202
    assert admin.post(own, {"os-nonsense": {}}).status == 400
    assert admin.post(own, {"os-force_delete": {}}).status == 202
    cloud.settle()
    assert alice.get(f"{V3}/snapshots/{made}").status == 404


def test_metadata_update_list(cloud: Any, alice: Any, bob: Any) -> None:
    id = available(cloud, alice)["id"]
    made = []
    for name in "abc":
        made.append(snap(alice, id, name=name, metadata={"k": name})["id"])
        cloud.clock.turn(1)
    cloud.settle()
    own = f"{V3}/snapshots/{made[0]}"
    assert alice.put(own, {"snapshot": {"name": "new"}}).json["snapshot"]["name"] == "new"
    assert alice.put(own, {"snapshot": {}}).status == 400
    assert alice.post(f"{own}/metadata", {"metadata": {"x": "1"}}).json == {"metadata": {"k": "a", "x": "1"}}
    assert alice.put(f"{own}/metadata", {"metadata": {"y": "1"}}).json == {"metadata": {"y": "1"}}
    assert alice.put(f"{own}/metadata/y", {"meta": {"y": "2"}}).json == {"meta": {"y": "2"}}
    assert alice.get(f"{own}/metadata/y").json == {"meta": {"y": "2"}}
    assert alice.delete(f"{own}/metadata/y").status == 200
    assert alice.get(f"{own}/metadata/y").status == 404

    def listed(query: str, version: str = "3.0") -> list[str]:
        got = alice.get(f"{V3}/snapshots/detail?{query}", headers=at(version))
        assert got.status == 200, got
        return [s["name"] for s in got.json["snapshots"]]

    assert listed("") == ["c", "b", "new"]
    assert listed("sort=created_at:asc&limit=2") == ["new", "b"]
    assert listed("offset=1&limit=1") == ["b"]
    assert listed("limit=0") == []
    assert listed("limit=100000") == ["c", "b", "new"]
    assert listed(f"volume_id={id}&name=b") == ["b"]
    assert listed("metadata=%7B'k':'b'%7D", "3.22") == ["b"]
    assert "user_id" in alice.get(own, headers=at("3.41")).json["snapshot"]
    assert "user_id" not in alice.get(own, headers=at("3.40")).json["snapshot"]
    assert alice.get(f"{V3}/snapshots?limit=-1").status == 400
    for call in ("get", "delete"):
        assert getattr(bob, call)(own).status == 404
    assert bob.put(own, {"snapshot": {"name": "x"}}).status == 404
    assert bob.get(f"{V3}/snapshots").json["snapshots"] == []
    assert alice.post(f"{V3}/snapshots", {"snapshot": {}}).status == 400
    assert alice.post(f"{V3}/snapshots", {"snapshot": {"volume_id": made[0]}}).status == 404
