"""Who has which role where: compared with a model so simple that it is plainly right."""

import random
from itertools import product

from tests.conftest import Bed, User

V3 = "/identity/v3"


def role_ids(admin: User) -> dict[str, str]:
    return {r["name"]: r["id"] for r in admin.get(f"{V3}/roles").json["roles"]}


def project(admin: User, name: str, **more: object) -> str:
    made = admin.post(f"{V3}/projects", {"project": {"name": name, **more}})
    assert made.status == 201, made
    return str(made.json["project"]["id"])


def user(admin: User, name: str) -> str:
    return str(
        admin.post(f"{V3}/users", {"user": {"name": name, "password": f"{name}-pass-word"}}).json["user"][
            "id"
        ]
    )


def scoped(bed: Bed, name: str, scope: object) -> set[str] | None:
    """The roles in a token of the user for a scope; None when there is no such token."""
    who = {"name": name, "domain": {"id": "default"}, "password": f"{name}-pass-word"}
    auth = {"identity": {"methods": ["password"], "password": {"user": who}}, "scope": scope}
    got = bed.nobody.post(f"{V3}/auth/tokens", {"auth": auth})
    assert got.status in (201, 401), got
    return {r["name"] for r in got.json["token"]["roles"]} if got.status == 201 else None


IMPLIES = {"admin": {"manager", "member", "reader"}, "manager": {"member", "reader"}, "member": {"reader"}}


def test_random_assignments_come_to_what_a_simple_model_says(cloud: Bed, admin: User) -> None:
    rng = random.Random(20260105)
    roles = role_ids(admin)
    top = project(admin, "top")
    mid = project(admin, "mid", parent_id=top)
    low = project(admin, "low", parent_id=mid)
    side = project(admin, "side")
    above = {top: [], mid: [top], low: [mid, top], side: []}
    people = {name: user(admin, name) for name in ("ann", "ben")}
    groups = {
        name: admin.post(f"{V3}/groups", {"group": {"name": name}}).json["group"]["id"]
        for name in ("red", "blue")
    }
    inside: set[tuple[str, str]] = set()
    given: set[tuple[str, str, str, str, str, bool]] = set()
    targets = [("project", p) for p in above] + [("domain", "default")]

    def effective(name: str, kind: str, target: str) -> set[str]:
        mine = {("users", people[name])} | {("groups", groups[g]) for n, g in inside if n == name}
        found: set[str] = set()
        for actor, actor_id, on, on_id, role, inherited in given:
            if (actor, actor_id) not in mine:
                continue
            here = (on, on_id) == (kind, target) and not inherited
            from_above = inherited and kind == "project" and ((on == "domain") or on_id in above[target])
            if here or from_above:
                found |= {role} | IMPLIES.get(role, set())
        return found

    for _ in range(60):
        act = rng.random()
        if act < 0.25:
            name, group = rng.choice(sorted(people)), rng.choice(sorted(groups))
            path = f"{V3}/groups/{groups[group]}/users/{people[name]}"
            if (name, group) in inside:
                inside.remove((name, group))
                assert admin.delete(path).status == 204
            else:
                inside.add((name, group))
                assert admin.put(path).status == 204
        else:
            actor, ids = rng.choice([("users", people), ("groups", groups)])
            actor_id = ids[rng.choice(sorted(ids))]
            kind, target = rng.choice(targets)
            role = rng.choice(["manager", "member", "reader", "service"])
            inherited = rng.random() < 0.5
            one = (actor, actor_id, kind, target, role, inherited)
            path = f"/{kind}s/{target}/{actor}/{actor_id}/roles/{roles[role]}"
            path = f"{V3}/OS-INHERIT{path}/inherited_to_projects" if inherited else f"{V3}{path}"
            assert admin.call("HEAD", path).status == (204 if one in given else 404)
            assert (admin.delete if one in given else admin.put)(path).status == 204
            given.symmetric_difference_update({one})
        name, (kind, target) = rng.choice(sorted(people)), rng.choice(targets)
        assert (scoped(cloud, name, {kind: {"id": target}}) or set()) == effective(name, kind, target)
    for name in people:
        listed = admin.get(f"{V3}/role_assignments?effective&include_names&user.id={people[name]}").json
        got = {
            (
                next(iter(a["scope"].keys() & {"project", "domain"})),
                a["role"]["name"],
                next(v for k, v in a["scope"].items() if k in ("project", "domain"))["id"],
            )
            for a in listed["role_assignments"]
        }
        all_projects = {p["id"] for p in admin.get(f"{V3}/projects").json["projects"]}
        above |= {p: [] for p in all_projects - set(above)}
        wanted = set()
        for kind, target in [("project", p) for p in all_projects] + [("domain", "default")]:
            wanted |= {(kind, role, target) for role in effective(name, kind, target)}
        assert got == wanted
        reach = {p for p in all_projects if effective(name, "project", p)}
        token = scoped_user(cloud, name)
        assert {p["id"] for p in token.get(f"{V3}/auth/projects").json["projects"]} == reach


def scoped_user(bed: Bed, name: str) -> User:
    return bed.login(name, f"{name}-pass-word", scope="unscoped")


def test_filters_of_role_assignments(admin: User, alice: User, reader: User) -> None:
    def found(query: str) -> list[dict[str, dict[str, object]]]:
        got = admin.get(f"{V3}/role_assignments?{query}")
        assert got.status == 200, got
        return list(got.json["role_assignments"])

    here = f"scope.project.id={alice.project_id}"
    assert {a["user"]["id"] for a in found(here)} == {alice.id, reader.id}
    assert len(found(f"{here}&user.id={alice.id}")) == 1
    assert len(found(f"{here}&user.id={alice.id}&effective")) == 2
    implied = [a for a in found(f"{here}&user.id={alice.id}&effective") if "prior_role" in a["links"]]
    assert len(implied) == 1
    named = found(f"{here}&user.id={alice.id}&include_names")[0]
    assert named["user"]["name"] == "alice"
    assert named["scope"]["project"]["domain"] == {"id": "default", "name": "Default"}  # type: ignore[index]
    assert found("scope.system=all")[0]["scope"] == {"system": {"all": True}}
    assert found("scope.domain.id=default") == []
    assert admin.get(f"{V3}/role_assignments?user.id=a&group.id=b").status == 400
    assert admin.get(f"{V3}/role_assignments?{here}&scope.domain.id=default").status == 400
    assert admin.get(f"{V3}/role_assignments?include_subtree").status == 400
    assert alice.get(f"{V3}/role_assignments").status == 403


def test_roles_of_a_domain_give_only_what_they_imply(cloud: Bed, admin: User) -> None:
    roles = role_ids(admin)
    made = admin.post(f"{V3}/roles", {"role": {"name": "builder", "domain_id": "default"}}).json["role"]["id"]
    assert admin.put(f"{V3}/roles/{made}/implies/{roles['member']}").status == 201
    ann, here = user(admin, "ann"), project(admin, "p")
    assert admin.put(f"{V3}/projects/{here}/users/{ann}/roles/{made}").status == 204
    assert scoped(cloud, "ann", {"project": {"id": here}}) == {"member", "reader"}
    assert "builder" not in role_ids(admin)
    domain = admin.post(f"{V3}/domains", {"domain": {"name": "other"}}).json["domain"]["id"]
    there = project(admin, "q", domain_id=domain)
    assert admin.put(f"{V3}/projects/{there}/users/{ann}/roles/{made}").status == 403


def test_implications_have_no_circles_and_never_make_admins(admin: User) -> None:
    roles = role_ids(admin)
    assert admin.put(f"{V3}/roles/{roles['reader']}/implies/{roles['manager']}").status == 400
    assert admin.put(f"{V3}/roles/{roles['member']}/implies/{roles['admin']}").status == 403
    assert admin.put(f"{V3}/roles/{roles['member']}/implies/{roles['reader']}").status == 409
    pairs = {
        (r["prior_role"]["name"], i["name"])
        for r in admin.get(f"{V3}/role_inferences").json["role_inferences"]
        for i in r["implies"]
    }
    assert pairs == {("admin", "manager"), ("manager", "member"), ("member", "reader")}


def test_bootstrapped_roles_are_immutable(admin: User) -> None:
    member = role_ids(admin)["member"]
    assert admin.delete(f"{V3}/roles/{member}").status == 403
    assert admin.patch(f"{V3}/roles/{member}", {"role": {"name": "x"}}).status == 403
    assert admin.patch(f"{V3}/roles/{member}", {"role": {"options": {"immutable": False}}}).status == 200
    assert admin.patch(f"{V3}/roles/{member}", {"role": {"description": "x"}}).status == 200


def test_a_domain_manager_manages_the_domain_and_no_more(cloud: Bed, admin: User) -> None:
    roles = role_ids(admin)
    domain = admin.post(f"{V3}/domains", {"domain": {"name": "acme"}}).json["domain"]["id"]
    boss = admin.post(
        f"{V3}/users", {"user": {"name": "boss", "password": "boss-pass-word", "domain_id": domain}}
    )
    path = f"{V3}/domains/{domain}/users/{boss.json['user']['id']}/roles"
    assert admin.put(f"{path}/{roles['manager']}").status == 204
    me = cloud.login("boss", "boss-pass-word", domain=domain, scope={"domain": {"id": domain}})
    eve = me.post(f"{V3}/users", {"user": {"name": "eve", "password": "eve-pass-word", "domain_id": domain}})
    shop = me.post(f"{V3}/projects", {"project": {"name": "shop", "domain_id": domain}})
    assert (eve.status, shop.status) == (201, 201), (eve, shop)
    grant = f"{V3}/projects/{shop.json['project']['id']}/users/{eve.json['user']['id']}/roles"
    assert me.put(f"{grant}/{roles['member']}").status == 204
    assert me.put(f"{grant}/{roles['manager']}").status == 204
    assert me.put(f"{grant}/{roles['admin']}").status == 403
    assert me.put(f"{path}/{roles['admin']}").status == 403
    for kind, noun in product(("users", "projects", "groups"), ("default",)):
        name = kind[:-1]
        assert me.post(f"{V3}/{kind}", {name: {"name": "x", "domain_id": noun}}).status == 403
    assert {u["name"] for u in me.get(f"{V3}/users").json["users"]} == {"boss", "eve"}
    assert me.get(f"{V3}/users?domain_id=default").status == 403
    assert me.get(f"{V3}/services").status == 403
    assert me.patch(f"{V3}/users/{admin.id}", {"user": {"password": "x"}}).status == 403
