"""The Placement API by raw calls, over the same tables that servers' claims are in."""

import uuid
from typing import Any

import pytest

from tests.compute.bed import boot
from tests.conftest import Answer, Bed, User

P = "/placement"


def at(version: str) -> dict[str, str]:
    return {"OpenStack-API-Version": f"placement {version}"}


def call(user: User, method: str, path: str, body: Any = None, version: str = "1.39") -> Answer:
    return user.call(method, P + path, body, headers=at(version))


def provider(admin: User, name: str, parent: str | None = None, **stock: int) -> str:
    want = {"name": name} | ({"parent_provider_uuid": parent} if parent else {})
    made = call(admin, "POST", "/resource_providers", want)
    assert made.status == 200, made
    id = str(made.json["uuid"])
    items = {n: {"total": t} for n, t in stock.items()}
    got = call(
        admin,
        "PUT",
        f"/resource_providers/{id}/inventories",
        {"resource_provider_generation": 0, "inventories": items},
    )
    assert got.status == 200, got
    return id


def trait(admin: User, id: str, *names: str) -> None:
    generation = call(admin, "GET", f"/resource_providers/{id}").json["generation"]
    for name in names:
        if name.startswith("CUSTOM_"):
            call(admin, "PUT", f"/traits/{name}")
    got = call(
        admin,
        "PUT",
        f"/resource_providers/{id}/traits",
        {"resource_provider_generation": generation, "traits": list(names)},
    )
    assert got.status == 200, got


def test_hosts_are_providers_and_servers_are_consumers(cloud: Bed, alice: User, admin: User) -> None:
    found = call(admin, "GET", "/resource_providers?name=n1", version="1.0").json["resource_providers"]
    assert [set(r) for r in found] == [{"uuid", "name", "generation", "links"}]
    path = f"/resource_providers/{found[0]['uuid']}"
    stock = call(admin, "GET", f"{path}/inventories").json["inventories"]
    assert stock["VCPU"]["allocation_ratio"] == cloud.config.compute.cpu_allocation_ratio
    assert stock["MEMORY_MB"]["reserved"] == cloud.config.compute.reserved_memory_mib
    server = boot(cloud, alice)["id"]
    assert call(admin, "GET", f"{path}/usages").json["usages"] == {"DISK_GB": 1, "MEMORY_MB": 128, "VCPU": 1}
    assert server in call(admin, "GET", f"{path}/allocations").json["allocations"]
    assert (
        call(admin, "GET", f"/usages?project_id={alice.project_id}", version="1.9").json["usages"][
            "MEMORY_MB"
        ]
        == 128
    )
    typed = call(admin, "GET", f"/usages?project_id={alice.project_id}").json["usages"]
    assert typed == {"INSTANCE": {"consumer_count": 1, "DISK_GB": 1, "MEMORY_MB": 128, "VCPU": 1}}
    assert "COMPUTE_NODE" in call(admin, "GET", f"{path}/traits").json["traits"]
    assert call(admin, "DELETE", path).json["errors"][0]["code"] == "placement.resource_provider.inuse"
    assert call(alice, "GET", "/resource_providers").status == 403


def test_providers_and_generations(cloud: Bed, admin: User) -> None:
    id = provider(admin, "p", VCPU=4)
    path = f"/resource_providers/{id}"
    stale = {"resource_provider_generation": 0, "inventories": {}}
    got = call(admin, "PUT", f"{path}/inventories", stale)
    assert (got.status, got.json["errors"][0]["code"]) == (409, "placement.concurrent_update")
    assert "code" not in call(admin, "PUT", f"{path}/inventories", stale, version="1.22").json["errors"][0]
    assert (
        call(admin, "POST", "/resource_providers", {"name": "p"}).json["errors"][0]["code"]
        == "placement.duplicate_name"
    )
    assert call(admin, "POST", "/resource_providers", {"name": "q"}, version="1.19").status == 201
    assert call(admin, "PUT", path, {"name": "renamed"}).json["name"] == "renamed"
    one = call(admin, "POST", f"{path}/inventories", {"resource_class": "DISK_GB", "total": 10})
    assert one.status == 201, one
    for bad in ({"total": 0}, {"total": "x"}, {"total": 1, "reserved": 2}, {"total": 1, "colour": 1}, {}):
        assert (
            call(admin, "POST", f"{path}/inventories", {"resource_class": "MEMORY_MB", **bad}).status == 400
        ), bad
    assert (
        call(admin, "POST", f"{path}/inventories", {"resource_class": "CUSTOM_NONE", "total": 1}).status
        == 400
    )
    assert call(admin, "DELETE", f"{path}/inventories/DISK_GB").status == 204
    assert call(admin, "DELETE", f"{path}/inventories", version="1.4").status == 404
    assert call(admin, "DELETE", f"{path}/inventories").status == 204
    child = provider(admin, "child", id)
    assert (
        call(admin, "GET", f"/resource_providers?in_tree={child}").json["resource_providers"][0][
            "root_provider_uuid"
        ]
        == id
    )
    assert (
        call(admin, "DELETE", path).json["errors"][0]["code"]
        == "placement.resource_provider.cannot_delete_parent"
    )
    assert (
        call(
            admin,
            "PUT",
            f"/resource_providers/{child}",
            {"name": "child", "parent_provider_uuid": None},
            version="1.36",
        ).status
        == 400
    )
    assert (
        call(
            admin, "PUT", f"/resource_providers/{child}", {"name": "child", "parent_provider_uuid": None}
        ).json["root_provider_uuid"]
        == child
    )
    assert call(admin, "DELETE", path).status == 204
    assert call(admin, "GET", path).status == 404


def test_allocations(cloud: Bed, admin: User) -> None:
    id, consumer = provider(admin, "p", VCPU=4), str(uuid.uuid4())
    path = f"/allocations/{consumer}"

    def want(amount: int, **more: Any) -> dict[str, Any]:
        return {
            "allocations": {id: {"resources": {"VCPU": amount}}},
            "project_id": "p1",
            "user_id": "u1",
            "consumer_generation": None,
            "consumer_type": "VM",
            **more,
        }

    assert call(admin, "PUT", path, want(5)).status == 409
    assert call(admin, "PUT", path, want(3)).status == 204
    got = call(admin, "GET", path).json
    assert got["allocations"][id]["resources"] == {"VCPU": 3}
    assert (got["project_id"], got["consumer_generation"], got["consumer_type"]) == ("p1", 1, "VM")
    assert call(admin, "PUT", path, want(4)).status == 409
    assert call(admin, "PUT", path, want(4, consumer_generation=1)).status == 204
    assert call(admin, "GET", f"/resource_providers/{id}/usages").json["usages"] == {"VCPU": 4}
    other = str(uuid.uuid4())
    moved = {consumer: want(1, consumer_generation=2), other: want(3)}
    assert call(admin, "POST", "/allocations", moved).status == 204
    assert call(admin, "GET", f"/resource_providers/{id}/usages").json["usages"] == {"VCPU": 4}
    assert call(admin, "DELETE", path).status == 204
    assert call(admin, "DELETE", path).status == 404
    old = {"allocations": [{"resource_provider": {"uuid": id}, "resources": {"VCPU": 1}}]}
    assert call(admin, "PUT", path, old, version="1.7").status == 204
    assert call(admin, "PUT", path, old, version="1.8").status == 400
    for bad in (want(0), want(1, colour=1), {}, [], {"allocations": {"x": {}}}, want(1, consumer_type="vm")):
        assert call(admin, "PUT", f"/allocations/{uuid.uuid4()}", bad).status == 400, bad


def test_words(cloud: Bed, admin: User) -> None:
    assert call(admin, "PUT", "/traits/CUSTOM_GOLD").status == 201
    assert call(admin, "PUT", "/traits/CUSTOM_GOLD").status == 204
    assert call(admin, "PUT", "/traits/GOLD").status == 400
    assert call(admin, "GET", "/traits?name=startswith:CUSTOM_").json["traits"] == ["CUSTOM_GOLD"]
    assert call(admin, "DELETE", "/traits/HW_CPU_X86_AVX").status == 400
    assert call(admin, "DELETE", "/traits/CUSTOM_GOLD").status == 204
    assert call(admin, "PUT", "/resource_classes/CUSTOM_FPGA").status == 201
    assert call(admin, "GET", "/resource_classes/CUSTOM_FPGA").status == 200
    assert call(admin, "DELETE", "/resource_classes/VCPU").status == 400
    id = provider(admin, "p", CUSTOM_FPGA=1)
    assert call(admin, "DELETE", "/resource_classes/CUSTOM_FPGA").status == 409
    assert call(admin, "DELETE", f"/resource_providers/{id}").status == 204
    assert call(admin, "GET", "/traits", version="1.5").status == 404


def test_candidates(cloud: Bed, admin: User) -> None:
    big, small = (
        provider(admin, "big", VCPU=8, MEMORY_MB=4096),
        provider(admin, "small", VCPU=2, MEMORY_MB=1024),
    )
    nic = provider(admin, "nic", big, SRIOV_NET_VF=4)
    trait(admin, big, "CUSTOM_FAST")
    trait(admin, nic, "CUSTOM_PHYS1")

    def hosts(query: str, version: str = "1.39") -> list[set[str]]:
        got = call(admin, "GET", f"/allocation_candidates?{query}", version=version)
        assert got.status == 200, got
        return [set(r["allocations"]) for r in got.json["allocation_requests"]]

    mine = [{big}, {small}]
    assert [h for h in hosts("resources=VCPU:2,MEMORY_MB:1024") if h in mine] == mine
    assert [h for h in hosts("resources=VCPU:4") if h in mine] == [{big}]
    assert hosts("resources=VCPU:1&required=CUSTOM_FAST") == [{big}]
    assert {big} not in hosts("resources=VCPU:1&required=!CUSTOM_FAST")
    assert hosts("resources=VCPU:1,SRIOV_NET_VF:1") == [{big, nic}]
    assert hosts("resources=VCPU:1,SRIOV_NET_VF:1", version="1.28") == []
    assert hosts("resources=VCPU:1&resources1=SRIOV_NET_VF:1&required1=CUSTOM_PHYS1") == [{big, nic}]
    assert hosts("resources_A=SRIOV_NET_VF:1&resources_B=SRIOV_NET_VF:1&group_policy=isolate") == []
    assert hosts("resources_A=VCPU:1&resources_B=SRIOV_NET_VF:1&group_policy=none&same_subtree=_A,_B") == [
        {big, nic}
    ]
    assert len(hosts("resources=VCPU:1&limit=1")) == 1
    assert hosts(f"resources=VCPU:1&in_tree={small}") == [{small}]
    assert hosts("resources=VCPU:1&root_required=CUSTOM_FAST") == [{big}]
    rack = str(uuid.uuid4())
    generation = call(admin, "GET", f"/resource_providers/{small}").json["generation"]
    body = {"aggregates": [rack], "resource_provider_generation": generation}
    assert call(admin, "PUT", f"/resource_providers/{small}/aggregates", body).status == 200
    assert hosts(f"resources=VCPU:1&member_of={rack}") == [{small}]
    assert {small} not in hosts(f"resources=VCPU:1&member_of=!{rack}")
    full = call(admin, "GET", "/allocation_candidates?resources=VCPU:1&required=CUSTOM_FAST").json
    assert full["allocation_requests"][0]["mappings"] == {"": [big]}
    assert set(full["provider_summaries"]) == {big, nic}
    assert full["provider_summaries"][big]["traits"] == ["CUSTOM_FAST"]


@pytest.mark.parametrize(
    ("query", "version"),
    [
        ("", "1.39"),
        ("resources=", "1.39"),
        ("resources=VCPU", "1.39"),
        ("resources=VCPU:0", "1.39"),
        ("resources=MOON:1", "1.39"),
        ("resources=VCPU:1&required=", "1.39"),
        ("resources=VCPU:1&required=MOON", "1.39"),
        ("resources=VCPU:1&required=!HW_CPU_X86_AVX", "1.21"),
        ("resources=VCPU:1&required=in:HW_CPU_X86_AVX,HW_CPU_X86_SSE", "1.38"),
        ("resources=VCPU:1&limit=1", "1.15"),
        ("resources=VCPU:1&member_of=x", "1.39"),
        ("resources1=VCPU:1", "1.24"),
        ("resources1=VCPU:1&resources2=VCPU:1", "1.39"),
        ("resources_A=VCPU:1", "1.32"),
        ("resources=VCPU:1&in_tree=x", "1.39"),
        ("resources=VCPU:1&in_tree=x", "1.30"),
        ("resources=VCPU:1&colour=red", "1.39"),
        ("resources=VCPU:1&same_subtree=_X", "1.39"),
    ],
)
def test_bad_queries_are_refused(cloud: Bed, admin: User, query: str, version: str) -> None:
    assert call(admin, "GET", f"/allocation_candidates?{query}", version=version).status == 400


def test_reshape_moves_inventory_and_allocations_at_once(cloud: Bed, admin: User) -> None:
    root, consumer = provider(admin, "p", VCPU=4, SRIOV_NET_VF=2), str(uuid.uuid4())
    child = provider(admin, "c", root)
    held = {
        "allocations": {root: {"resources": {"SRIOV_NET_VF": 2}}},
        "project_id": "p",
        "user_id": "u",
        "consumer_generation": None,
        "consumer_type": "VM",
    }
    assert call(admin, "PUT", f"/allocations/{consumer}", held).status == 204
    generation = {i: call(admin, "GET", f"/resource_providers/{i}").json["generation"] for i in (root, child)}
    body = {
        "inventories": {
            root: {"resource_provider_generation": generation[root], "inventories": {"VCPU": {"total": 4}}},
            child: {
                "resource_provider_generation": generation[child],
                "inventories": {"SRIOV_NET_VF": {"total": 2}},
            },
        },
        "allocations": {
            consumer: {
                **held,
                "allocations": {child: {"resources": {"SRIOV_NET_VF": 2}}},
                "consumer_generation": 1,
            }
        },
    }
    assert call(admin, "POST", "/reshaper", body).status == 204
    assert call(admin, "GET", f"/resource_providers/{root}/usages").json["usages"] == {"VCPU": 0}
    assert call(admin, "GET", f"/resource_providers/{child}/usages").json["usages"] == {"SRIOV_NET_VF": 2}


def test_versions(cloud: Bed, admin: User) -> None:
    assert cloud.nobody.get("/placement").json["versions"][0]["max_version"] == "1.39"
    got = call(admin, "GET", "/resource_providers", version="1.99")
    assert got.status == 406
    assert got.json["errors"][0]["max_version"] == "1.39"
    assert "last-modified" not in call(admin, "GET", "/resource_providers", version="1.14").headers
    new = call(admin, "GET", "/resource_providers", version="1.15")
    assert new.headers["cache-control"] == "no-cache"
    assert new.headers["last-modified"].endswith("GMT")
    assert new.headers["openstack-api-version"] == "placement 1.15"
