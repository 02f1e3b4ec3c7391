"""Flavors and key pairs."""

from tests.compute.bed import V, at, boot
from tests.conftest import Bed, User

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4FnGbqxVhK0M5uYbWbWb8sWJ4o6mJqz9jv1mZzjQ0y a@b"


def test_flavors_are_made_shown_and_removed(cloud: Bed, alice: User, admin: User) -> None:
    want = {
        "name": "own",
        "ram": "256",
        "vcpus": 1,
        "disk": 2,
        "swap": 64,
        "OS-FLV-EXT-DATA:ephemeral": 1,
        "os-flavor-access:is_public": False,
    }
    made = admin.post(f"{V}/flavors", {"flavor": want})
    assert made.status == 200, made
    id = made.json["flavor"]["id"]
    assert admin.post(f"{V}/flavors", {"flavor": want}).status == 409
    assert alice.post(f"{V}/flavors", {"flavor": {**want, "name": "x"}}).status == 403
    assert alice.get(f"{V}/flavors/{id}").status == 404
    given = admin.post(f"{V}/flavors/{id}/action", {"addTenantAccess": {"tenant": alice.project_id}})
    assert {"flavor_id": id, "tenant_id": alice.project_id} in given.json["flavor_access"]
    assert alice.get(f"{V}/flavors/{id}").status == 200
    server = boot(cloud, alice, flavor=id)
    assert server["status"] == "ACTIVE"
    domain = cloud.host("n1").domains[server["id"]]
    assert [(d.kind, d.size_mib, d.device) for d in domain.local_disks] == [
        ("ephemeral", 1024, "vdb"),
        ("swap", 64, "vdc"),
    ]
    specs = f"{V}/flavors/{id}/os-extra_specs"
    assert admin.post(specs, {"extra_specs": {"hw:x": "1"}}).json == {"extra_specs": {"hw:x": "1"}}
    assert admin.put(f"{specs}/hw:x", {"hw:x": "2"}).json == {"hw:x": "2"}
    assert alice.get(f"{specs}/hw:x").json == {"hw:x": "2"}
    assert admin.put(f"{specs}/hw:y", {"hw:y": "3"}).json == {"hw:y": "3"}
    assert admin.delete(f"{specs}/hw:x").status == 200
    assert admin.delete(f"{V}/flavors/{id}").status == 202
    assert admin.get(f"{V}/flavors/{id}").status == 404
    for bad in (
        {"ram": 0},
        {"ram": -1},
        {"vcpus": "x"},
        {"disk": 2**31},
        {"name": ""},
        {"id": "a/b"},
        {"rxtx_factor": 0},
        {"what": 1},
    ):
        assert (
            admin.post(
                f"{V}/flavors", {"flavor": {"name": "bad", "ram": 1, "vcpus": 1, "disk": 1, **bad}}
            ).status
            == 400
        ), bad


def test_flavors_page(cloud: Bed, alice: User) -> None:
    first = alice.get(f"{V}/flavors?limit=2").json
    assert len(first["flavors"]) == 2
    rest = alice.get(first["flavors_links"][0]["href"].partition("falconframework.org")[2]).json
    assert len(rest["flavors"]) == 2
    assert not {f["id"] for f in first["flavors"]} & {f["id"] for f in rest["flavors"]}
    assert alice.get(f"{V}/flavors?marker=nope").status == 400
    assert {f["name"] for f in alice.get(f"{V}/flavors/detail?minRam=4096").json["flavors"]} == {
        "m1.medium",
        "m1.large",
        "m1.xlarge",
    }


def test_key_pairs(cloud: Bed, alice: User, bob: User) -> None:
    path = f"{V}/os-keypairs"
    made = alice.post(path, {"keypair": {"name": "mine"}}).json["keypair"]
    assert "PRIVATE KEY" in made["private_key"]
    assert made["public_key"].startswith("ssh-rsa ")
    kept = alice.post(path, {"keypair": {"name": "given", "public_key": ED25519}})
    assert kept.status == 200, kept
    assert "private_key" not in kept.json["keypair"]
    assert len(kept.json["keypair"]["fingerprint"].split(":")) == 16
    assert alice.post(path, {"keypair": {"name": "given"}}).status == 409
    assert [k["keypair"]["name"] for k in alice.get(path).json["keypairs"]] == ["given", "mine"]
    assert bob.get(f"{path}/mine").status == 404
    assert cloud.admin.get(f"{path}/mine?user_id={alice.id}", headers=at("2.10")).status == 200
    assert bob.get(f"{path}/mine?user_id={alice.id}", headers=at("2.10")).status == 403
    for bad in (
        {"public_key": "ssh-rsa AAAA"},
        {"public_key": ""},
        {"public_key": "x y"},
        {"name": "a/b"},
        {"name": ""},
        {"name": "é"},
    ):
        assert alice.post(path, {"keypair": {"name": "n", **bad}}).status == 400, bad
    assert alice.delete(f"{path}/mine").status == 202
    assert alice.delete(f"{path}/mine").status == 404
