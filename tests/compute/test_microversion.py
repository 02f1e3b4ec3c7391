"""What changes at each microversion changes just there."""

from typing import Any

import pytest

from tests.compute.bed import V, act, at, boot, image, show
from tests.conftest import Bed, User

# microversion → keys of a server that are there from it on (as an admin sees it)
SINCE = {
    "2.3": [
        "OS-EXT-SRV-ATTR:reservation_id",
        "OS-EXT-SRV-ATTR:launch_index",
        "OS-EXT-SRV-ATTR:hostname",
        "OS-EXT-SRV-ATTR:root_device_name",
        "OS-EXT-SRV-ATTR:user_data",
        "OS-EXT-SRV-ATTR:kernel_id",
        "OS-EXT-SRV-ATTR:ramdisk_id",
    ],
    "2.9": ["locked"],
    "2.16": ["host_status"],
    "2.19": ["description"],
    "2.26": ["tags"],
    "2.63": ["trusted_image_certificates"],
    "2.71": ["server_groups"],
    "2.73": ["locked_reason"],
}


def before(version: str) -> str:
    return f"2.{int(version.split('.')[1]) - 1}"


def test_fields_of_a_server_appear_at_their_version(cloud: Bed, alice: User, admin: User) -> None:
    id = boot(cloud, alice)["id"]
    for version, keys in SINCE.items():
        old, new = show(admin, id, before(version)), show(admin, id, version)
        assert set(new) - set(old) == set(keys), version
        assert set(old) <= set(new), version


def test_the_flavor_of_a_server_is_embedded_from_2_47(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    old, new = show(alice, id, "2.46")["flavor"], show(alice, id, "2.47")["flavor"]
    assert set(old) == {"id", "links"}
    assert new == {
        "vcpus": 1,
        "ram": 128,
        "disk": 1,
        "ephemeral": 0,
        "swap": 0,
        "original_name": "m1.nano",
        "extra_specs": {},
    }


def test_volumes_of_a_server_tell_delete_on_termination_from_2_3(cloud: Bed, alice: User) -> None:
    root = {
        "source_type": "image",
        "destination_type": "volume",
        "uuid": image(alice),
        "boot_index": 0,
        "volume_size": 1,
    }
    id = boot(cloud, alice, block_device_mapping_v2=[root])["id"]
    key = "os-extended-volumes:volumes_attached"
    assert [set(v) for v in show(alice, id, "2.2")[key]] == [{"id"}]
    assert [set(v) for v in show(alice, id, "2.3")[key]] == [{"id", "delete_on_termination"}]
    path = f"{V}/servers/{id}/os-volume_attachments"
    keys = [
        set(alice.get(path, headers=at(v)).json["volumeAttachments"][0])
        for v in ("2.69", "2.70", "2.78", "2.79")
    ]
    assert keys[1] - keys[0] == {"tag"}
    assert keys[3] - keys[2] == {"delete_on_termination"}


@pytest.mark.parametrize(
    ("version", "field", "value", "arrives"),
    [
        ("2.19", "description", "d", True),
        ("2.52", "tags", ["a"], True),
        ("2.63", "trusted_image_certificates", ["c"], True),
        ("2.74", "host", "n1", True),
        ("2.57", "personality", [], False),
    ],
)
def test_fields_of_a_create_body(
    cloud: Bed, admin: User, version: str, field: str, value: Any, arrives: bool
) -> None:
    """Refused on one side of the boundary, taken on the other."""
    img = image(admin)
    for at_version, there in ((before(version), not arrives), (version, arrives)):
        want = {"name": "x", "flavorRef": "42", "imageRef": img, field: value}
        if int(at_version.split(".")[1]) >= 37:
            want["networks"] = "none"
        got = admin.post(f"{V}/servers", {"server": want}, headers=at(at_version))
        assert got.status == (202 if there else 400), (at_version, got)
        if not there:
            assert field in got.json["badRequest"]["message"]


def test_networks_must_be_named_from_2_37(cloud: Bed, alice: User) -> None:
    want = {"name": "x", "flavorRef": "42", "imageRef": image(alice)}
    assert alice.post(f"{V}/servers", {"server": want}, headers=at("2.36")).status == 202
    assert alice.post(f"{V}/servers", {"server": want}, headers=at("2.37")).status == 400
    assert (
        alice.post(f"{V}/servers", {"server": {**want, "networks": "none"}}, headers=at("2.36")).status == 400
    )
    assert (
        alice.post(f"{V}/servers", {"server": {**want, "networks": "none"}}, headers=at("2.37")).status == 202
    )


def test_key_pairs_have_a_type_from_2_2(cloud: Bed, alice: User) -> None:
    path = f"{V}/os-keypairs"
    old = alice.post(path, {"keypair": {"name": "a"}})
    new = alice.post(path, {"keypair": {"name": "b"}}, headers=at("2.2"))
    assert (old.status, new.status) == (200, 201)
    assert set(new.json["keypair"]) - set(old.json["keypair"]) == {"type"}
    assert alice.post(path, {"keypair": {"name": "c", "type": "ssh"}}).status == 400
    assert alice.delete(f"{path}/a").status == 202
    assert alice.delete(f"{path}/b", headers=at("2.2")).status == 204
    assert "keypairs_links" not in alice.get(f"{path}?limit=1", headers=at("2.34")).json


def test_flavors_change(cloud: Bed, alice: User) -> None:
    def keys(version: str) -> set[str]:
        return set(alice.get(f"{V}/flavors/42", headers=at(version)).json["flavor"])

    assert keys("2.55") - keys("2.54") == {"description"}
    assert keys("2.61") - keys("2.60") == {"extra_specs"}
    swap = [alice.get(f"{V}/flavors/42", headers=at(v)).json["flavor"]["swap"] for v in ("2.74", "2.75")]
    assert swap == ["", 0]


def test_calls_come_and_go(cloud: Bed, alice: User, admin: User) -> None:
    id = boot(cloud, alice)["id"]
    for path, version in (("/os-security-groups", "2.36"),):
        assert alice.get(V + path, headers=at(before(version))).status == 200
        assert alice.get(V + path, headers=at(version)).status == 404
    for path, version in ((f"/servers/{id}/tags", "2.26"), (f"/servers/{id}/topology", "2.78")):
        assert alice.get(V + path, headers=at(before(version))).status == 404
        assert alice.get(V + path, headers=at(version)).status == 200
    assert admin.get(f"{V}/os-hypervisors/n1/search", headers=at("2.52")).status == 200
    assert admin.get(f"{V}/os-hypervisors/n1/search", headers=at("2.53")).status == 404
    assert act(alice, id, "os-getVNCConsole", {"type": "novnc"}, version="2.6").status == 404


def test_unknown_status_is_refused_from_2_38_and_unknown_queries_from_2_75(cloud: Bed, alice: User) -> None:
    got = [alice.get(f"{V}/servers?status=moon", headers=at(v)).status for v in ("2.37", "2.38")]
    assert got == [200, 400]
    got = [alice.get(f"{V}/servers?colour=red", headers=at(v)).status for v in ("2.74", "2.75")]
    assert got == [200, 400]


def test_an_update_answers_all_from_2_75(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    old = alice.put(f"{V}/servers/{id}", {"server": {"name": "n"}}, headers=at("2.74")).json["server"]
    new = alice.put(f"{V}/servers/{id}", {"server": {"name": "n"}}, headers=at("2.75")).json["server"]
    assert "OS-EXT-STS:vm_state" not in old
    assert "OS-EXT-STS:vm_state" in new


def test_hosts_have_uuids_from_2_53(cloud: Bed, admin: User) -> None:
    for path, key in (("/os-services", "services"), ("/os-hypervisors/detail", "hypervisors")):
        old, new = (admin.get(V + path, headers=at(v)).json[key][0]["id"] for v in ("2.52", "2.53"))
        assert isinstance(old, int)
        assert len(new) == 36
    assert isinstance(
        admin.get(f"{V}/os-hypervisors/detail", headers=at("2.27")).json["hypervisors"][0]["cpu_info"], str
    )
    assert isinstance(
        admin.get(f"{V}/os-hypervisors/detail", headers=at("2.28")).json["hypervisors"][0]["cpu_info"], dict
    )


def test_server_groups_have_one_policy_from_2_64(cloud: Bed, alice: User) -> None:
    path = f"{V}/os-server-groups"
    assert (
        alice.post(
            path, {"server_group": {"name": "g", "policies": ["soft-affinity"]}}, headers=at("2.14")
        ).status
        == 400
    )
    old = alice.post(
        path, {"server_group": {"name": "g", "policies": ["affinity"]}}, headers=at("2.63")
    ).json["server_group"]
    new = alice.post(
        path,
        {"server_group": {"name": "h", "policy": "anti-affinity", "rules": {"max_server_per_host": 3}}},
        headers=at("2.64"),
    ).json["server_group"]
    assert old["policies"] == ["affinity"]
    assert (new["policy"], new["rules"]) == ("anti-affinity", {"max_server_per_host": 3})
    assert (
        alice.post(path, {"server_group": {"name": "g", "policies": ["affinity"]}}, headers=at("2.64")).status
        == 400
    )


def test_versions_are_negotiated(cloud: Bed, alice: User) -> None:
    documents = cloud.nobody.get("/compute").json["versions"]
    assert [d["id"] for d in documents] == ["v2.0", "v2.1"]
    newest = documents[1]["version"]
    got = alice.get(f"{V}/servers", headers=at("latest"))
    assert got.headers["openstack-api-version"] == f"compute {newest}"
    assert got.headers["x-openstack-nova-api-version"] == newest
    assert (
        alice.get(f"{V}/servers", headers={"X-OpenStack-Nova-API-Version": "2.38"}).headers[
            "openstack-api-version"
        ]
        == "compute 2.38"
    )
    assert alice.get(f"{V}/servers", headers=at("2.999")).status == 406
    assert alice.get(f"{V}/servers", headers=at("two")).status == 400
    assert cloud.nobody.get(f"{V}/").json["version"]["id"] == "v2.1"
    assert cloud.nobody.get(f"{V}/servers").status == 401
    assert alice.get(f"{V}/{alice.project_id}/servers/detail").status == 200
