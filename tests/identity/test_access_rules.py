"""Every service refuses what the access rules of an application credential don't name."""

import pytest

from tests.conftest import Bed, User

V3 = "/identity/v3"
# (type in the rule, path in the rule, where it is served, something else of the same service)
SERVICES = [
    ("identity", "/v3/auth/projects", "/identity/v3/auth/projects", "/identity/v3/auth/catalog"),
    ("compute", "/v2.1/servers/**", "/compute/v2.1/servers/detail", "/compute/v2.1/flavors"),
    ("image", "/v2/images", "/image/v2/images", "/image/v2/schemas/images"),
    ("network", "/v2.0/networks", "/network/v2.0/networks", "/network/v2.0/ports"),
    ("block-storage", "/v3/volumes", "/volume/v3/volumes", "/volume/v3/snapshots"),
    ("volumev3", "/v3/*/volumes", "/volume/v3/{project}/volumes", "/volume/v3/volumes"),
    ("placement", "/allocation_candidates", "/placement/allocation_candidates?resources=VCPU:1", "/placement/traits"),
]  # fmt: skip


def limited(cloud: Bed, user: User, rules: list[dict[str, str]]) -> User:
    """The bearer of an application credential with these access rules."""
    wanted = {
        "application_credential": {
            "name": f"limited-{len(rules)}-{rules[0]['method']}",
            "access_rules": rules,
        }
    }
    made = user.post(f"{V3}/users/{user.id}/application_credentials", wanted)
    assert made.status == 201, made
    part = {k: made.json["application_credential"][k] for k in ("id", "secret")}
    identity = {"methods": ["application_credential"], "application_credential": part}
    got = cloud.nobody.post(f"{V3}/auth/tokens", {"auth": {"identity": identity}})
    assert got.status == 201, got
    return User(cloud, got.headers["x-subject-token"], id=user.id, project_id=user.project_id)


@pytest.mark.parametrize("kind, path, served, other", SERVICES, ids=[s[0] for s in SERVICES])
def test_a_service_lets_through_what_is_named_and_nothing_else(
    cloud: Bed, kind: str, path: str, served: str, other: str
) -> None:
    owner = cloud.admin if kind == "placement" else cloud.alice
    user = limited(cloud, owner, [{"service": kind, "method": "GET", "path": path}])
    served = served.format(project=owner.project_id)
    headers = {"OpenStack-API-Version": "placement 1.29"} if kind == "placement" else {}
    assert user.get(served, headers=headers).status == 200
    assert user.get(other).status == 401
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert user.call(method, served, {}).status in (401, 405)
    for another, _, elsewhere, _ in SERVICES:
        if another != kind and {another, kind} != {"volumev3", "block-storage"}:
            assert user.get(elsewhere.format(project=owner.project_id)).status == 401, another
    assert (
        user.post(
            f"{V3}/users/{owner.id}/application_credentials", {"application_credential": {"name": "x"}}
        ).status
        == 401
    )


def test_a_rule_for_one_verb_is_for_no_other(cloud: Bed, alice: User) -> None:
    user = limited(cloud, alice, [{"service": "network", "method": "POST", "path": "/v2.0/networks"}])
    assert user.post("/network/v2.0/networks", {"network": {"name": "made"}}).status == 201
    assert user.get("/network/v2.0/networks").status == 401
    assert user.post("/network/v2.0/routers", {"router": {}}).status == 401


def test_a_token_of_it_gives_no_token_without_the_rules(cloud: Bed, alice: User) -> None:
    user = limited(cloud, alice, [{"service": "identity", "method": "POST", "path": "/v3/auth/tokens"}])
    again = {"methods": ["token"], "token": {"id": user.token}}
    for scope in (None, "unscoped", {"project": {"id": alice.project_id}}):
        auth = {"identity": again, **({"scope": scope} if scope else {})}
        got = user.post(f"{V3}/auth/tokens", {"auth": auth})
        if got.status == 201:
            fresh = User(cloud, got.headers["x-subject-token"])
            assert fresh.get("/network/v2.0/networks").status == 401
        else:
            assert got.status in (401, 403)
