"""Projects, domains, users' rules, the catalog, limits, policies, domain options: made, changed, kept whole, taken away."""

import pytest

from stackling.base.config import Config, Identity
from tests.conftest import Bed, User

V3 = "/identity/v3"


def made(user: User, path: str, key: str, **values: object) -> dict[str, object]:
    got = user.post(f"{V3}/{path}", {key: values})
    assert got.status == 201, got
    return dict(got.json[key])


def test_projects_form_a_tree(admin: User) -> None:
    top = made(admin, "projects", "project", name="top")["id"]
    mid = made(admin, "projects", "project", name="mid", parent_id=top)["id"]
    low = made(admin, "projects", "project", name="low", parent_id=mid)["id"]
    shown = admin.get(f"{V3}/projects/{mid}?parents_as_ids&subtree_as_ids").json["project"]
    assert (shown["parents"], shown["subtree"]) == ({top: {"default": None}}, {low: None})
    listed = admin.get(f"{V3}/projects/{low}?parents_as_list").json["project"]["parents"]
    assert [p["project"]["id"] for p in listed] == [mid, top]
    assert admin.delete(f"{V3}/projects/{top}").status == 403
    assert admin.patch(f"{V3}/projects/{top}", {"project": {"enabled": False}}).status == 403
    assert admin.patch(f"{V3}/projects/{low}", {"project": {"parent_id": top}}).status == 403
    assert admin.post(f"{V3}/projects", {"project": {"name": "low"}}).status == 409
    for one in (low, mid, top):
        assert admin.delete(f"{V3}/projects/{one}").status == 204


def test_tags_select_projects(admin: User) -> None:
    made(admin, "projects", "project", name="a", tags=["x", "y"])
    made(admin, "projects", "project", name="b", tags=["y"])

    def found(query: str) -> set[str]:
        return {p["name"] for p in admin.get(f"{V3}/projects?{query}").json["projects"]}

    assert found("tags=x,y") == {"a"}
    assert found("tags-any=x,y") == {"a", "b"}
    assert found("not-tags-any=x") == {"b", "admin", "service"}
    assert found("not-tags=x,y") == {"b", "admin", "service"}
    id = admin.get(f"{V3}/projects?name=b").json["projects"][0]["id"]
    assert admin.put(f"{V3}/projects/{id}/tags/z").status == 201
    assert admin.get(f"{V3}/projects/{id}/tags").json["tags"] == ["y", "z"]
    assert admin.get(f"{V3}/projects/{id}/tags/z").status == 204
    assert admin.put(f"{V3}/projects/{id}/tags", {"tags": ["q", "q"]}).status == 400
    assert admin.delete(f"{V3}/projects/{id}/tags/nothing").status == 404
    assert admin.delete(f"{V3}/projects/{id}/tags").status == 204


def test_a_disabled_domain_goes_with_all_that_is_in_it(admin: User) -> None:
    domain = made(admin, "domains", "domain", name="acme")["id"]
    project = made(admin, "projects", "project", name="p", domain_id=domain)["id"]
    below = made(admin, "projects", "project", name="q", domain_id=domain, parent_id=project)["id"]
    user = made(admin, "users", "user", name="u", domain_id=domain, password="u-pass-word")["id"]
    group = made(admin, "groups", "group", name="g", domain_id=domain)["id"]
    role = made(admin, "roles", "role", name="r", domain_id=domain)["id"]
    assert admin.put(f"{V3}/groups/{group}/users/{user}").status == 204
    assert admin.put(f"{V3}/projects/{below}/groups/{group}/roles/{role}").status == 204
    assert admin.delete(f"{V3}/domains/{domain}").status == 403
    assert admin.patch(f"{V3}/domains/{domain}", {"domain": {"enabled": False}}).status == 200
    assert admin.delete(f"{V3}/domains/{domain}").status == 204
    gone = (("users", user), ("groups", group), ("projects", below), ("roles", role), ("domains", domain))
    assert {admin.get(f"{V3}/{kind}/{id}").status for kind, id in gone} == {404}
    assert admin.delete(f"{V3}/domains/default").status == 403


def test_immutable_projects(admin: User) -> None:
    id = made(admin, "projects", "project", name="a", options={"immutable": True})["id"]
    assert admin.delete(f"{V3}/projects/{id}").status == 403
    assert admin.patch(f"{V3}/projects/{id}", {"project": {"name": "b"}}).status == 403
    assert admin.patch(f"{V3}/projects/{id}", {"project": {"options": {"immutable": None}}}).status == 200
    assert admin.delete(f"{V3}/projects/{id}").status == 204


# -- passwords ---------------------------------------------------------------------------------------------------------


def rules(bed: Bed, **options: object) -> None:
    weak = {"hash_memory_kib": 8192, "hash_passes": 1}
    bed.cloud.config = Config(paths=bed.config.paths, identity=Identity(**weak, **options))  # type: ignore[arg-type]


def login(bed: Bed, user: User, word: str) -> int:
    who = {"id": user.id, "password": word}
    auth = {"identity": {"methods": ["password"], "password": {"user": who}}}
    return bed.nobody.post(f"{V3}/auth/tokens", {"auth": auth}).status


def change(bed: Bed, user: User, old: str, new: str) -> int:
    sent = {"user": {"original_password": old, "password": new}}
    return bed.nobody.post(f"{V3}/users/{user.id}/password", sent).status


def test_lockout_and_its_end(cloud: Bed, alice: User, admin: User) -> None:
    rules(cloud, lockout_failures=2, lockout_seconds=60)
    assert [login(cloud, alice, w) for w in ("a", "b", "alice-pass-word")] == [401, 401, 401]
    cloud.turn(61, every=61)
    assert login(cloud, alice, "alice-pass-word") == 201
    options = {"user": {"options": {"ignore_lockout_failure_attempts": True}}}
    assert admin.patch(f"{V3}/users/{alice.id}", options).status == 200
    assert [login(cloud, alice, w) for w in ("a", "b", "c", "alice-pass-word")] == [401, 401, 401, 201]


def test_history_age_form_and_expiry_of_passwords(cloud: Bed, alice: User, admin: User) -> None:
    rules(cloud, password_history=2, password_minimum_days=1, password_regex=r"^.{8,}$", password_days=30)
    day = 86400.0
    assert change(cloud, alice, "alice-pass-word", "short") == 400
    assert change(cloud, alice, "alice-pass-word", "alice-pass-word") == 400
    assert change(cloud, alice, "wrong", "second-word") == 401
    assert change(cloud, alice, "alice-pass-word", "second-word") == 204
    assert change(cloud, alice, "second-word", "third-word!") == 400
    cloud.turn(day, every=day)
    assert change(cloud, alice, "second-word", "alice-pass-word") == 400
    assert change(cloud, alice, "second-word", "third-word!") == 204
    assert login(cloud, alice, "third-word!") == 201
    cloud.turn(31 * day, every=31 * day)
    assert login(cloud, alice, "third-word!") == 401
    assert change(cloud, alice, "third-word!", "fourth-word") == 204
    assert login(cloud, alice, "fourth-word") == 201


def test_a_hash_of_another_cost_is_made_anew(cloud: Bed, alice: User) -> None:
    from stackling.identity.state import user as users

    def hashed() -> str:
        with cloud.db.read() as tx:
            row = users.current_password(tx, alice.id)
            assert row is not None
            return str(row.hash)

    before = hashed()
    cloud.cloud.config = Config(
        paths=cloud.config.paths, identity=Identity(hash_memory_kib=9000, hash_passes=1)
    )
    assert login(cloud, alice, "alice-pass-word") == 201
    assert "m=9000" in hashed() != before
    assert login(cloud, alice, "alice-pass-word") == 201


# -- catalog, limits, policies, options --------------------------------------------------------------------------------


def test_regions_services_endpoints(admin: User, alice: User) -> None:
    made(admin, "regions", "region", id="north")
    below = made(admin, "regions", "region", id="north-1", parent_region_id="north")
    assert [r["id"] for r in admin.get(f"{V3}/regions?parent_region_id=north").json["regions"]] == [
        below["id"]
    ]
    assert admin.post(f"{V3}/regions", {"region": {"id": "north"}}).status == 409
    service = made(admin, "services", "service", type="dns", name="d")["id"]
    wants = {
        "service_id": service,
        "interface": "public",
        "url": "http://d/%(project_id)s",
        "region_id": "north",
    }
    one = made(admin, "endpoints", "endpoint", **wants)
    assert one["region"] == "north"
    assert admin.delete(f"{V3}/regions/north").status == 403
    for bad in (
        {"region_id": "mars"},
        {"service_id": "x"},
        {"url": "http://d/%(secret)s"},
        {"interface": "x"},
        {"enabled": "True"},
    ):
        assert admin.post(f"{V3}/endpoints", {"endpoint": {**wants, **bad}}).status == 400
    entry = next(s for s in alice.get(f"{V3}/auth/catalog").json["catalog"] if s["type"] == "dns")
    assert entry["endpoints"][0]["url"] == f"http://d/{alice.project_id}"
    assert admin.patch(f"{V3}/endpoints/{one['id']}", {"endpoint": {"enabled": False}}).status == 200
    entry = next(s for s in alice.get(f"{V3}/auth/catalog").json["catalog"] if s["type"] == "dns")
    assert entry["endpoints"] == []
    assert admin.delete(f"{V3}/services/{service}").status == 204
    assert admin.get(f"{V3}/endpoints/{one['id']}").status == 404
    assert admin.delete(f"{V3}/regions/north").status == 204


def test_endpoint_groups_narrow_a_projects_catalog(admin: User, alice: User) -> None:
    group = made(
        admin, "OS-EP-FILTER/endpoint_groups", "endpoint_group", name="g", filters={"interface": "public"}
    )
    path = f"{V3}/OS-EP-FILTER/endpoint_groups/{group['id']}/projects/{alice.project_id}"
    assert admin.put(path).status == 204
    shown = alice.get(f"{V3}/auth/catalog").json["catalog"]
    assert {e["interface"] for s in shown for e in s["endpoints"]} == {"public"}
    assert admin.delete(path).status == 204
    assert admin.get(path).status == 404
    shown = alice.get(f"{V3}/auth/catalog").json["catalog"]
    assert {e["interface"] for s in shown for e in s["endpoints"]} == {"public", "internal", "admin"}


def test_limits(admin: User, alice: User, bob: User) -> None:
    service = admin.get(f"{V3}/services?type=compute").json["services"][0]["id"]
    base = {"service_id": service, "resource_name": "servers", "default_limit": 10}
    registered = admin.post(f"{V3}/registered_limits", {"registered_limits": [base]}).json[
        "registered_limits"
    ][0]
    assert admin.post(f"{V3}/registered_limits", {"registered_limits": [base]}).status == 409
    own = {
        "service_id": service,
        "resource_name": "servers",
        "resource_limit": 5,
        "project_id": alice.project_id,
    }
    got = admin.post(f"{V3}/limits", {"limits": [own]})
    assert got.status == 201, got
    id = got.json["limits"][0]["id"]
    assert admin.post(f"{V3}/limits", {"limits": [own]}).status == 409
    assert admin.post(f"{V3}/limits", {"limits": [{**own, "resource_name": "x"}]}).status == 403
    assert [x["id"] for x in alice.get(f"{V3}/limits").json["limits"]] == [id]
    assert bob.get(f"{V3}/limits").json["limits"] == []
    assert bob.get(f"{V3}/limits/{id}").status == 403
    assert (
        admin.patch(f"{V3}/limits/{id}", {"limit": {"resource_limit": 6}}).json["limit"]["resource_limit"]
        == 6
    )
    assert admin.delete(f"{V3}/registered_limits/{registered['id']}").status == 403
    assert admin.delete(f"{V3}/limits/{id}").status == 204
    assert admin.delete(f"{V3}/registered_limits/{registered['id']}").status == 204
    assert alice.get(f"{V3}/limits/model").json["model"]["name"] == "flat"


def test_policies_and_their_endpoints(admin: User) -> None:
    policy = made(admin, "policies", "policy", type="application/json", blob="{}")["id"]
    endpoint = admin.get(f"{V3}/endpoints").json["endpoints"][0]
    path = f"{V3}/policies/{policy}/OS-ENDPOINT-POLICY"
    where = f"{path}/services/{endpoint['service_id']}"
    assert admin.get(where).status == 404
    assert admin.put(where).status == 204
    assert admin.get(where).status == 204
    found = admin.get(f"{V3}/endpoints/{endpoint['id']}/OS-ENDPOINT-POLICY/policy")
    assert found.json["policy"]["id"] == policy
    assert len(admin.get(f"{path}/endpoints").json["endpoints"]) == 3
    assert admin.delete(where).status == 204


@pytest.mark.parametrize("bad", [{}, {"nova": {"x": 1}}, {"identity": {}}, {"identity": {"x": 1}}])
def test_domain_options_refuse_what_is_not_one(admin: User, bad: object) -> None:
    assert admin.put(f"{V3}/domains/default/config", {"config": bad}).status == 403


def test_domain_options(admin: User) -> None:
    path = f"{V3}/domains/default/config"
    wants = {"identity": {"driver": "ldap"}, "ldap": {"url": "ldap://x", "password": "hush"}}
    put = admin.put(path, {"config": wants})
    assert put.status == 201
    assert "hush" not in put.text
    assert admin.get(f"{path}/ldap/url").json == {"config": {"url": "ldap://x"}}
    assert admin.put(path, {"config": wants}).status == 200
    assert admin.delete(f"{path}/identity").status == 204
    assert admin.get(f"{path}/identity").status == 404
    assert admin.get(f"{V3}/domains/config/identity/default").json["config"]["identity"]["driver"] == "sql"
