"""One truth about quotas: unified limits, which every service's creation obeys and every service's quota calls show."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from stackling.base.config import ConfigError, Identity, Volume
from stackling.compute.actions import limits
from stackling.identity.actions import project
from stackling.identity.actions.bootstrap import bootstrap
from stackling.network.actions import standard
from stackling.volume.actions.quota import QUOTAS
from tests.conftest import Answer, Bed, User

V3 = "/identity/v3"
DISK = {"container_format": "bare", "disk_format": "raw", "visibility": "private"}


def _network(user: User, n: int) -> Answer:
    return user.post("/network/v2.0/networks", {"network": {"name": f"n{n}"}})


def _volume(user: User, n: int) -> Answer:
    return user.post("/volume/v3/volumes", {"volume": {"size": 1, "name": f"v{n}"}})


def _image(user: User, n: int) -> Answer:
    return user.post("/image/v2/images", {"name": f"i{n}", **DISK})


def _server(user: User, n: int) -> Answer:
    images = user.bed.admin.get("/image/v2/images?name=disk").json["images"]
    if not images:
        made = user.bed.admin.post("/image/v2/images", {"name": "disk", **DISK, "visibility": "public"}).json
        octets = {"Content-Type": "application/octet-stream"}
        put = user.bed.admin.put(f"/image/v2/images/{made['id']}/file", data=b"\0" * 512, headers=octets)
        assert put.status == 204, put
        images = [made]
    server = {"name": f"s{n}", "flavorRef": "42", "imageRef": images[0]["id"], "networks": "none"}
    return user.post(
        "/compute/v2.1/servers", {"server": server}, headers={"OpenStack-API-Version": "compute 2.37"}
    )


def _group(user: User, n: int) -> Answer:
    group = {"name": f"g{n}", "policies": ["affinity"]}
    return user.post("/compute/v2.1/os-server-groups", {"server_group": group})


# service type, name of the unified limit, what it counts of one creation, creation, status when it is over
KINDS: list[tuple[str, str, int, Callable[[User, int], Answer], int]] = [
    ("network", "network", 1, _network, 409),
    ("block-storage", "volumes", 1, _volume, 413),
    ("block-storage", "gigabytes", 1, _volume, 413),
    ("block-storage", "gigabytes_local", 1, _volume, 413),
    ("image", "image_count_total", 1, _image, 413),
    ("compute", "servers", 1, _server, 403),
    ("compute", "class:VCPU", 1, _server, 403),
    ("compute", "class:MEMORY_MB", 128, _server, 403),
    ("compute", "class:DISK_GB", 1, _server, 403),
    ("compute", "server_groups", 1, _group, 403),
]
each = pytest.mark.parametrize(
    "kind, name, size, create, status", KINDS, ids=[f"{k[0]}-{k[1]}" for k in KINDS]
)


def service_id(admin: User, kind: str) -> str:
    return str(admin.get(f"{V3}/services?type={kind}").json["services"][0]["id"])


# The external network is the administrators', so the default domain has one network more than a test makes.


def limited(admin: User, kind: str, name: str, value: int, **whose: str) -> Answer:
    """Set a limit; what has no registered limit yet gets one."""
    key = {"service_id": service_id(admin, kind), "region_id": "RegionOne", "resource_name": name}
    if not admin.get(f"{V3}/registered_limits?service_id={key['service_id']}&resource_name={name}").json[
        "registered_limits"
    ]:
        made = admin.post(f"{V3}/registered_limits", {"registered_limits": [{**key, "default_limit": -1}]})
        assert made.status == 201, made
    return admin.post(f"{V3}/limits", {"limits": [{**key, "resource_limit": value, **whose}]})


def at_once(work: list[Callable[[], Answer]]) -> list[Answer]:
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda one=one: answers.append(one())) for one in work]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_every_configured_limit_is_registered(cloud: Bed, admin: User, alice: User) -> None:
    found = alice.get(f"{V3}/registered_limits").json["registered_limits"]
    types = {s["id"]: s["type"] for s in admin.get(f"{V3}/services").json["services"]}
    assert {r["region_id"] for r in found} == {"RegionOne"}
    by_type: dict[str, dict[str, int]] = {}
    for one in found:
        by_type.setdefault(types[one["service_id"]], {})[one["resource_name"]] = one["default_limit"]
    assert by_type["compute"] == {
        "servers": 10, "class:VCPU": 20, "class:MEMORY_MB": 51200, "class:DISK_GB": -1, "server_metadata_items": 128,
        "server_key_pairs": 100, "server_groups": 10, "server_group_members": 10, "server_injected_files": 5,
        "server_injected_file_content_bytes": 10240, "server_injected_file_path_bytes": 255,
    }  # fmt: skip
    assert set(by_type["image"]) == {
        "image_size_total", "image_stage_total", "image_count_total", "image_count_uploading",
        "image_builds", "image_build_schedules",
    }  # fmt: skip
    assert by_type["network"]["floatingip"] == 50
    assert by_type["block-storage"]["gigabytes"] == 1000
    assert set(by_type) == {"compute", "image", "network", "block-storage"}


@each
def test_a_project_gets_no_more_than_its_limit(
    cloud: Bed, alice: User, bob: User, admin: User, kind: str, name: str, size: int, create: Any, status: int
) -> None:
    made = limited(admin, kind, name, 2 * size, project_id=alice.project_id)
    assert made.status == 201, made
    assert [create(alice, n).status < 300 for n in range(2)] == [True, True]
    refused = create(alice, 3)
    assert refused.status == status, refused
    assert "uota" in refused.text
    assert create(bob, 4).status < 300
    changed = admin.patch(
        f"{V3}/limits/{made.json['limits'][0]['id']}", {"limit": {"resource_limit": 3 * size}}
    )
    assert changed.status == 200, changed
    assert create(alice, 5).status < 300
    assert create(alice, 6).status == status


@each
def test_many_at_once_get_no_more_than_the_limit(
    cloud: Bed, alice: User, admin: User, kind: str, name: str, size: int, create: Any, status: int
) -> None:
    assert limited(admin, kind, name, 3 * size, project_id=alice.project_id).status == 201
    if create is _server:
        assert create(alice, 0).status < 300  # its image is there from now on
    else:
        create(alice, 0)
    answers = at_once([lambda n=n: create(alice, n) for n in range(1, 9)])  # type: ignore[misc]
    assert sorted({a.status for a in answers if a.status >= 300}) == [status]
    assert len([a for a in answers if a.status < 300]) == 2


def test_a_registered_limit_is_everybodys_until_he_has_his_own(cloud: Bed, alice: User, admin: User) -> None:
    servers = service_id(admin, "compute")
    found = admin.get(f"{V3}/registered_limits?service_id={servers}&resource_name=servers").json
    at = f"{V3}/registered_limits/{found['registered_limits'][0]['id']}"
    assert admin.patch(at, {"registered_limit": {"default_limit": 0}}).status == 200
    assert _server(alice, 1).status == 403
    assert limited(admin, "compute", "servers", 1, project_id=alice.project_id).status == 201
    assert _server(alice, 1).status == 202
    assert admin.get("/compute/v2.1/os-quota-class-sets/default").json["quota_class_set"]["instances"] == 0


@pytest.mark.parametrize(
    "kind, name, path, key, word",
    [
        ("compute", "servers", "/compute/v2.1/os-quota-sets/{}", "quota_set", "instances"),
        ("compute", "server_key_pairs", "/compute/v2.1/os-quota-sets/{}", "quota_set", "key_pairs"),
        ("network", "router", "/network/v2.0/quotas/{}", "quota", "router"),
        ("block-storage", "snapshots", "/volume/v3/os-quota-sets/{}", "quota_set", "snapshots"),
        ("block-storage", "volumes_local", "/volume/v3/os-quota-sets/{}", "quota_set", "volumes_local"),
    ],
)
def test_a_quota_is_kept_in_one_place(
    cloud: Bed, alice: User, admin: User, kind: str, name: str, path: str, key: str, word: str
) -> None:
    """What a service's own quota call sets is a unified limit, and the other way round."""
    at = path.format(alice.project_id)
    before = admin.get(at).json[key][word]
    assert admin.put(at, {key: {word: 7}}).json[key][word] == 7
    limits = admin.get(f"{V3}/limits?project_id={alice.project_id}").json["limits"]
    assert [(one["resource_name"], one["resource_limit"]) for one in limits] == [(name, 7)]
    assert limits[0]["service_id"] == service_id(admin, kind)
    assert alice.get(f"{V3}/limits").json["limits"][0]["resource_limit"] == 7
    change = admin.patch(f"{V3}/limits/{limits[0]['id']}", {"limit": {"resource_limit": 8}})
    assert change.status == 200
    assert alice.get(at).json[key][word] == 8
    assert admin.delete(at).status in (200, 202, 204)
    assert admin.get(f"{V3}/limits?project_id={alice.project_id}").json["limits"] == []
    assert admin.get(at).json[key][word] == before


def test_quotas_of_no_project_are_refused(cloud: Bed, admin: User) -> None:
    for path, key, word in (
        ("/compute/v2.1/os-quota-sets/nobody", "quota_set", "instances"),
        ("/network/v2.0/quotas/nobody", "quota", "router"),
        ("/volume/v3/os-quota-sets/nobody", "quota_set", "volumes"),
    ):
        assert admin.put(path, {key: {word: 1}}).status in (400, 404)
    assert admin.get(f"{V3}/limits").json["limits"] == []


def test_limits_go_with_their_project(cloud: Bed, alice: User, admin: User) -> None:
    assert limited(admin, "network", "port", 3, project_id=alice.project_id).status == 201
    assert admin.delete(f"{V3}/projects/{alice.project_id}").status == 204
    assert admin.get(f"{V3}/limits").json["limits"] == []


def test_a_default_that_nobody_changed_follows_the_configuration(cloud: Bed, admin: User) -> None:
    assert admin.put(
        "/volume/v3/os-quota-class-sets/default", {"quota_class_set": {"snapshots": 33}}
    ).status == 200  # fmt: skip
    cloud.cloud.config = replace(cloud.config, volume=Volume(volumes=77, snapshots=77))
    with cloud.db.begin() as tx:
        QUOTAS.register(tx, cloud.cloud)
    found = admin.get("/volume/v3/os-quota-class-sets/default").json["quota_class_set"]
    assert (found["volumes"], found["snapshots"], found["gigabytes"]) == (77, 33, 1000)


def test_uploads_are_counted_and_bytes_too(cloud: Bed, alice: User, admin: User) -> None:
    """As upstream: bytes are known when they are there, so a project goes over once and not again."""
    octets = {"Content-Type": "application/octet-stream"}
    mib = b"\1" * (1 << 20)
    images = [_image(alice, n).json["id"] for n in range(5)]
    limit = limited(admin, "image", "image_size_total", 1, project_id=alice.project_id).json["limits"][0][
        "id"
    ]
    upload = lambda n: alice.put(f"/image/v2/images/{images[n]}/file", data=mib, headers=octets).status  # noqa: E731
    assert [upload(0), upload(1), upload(2)] == [204, 204, 413]
    assert alice.get(f"/image/v2/images/{images[2]}").json["status"] == "queued"
    assert alice.get("/image/v2/info/usage").json["usage"]["image_size_total"] == {"usage": 2, "limit": 1}
    assert admin.patch(f"{V3}/limits/{limit}", {"limit": {"resource_limit": 2}}).status == 200
    assert upload(2) == 204
    assert admin.patch(f"{V3}/limits/{limit}", {"limit": {"resource_limit": 100}}).status == 200

    stage = lambda n: alice.put(f"/image/v2/images/{images[n]}/stage", data=mib, headers=octets).status  # noqa: E731
    assert limited(admin, "image", "image_count_uploading", 1, project_id=alice.project_id).status == 201
    assert [stage(3), stage(4), upload(4)] == [204, 413, 413]
    assert alice.delete(f"/image/v2/images/{images[3]}").status == 204
    assert limited(admin, "image", "image_stage_total", 0, project_id=alice.project_id).status == 201
    assert stage(4) == 204
    images.append(_image(alice, 5).json["id"])
    assert stage(5) == 413


# -- strict_two_level --------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(cloud: Bed) -> Bed:
    """The cloud with limits that count through trees."""
    model = Identity(hash_memory_kib=8192, hash_passes=1, limit_model="strict_two_level")
    cloud.config = cloud.cloud.config = replace(cloud.config, identity=model)
    return cloud


def test_the_model_is_told(tree: Bed) -> None:
    assert tree.alice.get(f"{V3}/limits/model").json["model"]["name"] == "strict_two_level"


def test_projects_lie_right_below_their_domain(tree: Bed) -> None:
    below = {"project": {"name": "deep", "parent_id": tree.alice.project_id}}
    assert tree.admin.post(f"{V3}/projects", below).status == 403
    assert tree.admin.post(f"{V3}/projects", {"project": {"name": "flat"}}).status == 201


def test_a_cloud_with_deeper_projects_does_not_start_in_the_model(cloud: Bed) -> None:
    below = {"project": {"name": "deep", "parent_id": cloud.alice.project_id}}
    assert cloud.admin.post(f"{V3}/projects", below).status == 201
    model = replace(cloud.config.identity, limit_model="strict_two_level")
    cloud.cloud.config = replace(cloud.config, identity=model)
    with pytest.raises(ConfigError, match="limit_model"), cloud.db.begin() as tx:
        bootstrap(tx, cloud.cloud)


def test_a_project_is_given_no_more_than_its_domain(tree: Bed) -> None:
    admin, alice = tree.admin, tree.alice
    # the registered default is 100 networks: the domain's, as long as it has no limit of its own
    assert limited(admin, "network", "network", 101, project_id=alice.project_id).status == 403
    domain = limited(admin, "network", "network", 20, domain_id="default")
    assert domain.status == 201
    assert limited(admin, "network", "network", 21, project_id=alice.project_id).status == 403
    own = limited(admin, "network", "network", 20, project_id=alice.project_id)
    assert own.status == 201
    # children may come to more together than their domain has: what they use counts
    assert limited(admin, "network", "network", 20, project_id=tree.bob.project_id).status == 201
    at = f"{V3}/limits/{domain.json['limits'][0]['id']}"
    refused = admin.patch(at, {"limit": {"resource_limit": 19}})
    assert refused.status == 403
    assert "hierarchy" in refused.json["error"]["message"]
    below = f"{V3}/limits/{own.json['limits'][0]['id']}"
    assert admin.patch(below, {"limit": {"resource_limit": 21}}).status == 403
    assert admin.patch(at, {"limit": {"resource_limit": -1}}).status == 200
    assert admin.patch(below, {"limit": {"resource_limit": 21}}).status == 200
    quota = f"/network/v2.0/quotas/{alice.project_id}"
    assert admin.patch(at, {"limit": {"resource_limit": 30}}).status == 200
    assert admin.put(quota, {"quota": {"network": 31}}).status == 403
    assert admin.put(quota, {"quota": {"network": 30}}).status == 200


def test_domain_and_project_may_be_limited_in_one_request(tree: Bed) -> None:
    key = {
        "service_id": service_id(tree.admin, "network"),
        "region_id": "RegionOne",
        "resource_name": "router",
    }

    def both(domain: int, project: int) -> int:
        limits = [
            {**key, "project_id": tree.alice.project_id, "resource_limit": project},
            {**key, "domain_id": "default", "resource_limit": domain},
        ]
        return tree.admin.post(f"{V3}/limits", {"limits": limits}).status

    assert both(50, 51) == 403
    assert tree.admin.get(f"{V3}/limits").json["limits"] == []
    assert both(50, 50) == 201


@each
def test_what_all_projects_have_counts_against_their_domain(
    tree: Bed, kind: str, name: str, size: int, create: Any, status: int
) -> None:
    alice, bob, admin = tree.alice, tree.bob, tree.admin
    create(admin, 0)  # in the project of the administrator, and of the same domain
    assert limited(admin, kind, name, (3 + (create is _network)) * size, domain_id="default").status == 201
    assert create(alice, 1).status < 300
    assert create(bob, 2).status < 300
    refused = create(alice, 3)
    assert refused.status == status, refused
    assert "domain default" in refused.text


@each
def test_many_projects_at_once_get_no_more_than_their_domain(
    tree: Bed, kind: str, name: str, size: int, create: Any, status: int
) -> None:
    alice, bob, admin = tree.alice, tree.bob, tree.admin
    create(admin, 0)
    assert limited(admin, kind, name, (4 + (create is _network)) * size, domain_id="default").status == 201
    answers = at_once([lambda n=n: create((alice, bob)[n % 2], n) for n in range(1, 9)])  # type: ignore[misc]
    assert sorted({a.status for a in answers if a.status >= 300}) == [status]
    assert len([a for a in answers if a.status < 300]) == 3


def test_a_quota_check_costs_one_query_for_the_limits(cloud: Bed, alice: User) -> None:
    seen: list[str] = []
    with cloud.db.begin() as tx:
        assert project.exists(tx, alice.project_id)
        if cloud.db.is_sqlite:
            tx.connection.driver_connection.set_trace_callback(seen.append)
        else:
            sa.event.listen(tx, "before_cursor_execute", lambda *a: seen.append(a[2]))
        standard.check_quota(tx, cloud.cloud, alice.project_id, network=1)
        limits.check(tx, cloud.cloud, alice.project_id, {"instances": 1})
        if cloud.db.is_sqlite:
            tx.connection.driver_connection.set_trace_callback(None)
    asked = [s for s in seen if "advisory" not in s]
    assert len(asked) == 4, asked  # limits and usage of each
