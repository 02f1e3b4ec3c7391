"""Types, quotas, services, attachments and the other things around volumes."""

from typing import Any

from tests.volume.test_volume import SERVER, V3, act, at, available, backend, create, show


def test_types(cloud: Any, alice: Any, admin: Any) -> None:
    own = f"{V3}/types"
    default = alice.get(f"{own}/default").json["volume_type"]
    assert (default["name"], default["is_public"]) == ("local", True)
    assert alice.post(own, {"volume_type": {"name": "fast"}}).status == 403
    made = admin.post(
        own,
        {
            "volume_type": {
                "name": "fast",
                "description": "d",
                "extra_specs": {"volume_backend_name": "n1", "multiattach": "<is> True"},
            }
        },
    )
    assert made.status == 200, made
    id = made.json["volume_type"]["id"]
    assert admin.post(own, {"volume_type": {"name": "fast"}}).status == 409
    for bad in (
        {},
        {"name": ""},
        {"name": " "},
        {"name": "x" * 256},
        {"name": "y", "extra_specs": {"a": 1}},
        {"name": "y", "colour": 1},
    ):
        assert admin.post(own, {"volume_type": bad}).status == 400, bad
    assert sorted(t["name"] for t in alice.get(own).json["volume_types"]) == ["fast", "local"]
    assert alice.get(f"{own}/{id}").json["volume_type"]["extra_specs"] == {"multiattach": "<is> True"}
    assert admin.get(f"{own}/{id}").json["volume_type"]["extra_specs"]["volume_backend_name"] == "n1"
    assert admin.get(f"{own}/{id}/extra_specs/volume_backend_name").json == {"volume_backend_name": "n1"}
    assert admin.post(f"{own}/{id}/extra_specs", {"extra_specs": {"k": "1"}}).json == {
        "extra_specs": {"k": "1"}
    }
    assert admin.put(f"{own}/{id}/extra_specs/k", {"k": "2"}).json == {"k": "2"}
    assert admin.put(f"{own}/{id}/extra_specs/k", {"j": "2"}).status == 400
    assert admin.put(f"{own}/{id}/extra_specs/k", None).status == 400
    assert admin.delete(f"{own}/{id}/extra_specs/k").status == 202
    assert admin.delete(f"{own}/{id}/extra_specs/k").status == 404
    assert admin.get(f"{own}/{SERVER}/extra_specs").status == 404
    assert (
        admin.put(f"{own}/{id}", {"volume_type": {"name": "faster"}}).json["volume_type"]["name"] == "faster"
    )
    volume = available(cloud, alice, volume_type="faster")
    assert volume["volume_type"] == "faster"
    assert admin.delete(f"{own}/{id}").status == 400
    assert act(alice, volume["id"], "os-retype", {"new_type": "local"}).status == 202
    cloud.settle()
    assert show(alice, volume["id"])["volume_type"] == "local"
    assert admin.delete(f"{own}/{id}").status == 202
    assert admin.get(f"{own}/{id}").status == 404
    assert admin.delete(f"{own}/{default['id']}").status == 400


def test_type_that_no_backend_has(cloud: Any, alice: Any, admin: Any) -> None:
    admin.post(f"{V3}/types", {"volume_type": {"name": "san", "extra_specs": {"volume_backend_name": "san"}}})
    id = create(alice, volume_type="san")["id"]
    cloud.settle()
    assert show(alice, id)["status"] == "error"
    assert (
        "its volume_backend_name is n1, and the volume type asks for san"
        in alice.get(f"{V3}/messages", headers=at("3.3")).json["messages"][0]["user_message"]
    )


def test_private_types(alice: Any, bob: Any, admin: Any) -> None:
    id = admin.post(
        f"{V3}/types", {"volume_type": {"name": "secret", "os-volume-type-access:is_public": False}}
    ).json["volume_type"]["id"]
    assert alice.get(f"{V3}/types/{id}").status == 404
    assert alice.post(f"{V3}/volumes", {"volume": {"size": 1, "volume_type": "secret"}}).status == 404
    assert (
        admin.post(f"{V3}/types/{id}/action", {"addProjectAccess": {"project": alice.project_id}}).status
        == 202
    )
    assert (
        admin.post(f"{V3}/types/{id}/action", {"addProjectAccess": {"project": alice.project_id}}).status
        == 409
    )
    assert admin.get(f"{V3}/types/{id}/os-volume-type-access").json["volume_type_access"] == [
        {"volume_type_id": id, "project_id": alice.project_id}
    ]
    assert alice.post(f"{V3}/volumes", {"volume": {"size": 1, "volume_type": "secret"}}).status == 202
    assert bob.get(f"{V3}/types/{id}").status == 404
    assert alice.get(f"{V3}/types/{id}/os-volume-type-access").status == 403
    assert sorted(t["name"] for t in admin.get(f"{V3}/types?is_public=None").json["volume_types"]) == [
        "local",
        "secret",
    ]
    assert [t["name"] for t in admin.get(f"{V3}/types?is_public=False").json["volume_types"]] == ["secret"]
    assert (
        admin.post(f"{V3}/types/{id}/action", {"removeProjectAccess": {"project": alice.project_id}}).status
        == 202
    )
    assert (
        admin.post(f"{V3}/types/{id}/action", {"removeProjectAccess": {"project": alice.project_id}}).status
        == 404
    )
    assert admin.post(f"{V3}/types/{id}/action", {"nonsense": {}}).status == 400


def test_quotas(cloud: Any, alice: Any, bob: Any, admin: Any) -> None:
    own = f"{V3}/os-quota-sets/{alice.project_id}"
    got = alice.get(own).json["quota_set"]
    assert (
        got["id"],
        got["volumes"],
        got["gigabytes"],
        got["per_volume_gigabytes"],
        got["volumes_local"],
    ) == (alice.project_id, 10, 1000, -1, -1)
    assert bob.get(own).status == 403
    assert alice.put(own, {"quota_set": {"volumes": 99}}).status == 403
    assert (
        admin.put(
            own,
            {
                "quota_set": {
                    "volumes": 2,
                    "gigabytes": 5,
                    "per_volume_gigabytes": 4,
                    "tenant_id": alice.project_id,
                }
            },
        ).status
        == 200
    )
    for bad in ({"volumes": -2}, {"volumes": "x"}, {"horses": 1}, {"volumes": 2**31}, {}, {"volumes": True}):
        assert admin.put(own, {"quota_set": bad}).status == 400, bad
    id = available(cloud, alice, size=3)["id"]
    big = alice.post(f"{V3}/volumes", {"volume": {"size": 3}})
    assert (big.status, big.json["overLimit"]["code"]) == (413, 413)
    assert big.headers["retry-after"] == "0"
    assert alice.post(f"{V3}/volumes", {"volume": {"size": 5}}).status == 413
    assert act(alice, id, "os-extend", {"new_size": 6}).status == 413
    available(cloud, alice)
    assert alice.post(f"{V3}/volumes", {"volume": {"size": 1}}).status == 413
    used = alice.get(f"{own}?usage=True").json["quota_set"]
    assert used["volumes"] == {"limit": 2, "in_use": 2, "reserved": 0}
    assert used["gigabytes_local"] == {"limit": -1, "in_use": 4, "reserved": 0}
    absolute = alice.get(f"{V3}/limits").json["limits"]["absolute"]
    assert (absolute["maxTotalVolumes"], absolute["totalVolumesUsed"], absolute["totalGigabytesUsed"]) == (
        2,
        2,
        4,
    )
    other = admin.get(f"{V3}/limits?project_id={alice.project_id}", headers=at("3.39")).json["limits"][
        "absolute"
    ]
    assert other == absolute
    assert admin.delete(own).status == 200
    assert alice.get(own).json["quota_set"]["volumes"] == 10
    assert admin.put(own, {"quota_set": {"snapshots": 0}}).status == 200
    assert alice.post(f"{V3}/snapshots", {"snapshot": {"volume_id": id}}).status == 413


def test_quota_classes(alice: Any, admin: Any) -> None:
    own = f"{V3}/os-quota-class-sets/default"
    assert alice.get(own).status == 403
    assert admin.get(own).json["quota_class_set"]["volumes"] == 10
    assert admin.put(own, {"quota_class_set": {"volumes": 3}}).json["quota_class_set"]["volumes"] == 3
    assert alice.get(f"{V3}/os-quota-sets/{alice.project_id}").json["quota_set"]["volumes"] == 3
    assert alice.get(f"{V3}/os-quota-sets/{alice.project_id}/defaults").json["quota_set"]["volumes"] == 3


def test_services_and_pools(cloud: Any, alice: Any, admin: Any) -> None:
    assert alice.get(f"{V3}/os-services").status == 403
    got = admin.get(f"{V3}/os-services").json["services"]
    assert [(s["binary"], s["host"], s["state"], s["status"]) for s in got] == [
        ("cinder-volume", "n1@local", "up", "enabled"),
        ("cinder-scheduler", "n1", "up", "enabled"),
    ]
    assert (
        admin.put(
            f"{V3}/os-services/disable-log-reason",
            {"host": "n1@local", "binary": "cinder-volume", "disabled_reason": "repair"},
        ).status
        == 200
    )
    assert admin.put(f"{V3}/os-services/disable-log-reason", {"host": "n1@local"}).status == 400
    id = create(alice)["id"]
    cloud.settle()
    assert show(alice, id)["status"] == "error"
    assert "repair" in alice.get(f"{V3}/messages", headers=at("3.3")).json["messages"][0]["user_message"]
    assert (
        admin.put(f"{V3}/os-services/enable", {"host": "n1@local", "binary": "cinder-volume"}).json["status"]
        == "enabled"
    )
    assert admin.put(f"{V3}/os-services/enable", {"host": "n9", "binary": "cinder-volume"}).status == 404
    for wrong in ({"binary": "invalid_binary"}, {"service": "cinder-backup"}, {"binary": "cinder-scheduler"}):
        assert admin.put(f"{V3}/os-services/disable", {"host": "n1@local", **wrong}).status == 404
    assert admin.get(f"{V3}/os-services").json["services"][0]["status"] == "enabled"
    assert admin.put(f"{V3}/os-services/nonsense", {}).status == 404
    available(cloud, alice)
    assert alice.get(f"{V3}/scheduler-stats/get_pools").status == 403
    pool = admin.get(f"{V3}/scheduler-stats/get_pools?detail=True").json["pools"][0]
    assert (
        pool["name"],
        pool["capabilities"]["total_capacity_gb"],
        pool["capabilities"]["free_capacity_gb"],
    ) == ("n1@local#local", 10000, 9999)
    assert admin.get(f"{V3}/os-hosts").json["hosts"][0]["host_name"] == "n1@local"
    assert admin.get(f"{V3}/os-hosts/n1").json["host"][0]["resource"]["volume_count"] == "1"
    assert admin.get(f"{V3}/os-hosts/n9").status == 404
    assert admin.get(f"{V3}/capabilities/n1@local").json["volume_backend_name"] == "n1"
    backend(cloud).down = True
    assert [s["state"] for s in admin.get(f"{V3}/os-services?binary=cinder-volume").json["services"]] == [
        "down"
    ]
    assert admin.get(f"{V3}/scheduler-stats/get_pools").json["pools"] == []


def test_small_documents(alice: Any) -> None:
    assert alice.get(f"{V3}/os-availability-zone").json["availabilityZoneInfo"] == [
        {"zoneName": "nova", "zoneState": {"available": True}}
    ]
    aliases = [e["alias"] for e in alice.get(f"{V3}/extensions").json["extensions"]]
    assert "os-quota-sets" in aliases
    assert alice.get(f"{V3}/extensions/os-quota-sets").status == 200
    assert alice.get(f"{V3}/extensions/nonsense").status == 404
    assert (
        alice.get(f"{V3}/resource_filters", headers=at("3.33")).json["resource_filters"][0]["resource"]
        == "volume"
    )
    assert alice.get(f"{V3}/resource_filters", headers=at("3.32")).status == 404


def test_attachments(cloud: Any, alice: Any, bob: Any) -> None:
    volume = available(cloud, alice)["id"]
    own = f"{V3}/attachments"

    def post(body: Any, version: str = "3.27") -> Any:
        return alice.post(own, {"attachment": body}, headers=at(version))

    assert alice.post(own, {"attachment": {"volume_uuid": volume}}, headers=at("3.26")).status == 404
    for bad in (
        {},
        {"volume_uuid": volume, "instance_uuid": "x"},
        {"volume_uuid": volume, "mode": "ro"},
        {"volume_uuid": volume, "colour": 1},
    ):
        assert post(bad).status == 400, bad
    assert post({"volume_uuid": SERVER}).status == 404
    made = post({"volume_uuid": volume, "instance_uuid": SERVER, "mode": "ro"}, "3.54")
    assert (made.status, made.json["attachment"]["status"], made.json["attachment"]["attach_mode"]) == (
        200,
        "reserved",
        "ro",
    )
    id = made.json["attachment"]["id"]
    assert show(alice, volume)["status"] == "reserved"
    assert post({"volume_uuid": volume}).status == 400
    connected = alice.put(
        f"{own}/{id}",
        {"attachment": {"connector": {"host": "n1", "mountpoint": "/dev/vdb"}}},
        headers=at("3.27"),
    )
    assert (connected.status, connected.json["attachment"]["connection_info"]["driver_volume_type"]) == (
        200,
        "local",
    )
    assert show(alice, volume)["status"] == "attaching"
    assert alice.post(f"{own}/{id}/action", {"os-complete": None}, headers=at("3.44")).status == 204
    got = show(alice, volume)
    assert (got["status"], got["attachments"][0]["attachment_id"], got["attachments"][0]["device"]) == (
        "in-use",
        id,
        "/dev/vdb",
    )
    listed = alice.get(f"{own}?volume_id={volume}", headers=at("3.27")).json["attachments"]
    assert listed == [{"id": id, "status": "attached", "instance": SERVER, "volume_id": volume}]
    assert (
        alice.get(f"{own}/detail?instance_id={SERVER}", headers=at("3.27")).json["attachments"][0][
            "attach_mode"
        ]
        == "ro"
    )
    for call in ("get", "delete"):
        assert getattr(bob, call)(f"{own}/{id}", headers=at("3.27")).status == 404
    assert bob.get(own, headers=at("3.27")).json["attachments"] == []
    assert alice.delete(f"{own}/{id}", headers=at("3.27")).json == {"attachments": []}
    assert show(alice, volume)["status"] == "available"


def test_qos(alice: Any, admin: Any) -> None:
    own = f"{V3}/qos-specs"
    assert alice.get(own).status == 403
    made = admin.post(own, {"qos_specs": {"name": "slow", "consumer": "front-end", "total_iops_sec": 100}})
    assert made.status == 200, made
    qos = made.json["qos_specs"]
    assert (qos["consumer"], qos["specs"]) == ("front-end", {"total_iops_sec": "100"})
    assert admin.post(own, {"qos_specs": {"name": "slow"}}).status == 409
    assert admin.post(own, {"qos_specs": {"name": "x", "consumer": "nobody"}}).status == 400
    assert admin.post(own, {"qos_specs": {}}).status == 400
    id = qos["id"]
    assert admin.put(f"{own}/{id}", {"qos_specs": {"read_iops_sec": "5"}}).json["qos_specs"] == {
        "read_iops_sec": "5"
    }
    assert admin.put(f"{own}/{id}/delete_keys", {"keys": ["total_iops_sec"]}).status == 202
    assert admin.get(f"{own}/{id}").json["qos_specs"]["specs"] == {"read_iops_sec": "5"}
    kind = admin.get(f"{V3}/types/default").json["volume_type"]["id"]
    assert admin.get(f"{own}/{id}/associate?vol_type_id={kind}").status == 202
    assert [a["id"] for a in admin.get(f"{own}/{id}/associations").json["qos_associations"]] == [kind]
    assert admin.get(f"{V3}/types/{kind}").json["volume_type"]["qos_specs_id"] == id
    assert admin.delete(f"{own}/{id}").status == 400
    assert admin.get(f"{own}/{id}/disassociate_all").status == 202
    assert admin.get(f"{own}/{id}/nonsense").status == 404
    assert admin.delete(f"{own}/{id}").status == 202
    assert admin.get(f"{own}/{id}").status == 404


def test_transfer(cloud: Any, alice: Any, bob: Any, admin: Any) -> None:
    id = available(cloud, alice)["id"]
    alice.post(f"{V3}/snapshots", {"snapshot": {"volume_id": id}})
    cloud.settle()
    old, new = f"{V3}/os-volume-transfer", f"{V3}/volume-transfers"
    assert alice.post(new, {"transfer": {"volume_id": id}}).status == 404
    made = alice.post(new, {"transfer": {"volume_id": id, "name": "gift"}}, headers=at("3.57"))
    assert (made.status, made.json["transfer"]["accepted"], made.json["transfer"]["no_snapshots"]) == (
        202,
        False,
        False,
    )
    offer, key = made.json["transfer"]["id"], made.json["transfer"]["auth_key"]
    assert show(alice, id)["status"] == "awaiting-transfer"
    assert alice.delete(f"{V3}/volumes/{id}").status == 400
    assert set(alice.get(f"{old}/{offer}").json["transfer"]) == {
        "id",
        "name",
        "volume_id",
        "links",
        "created_at",
    }
    assert [t["id"] for t in alice.get(f"{old}/detail").json["transfers"]] == [offer]
    assert bob.get(old).json["transfers"] == []
    assert bob.get(f"{old}/{offer}").status == 404
    assert bob.delete(f"{old}/{offer}").status == 404
    assert bob.post(f"{old}/{offer}/accept", {"accept": {"auth_key": "guess"}}).status == 403
    assert bob.post(f"{old}/{offer}/accept", {"accept": {}}).status == 400
    assert bob.post(f"{old}/{SERVER}/accept", {"accept": {"auth_key": key}}).status == 404
    own = f"{V3}/os-quota-sets/{bob.project_id}"
    assert admin.put(own, {"quota_set": {"snapshots": 0}}).status == 200
    assert bob.post(f"{old}/{offer}/accept", {"accept": {"auth_key": key}}).status == 413
    admin.delete(own)
    assert bob.post(f"{old}/{offer}/accept", {"accept": {"auth_key": key}}).status == 202
    assert show(bob, id)["status"] == "available"
    assert show(bob, id)["os-vol-tenant-attr:tenant_id"] == bob.project_id
    assert alice.get(f"{V3}/volumes/{id}").status == 404
    assert len(bob.get(f"{V3}/snapshots").json["snapshots"]) == 1
    offer = bob.post(old, {"transfer": {"volume_id": id}}).json["transfer"]["id"]
    assert bob.post(old, {"transfer": {"volume_id": id}}).status == 400
    assert bob.delete(f"{old}/{offer}").status == 202
    assert show(bob, id)["status"] == "available"


def test_a_frozen_host_neither_takes_nor_gives(cloud: Any, alice: Any, admin: Any) -> None:
    def say(verb: str, host: str, user: Any = admin) -> int:
        return int(user.put(f"/volume/v3/os-services/{verb}", {"host": host}).status)

    assert say("thaw", "mars") == say("freeze", "mars") == 400
    assert say("freeze", "n1", alice) == 403
    kept = alice.post("/volume/v3/volumes", {"volume": {"size": 1}}).json["volume"]["id"]
    cloud.settle()
    assert say("freeze", "n1@local") == 202
    shown = admin.get("/volume/v3/os-services?binary=cinder-volume").json["services"][0]
    assert shown["frozen"] is True
    assert alice.delete(f"/volume/v3/volumes/{kept}").status == 400
    assert alice.post("/volume/v3/snapshots", {"snapshot": {"volume_id": kept}}).status == 400
    made = alice.post("/volume/v3/volumes", {"volume": {"size": 1}}).json["volume"]["id"]
    cloud.settle()
    assert alice.get(f"/volume/v3/volumes/{made}").json["volume"]["status"] == "error"
    assert say("thaw", "n1") == 202
    assert alice.delete(f"/volume/v3/volumes/{kept}").status == 202
