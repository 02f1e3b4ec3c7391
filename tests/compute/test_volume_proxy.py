"""Volumes and snapshots as compute spoke of them before 2.36."""

import pytest

from tests.compute.bed import V, at
from tests.conftest import Bed, User


def test_volumes(cloud: Bed, alice: User, bob: User, reader: User) -> None:
    want = {"size": 1, "display_name": "v", "metadata": {"a": "b"}}
    made = alice.post(f"{V}/os-volumes", {"volume": want})
    assert made.status == 200, made
    id = made.json["volume"]["id"]
    cloud.settle()
    shown = alice.get(f"{V}/os-volumes/{id}").json["volume"]
    assert (shown["status"], shown["displayName"], shown["size"]) == ("available", "v", 1)
    assert (shown["metadata"], shown["attachments"]) == ({"a": "b"}, [{}])
    assert (
        alice.get(f"{V}/os-volumes").json == alice.get(f"{V}/os-volumes/detail").json == {"volumes": [shown]}
    )
    assert alice.get(f"{V}/os-volumes?limit=0").json["volumes"] == []
    assert bob.get(f"{V}/os-volumes/{id}").status == bob.delete(f"{V}/os-volumes/{id}").status == 404
    assert reader.post(f"{V}/os-volumes", {"volume": want}).status == 403
    assert alice.get(f"{V}/os-volumes", headers=at("2.36")).status == 404
    assert alice.delete(f"{V}/os-volumes/{id}").status == 202
    cloud.settle()
    assert alice.get(f"{V}/os-volumes/{id}").status == 404


@pytest.mark.parametrize("size", ["#$%", "", "0", 0, -1, None, 1.5])
def test_bad_sizes(alice: User, size: object) -> None:
    assert alice.post(f"{V}/os-volumes", {"volume": {"size": size}}).status == 400


def test_snapshots(cloud: Bed, alice: User, bob: User) -> None:
    volume = alice.post(f"{V}/os-volumes", {"volume": {"size": "1"}}).json["volume"]["id"]
    cloud.settle()
    want = {"volume_id": volume, "display_name": "s", "force": "true"}
    made = alice.post(f"{V}/os-snapshots", {"snapshot": want})
    assert made.status == 200, made
    id = made.json["snapshot"]["id"]
    cloud.settle()
    shown = alice.get(f"{V}/os-snapshots/{id}").json["snapshot"]
    assert (shown["status"], shown["volumeId"], shown["displayName"]) == ("available", volume, "s")
    assert alice.get(f"{V}/os-snapshots/detail").json == {"snapshots": [shown]}
    assert bob.get(f"{V}/os-snapshots/{id}").status == 404
    assert alice.delete(f"{V}/os-snapshots/{id}").status == 202
    cloud.settle()
    assert alice.get(f"{V}/os-snapshots").json == {"snapshots": []}
