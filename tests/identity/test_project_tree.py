"""Trees of projects: as deep as allowed, switched and deleted at once, and domains that are projects."""

import pytest

from tests.conftest import Bed, User

V3 = "/identity/v3"


def made(user: User, name: str, **more: object) -> str:
    got = user.post(f"{V3}/projects", {"project": {"name": name, **more}})
    assert got.status == 201, got
    return str(got.json["project"]["id"])


def tree(admin: User) -> list[str]:
    """a over b and c, b over d."""
    a = made(admin, "a")
    b, c = made(admin, "b", parent_id=a), made(admin, "c", parent_id=a)
    return [a, b, c, made(admin, "d", parent_id=b)]


def enabled(admin: User, ids: list[str]) -> list[bool]:
    return [admin.get(f"{V3}/projects/{id}").json["project"]["enabled"] for id in ids]


def test_a_tree_is_switched_off_and_on(cloud: Bed, admin: User) -> None:
    ids = tree(admin)
    assert admin.patch(f"{V3}/projects/{ids[0]}", {"project": {"enabled": False}}).status == 403
    off = admin.patch(f"{V3}/projects/{ids[0]}/cascade", {"project": {"enabled": False}})
    assert (off.status, off.json["project"]["enabled"]) == (200, False)
    assert enabled(admin, ids) == [False] * 4
    below = admin.patch(f"{V3}/projects/{ids[1]}/cascade", {"project": {"enabled": True}})
    assert below.status == 403, "what is above is disabled"
    assert admin.patch(f"{V3}/projects/{ids[0]}/cascade", {"project": {"enabled": True}}).status == 200
    assert enabled(admin, ids) == [True] * 4


def test_a_tree_is_deleted_when_all_of_it_is_disabled(cloud: Bed, admin: User) -> None:
    ids = tree(admin)
    assert admin.delete(f"{V3}/projects/{ids[0]}").status == 403
    assert admin.delete(f"{V3}/projects/{ids[0]}/cascade").status == 403
    assert enabled(admin, ids) == [True] * 4
    assert admin.patch(f"{V3}/projects/{ids[1]}/cascade", {"project": {"enabled": False}}).status == 200
    assert admin.delete(f"{V3}/projects/{ids[1]}/cascade").status == 204
    there = [admin.get(f"{V3}/projects/{id}").status for id in ids]
    assert there == [200, 404, 200, 404]


@pytest.mark.parametrize("verb", ["PATCH", "DELETE"])
def test_a_tree_is_changed_as_a_whole_or_not_at_all(cloud: Bed, admin: User, alice: User, verb: str) -> None:
    ids = tree(admin)
    if verb == "DELETE":
        assert admin.patch(f"{V3}/projects/{ids[0]}/cascade", {"project": {"enabled": False}}).status == 200
    keep = {"project": {"options": {"immutable": True}}}
    assert admin.patch(f"{V3}/projects/{ids[3]}", keep).status == 200
    body = {"project": {"enabled": False}} if verb == "PATCH" else None
    before = enabled(admin, ids)
    assert admin.call(verb, f"{V3}/projects/{ids[0]}/cascade", body).status == 403
    assert alice.call(verb, f"{V3}/projects/{ids[0]}/cascade", body).status == 403
    assert enabled(admin, ids) == before
    assert admin.call(verb, f"{V3}/projects/nothing/cascade", body).status == 404
    domain = admin.call(verb, f"{V3}/projects/default/cascade", body)
    assert (domain.status, "acts as a domain" in domain.text) == (400, True)


@pytest.mark.parametrize(
    "body", [{}, {"project": {}}, {"project": {"enabled": "no"}}, {"project": {"name": "x"}}]
)
def test_a_switch_says_only_whether_it_is_on(cloud: Bed, admin: User, body: object) -> None:
    assert admin.patch(f"{V3}/projects/{made(admin, 'a')}/cascade", body).status == 400


def test_trees_end_at_the_fifth_project(cloud: Bed, admin: User) -> None:
    parent = made(admin, "p1")
    for level in range(2, 6):
        parent = made(admin, f"p{level}", parent_id=parent)
    deeper = admin.post(f"{V3}/projects", {"project": {"name": "p6", "parent_id": parent}})
    assert deeper.status == 403
    assert "depth" in deeper.json["error"]["message"]


def test_a_project_that_acts_as_a_domain_is_one(cloud: Bed, admin: User) -> None:
    domain = made(admin, "acme", is_domain=True)
    assert admin.get(f"{V3}/domains/{domain}").json["domain"]["name"] == "acme"
    shown = admin.get(f"{V3}/projects/{domain}").json["project"]
    assert (shown["is_domain"], shown["domain_id"], shown["parent_id"]) == (True, None, None)
    assert domain in [p["id"] for p in admin.get(f"{V3}/projects?is_domain=true").json["projects"]]
    assert domain not in [p["id"] for p in admin.get(f"{V3}/projects").json["projects"]]
    inside = made(admin, "p", domain_id=domain)
    role = next(r["id"] for r in admin.get(f"{V3}/roles").json["roles"] if r["name"] == "member")
    user = admin.post(
        f"{V3}/users", {"user": {"name": "eve", "password": "eve-pass-word", "domain_id": domain}}
    ).json["user"]["id"]
    for target in (f"projects/{domain}", f"projects/{inside}"):
        assert admin.put(f"{V3}/{target}/users/{user}/roles/{role}").status == 204
    eve = cloud.login("eve", "eve-pass-word", domain=domain, scope={"project": {"id": domain}})
    token = eve.get(f"{V3}/auth/tokens", headers={"X-Subject-Token": eve.token}).json["token"]
    assert (token["is_domain"], token["project"]["id"]) == (True, domain)
    assert admin.delete(f"{V3}/projects/{domain}").status == 403
    assert admin.patch(f"{V3}/projects/{domain}", {"project": {"enabled": False}}).status == 200
    assert eve.get(f"{V3}/auth/projects").status == 401
    assert admin.get(f"{V3}/projects/{inside}").json["project"]["enabled"] is True
    assert admin.delete(f"{V3}/domains/{domain}").status == 204
    assert admin.get(f"{V3}/projects/{inside}").status == 404
