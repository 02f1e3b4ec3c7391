"""Small answers in which a real Keystone was found to differ, asked of both: what it refuses, filters and shows."""

from datetime import timedelta
from typing import Any

from tests.conftest import Bed, User
from tests.identity.process import configure
from tests.identity.test_federation import Corp, corp, provider

__all__ = ["corp", "provider"]  # fixtures
V3 = "/identity/v3"
FILTER = f"{V3}/OS-EP-FILTER"


def made(admin: User, path: str, key: str, **want: Any) -> Any:
    got = admin.post(f"{V3}/{path}", {key: want})
    assert got.status == 201, got
    return got.json[key]


def test_changes_that_change_nothing_or_an_id(cloud: Bed, admin: User) -> None:
    service = made(admin, "services", "service", type="x")["id"]
    where = {
        "users": ("user", made(admin, "users", "user", name="u")["id"]),
        "groups": ("group", made(admin, "groups", "group", name="g")["id"]),
        "roles": ("role", made(admin, "roles", "role", name="r")["id"]),
        "domains": ("domain", made(admin, "domains", "domain", name="d")["id"]),
        "regions": ("region", made(admin, "regions", "region", id="r")["id"]),
        "services": ("service", service),
        "endpoints": (
            "endpoint",
            made(admin, "endpoints", "endpoint", service_id=service, interface="public", url="http://a")[
                "id"
            ],
        ),
        "policies": ("policy", made(admin, "policies", "policy", blob="b", type="t")["id"]),
        "OS-EP-FILTER/endpoint_groups": (
            "endpoint_group",
            made(
                admin, "OS-EP-FILTER/endpoint_groups", "endpoint_group", name="e", filters={"region_id": "r"}
            )["id"],
        ),
    }
    for path, (key, id) in where.items():
        assert admin.patch(f"{V3}/{path}/{id}", {key: {}}).status == 400, path
        assert admin.patch(f"{V3}/{path}/{id}", {key: {"id": "another"}}).status == 400, path
    for path in ("users", "domains"):
        key, id = where[path]
        assert admin.patch(f"{V3}/{path}/{id}", {key: {"enabled": None}}).status == 400
        assert admin.patch(f"{V3}/{path}/{id}", {key: {"id": id, "enabled": True}}).status == 200
    want = {"service_provider": {"auth_url": "https://a", "sp_url": "https://b"}}
    assert admin.put(f"{V3}/OS-FEDERATION/service_providers/s", want).status == 201
    assert admin.patch(f"{V3}/OS-FEDERATION/service_providers/s", {"service_provider": {}}).status == 400
    project = made(admin, "projects", "project", name="p")["id"]
    assert admin.patch(f"{V3}/projects/{project}", {"project": {}}).status == 200


def test_what_is_made_in_nothing(cloud: Bed, admin: User) -> None:
    for more in ({"parent_id": "none"}, {"domain_id": "none"}):
        assert admin.post(f"{V3}/projects", {"project": {"name": "p", **more}}).status == 400
    domain = made(admin, "domains", "domain", name="d")["id"]
    role = made(admin, "roles", "role", name="of-d", domain_id=domain)["id"]
    got = admin.put(f"{V3}/system/users/{cloud.alice.id}/roles/{role}")
    assert (got.status, "domain-specific" in got.text) == (400, True)
    want = {"service_id": made(admin, "services", "service", type="x")["id"], "resource_name": "r"}
    registered = {"registered_limits": [{**want, "default_limit": 1}]}
    assert admin.post(f"{V3}/registered_limits", registered).status == 201
    limits = {"limits": [{**want, "resource_limit": 1, "project_id": "none"}]}
    assert admin.post(f"{V3}/limits", limits).status == 400


def test_a_scope_that_says_nothing(cloud: Bed) -> None:
    alice = cloud.alice
    part = {"user": {"id": alice.id, "password": alice.password}}
    identity = {"methods": ["password"], "password": part}
    got = cloud.nobody.post(f"{V3}/auth/tokens", {"auth": {"identity": identity, "scope": {}}})
    assert (got.status, "scope" in got.json["error"]["message"]) == (400, True)
    for scope in (None, "unscoped", {"unscoped": {}}):
        body = {"auth": {"identity": identity, "scope": scope}}
        assert cloud.nobody.post(f"{V3}/auth/tokens", body).status == 201, scope


def test_filters_that_are_empty_or_lead_nowhere(cloud: Bed, admin: User) -> None:
    """An empty id must not show everything."""
    at = f"{V3}/role_assignments"
    for name in ("user.id", "group.id", "role.id", "scope.project.id", "scope.domain.id"):
        assert admin.get(f"{at}?{name}=").status == 400, name
    for name in ("user.id", "scope.project.id"):
        assert admin.get(f"{at}?{name}=none").json["role_assignments"] == []
        assert admin.get(f"{at}?{name}=none&effective").status == 404
    assert admin.get(f"{V3}/endpoints?interface=bad").status == 400


def test_the_catalog_is_a_projects(cloud: Bed) -> None:
    alice = cloud.alice
    assert alice.get(f"{V3}/auth/catalog").json["catalog"]
    for scope in (None, {"system": {"all": True}}):
        user = cloud.login("admin", "admin-pass-word", scope=scope)
        assert user.get(f"{V3}/auth/catalog").status == 403


def test_users_by_the_end_of_their_password(cloud: Bed, admin: User) -> None:
    now, alice = cloud.clock.now(), cloud.alice
    configure(cloud, "identity", password_days=10)
    old = made(admin, "users", "user", name="old", password="old-pass-word")["id"]
    group = made(admin, "groups", "group", name="g")["id"]
    for id in (old, alice.id):
        assert admin.put(f"{V3}/groups/{group}/users/{id}").status == 204

    def found(path: str, word: str, when: Any) -> set[str]:
        got = admin.get(f"{V3}/{path}?password_expires_at={word}{when:%Y-%m-%dT%H:%M:%SZ}")
        assert got.status == 200, got
        return {u["name"] for u in got.json["users"]}

    for path in ("users", f"groups/{group}/users"):
        assert found(path, "lt:", now + timedelta(days=30)) == {"old"}
        assert found(path, "gte:", now + timedelta(days=30)) == set()
        assert found(path, "gt:", now) == {"old"}
        for bad in ("bad", "lt:", "xx:2030-01-01T00:00:00Z", ""):
            assert admin.get(f"{V3}/{path}?password_expires_at={bad}").status == 400, bad


def test_until_when_somebody_is_in_a_group(corp: Corp) -> None:
    ada, admin = corp.enter(), corp.admin
    for_good = made(admin, "groups", "group", name="staff")["id"]
    assert admin.put(f"{V3}/groups/{for_good}/users/{ada.id}").status == 204
    shown = {
        g["name"]: g["membership_expires_at"] for g in admin.get(f"{V3}/users/{ada.id}/groups").json["groups"]
    }
    ends = corp.cloud.clock.now() + timedelta(seconds=corp.cloud.config.identity.token_lifetime)
    assert shown.keys() == {"dev", "staff"}
    assert shown["staff"] is None
    assert shown["dev"][:16] == ends.isoformat()[:16]
    assert admin.put(f"{V3}/groups/{corp.group_id}/users/{ada.id}").status == 204
    shown = {
        g["name"]: g["membership_expires_at"] for g in admin.get(f"{V3}/users/{ada.id}/groups").json["groups"]
    }
    assert shown == {"dev": None, "staff": None}


def test_endpoint_groups(cloud: Bed, admin: User) -> None:
    groups = f"{FILTER}/endpoint_groups"
    for filters in ({}, {"interface": "bad"}):
        want = {"endpoint_group": {"name": "e", "filters": filters}}
        assert admin.post(groups, want).status == 400
    want = {"name": "e", "filters": {"interface": "internal", "region_id": "RegionOne"}}
    id = made(admin, "OS-EP-FILTER/endpoint_groups", "endpoint_group", **want)["id"]
    changed = admin.patch(f"{groups}/{id}", {"endpoint_group": {"filters": {"interface": "public"}}})
    assert changed.json["endpoint_group"]["filters"] == {"interface": "public"}
    assert admin.patch(f"{groups}/{id}", {"endpoint_group": {"filters": {}}}).status == 400
    at = f"{groups}/{id}/projects/{admin.project_id}"
    assert [admin.put(at).status for _ in range(2)] == [204, 409]
    shown = admin.get(at).json["project_endpoint_group"]
    assert (shown["endpoint_group_id"], shown["project_id"]) == (id, admin.project_id)
    assert shown["links"]["self"].endswith(at)
    endpoint = admin.get(f"{V3}/endpoints").json["endpoints"][0]["id"]
    at = f"{FILTER}/projects/{admin.project_id}/endpoints/{endpoint}"
    assert [admin.put(at).status for _ in range(2)] == [204, 409]
