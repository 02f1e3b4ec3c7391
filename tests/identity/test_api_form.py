"""What every answer of identity has in common: errors, links, filters, slashes, discovery."""

import pytest

from tests.conftest import Bed, User

V3 = "/identity/v3"


def test_discovery_needs_no_token(cloud: Bed) -> None:
    top = cloud.nobody.get("/identity/")
    assert top.status == 300
    assert top.headers["location"].endswith("/identity/v3/")
    assert top.json["versions"]["values"][0]["status"] == "stable"
    for path in (V3, f"{V3}/"):
        assert cloud.nobody.get(path).json["version"]["id"].startswith("v3.")


def test_errors_have_the_envelope(cloud: Bed, admin: User, alice: User) -> None:
    missing = admin.get(f"{V3}/users/nobody")
    assert (missing.status, missing.json["error"]["code"], missing.json["error"]["title"]) == (
        404,
        404,
        "Not Found",
    )
    assert missing.headers["vary"] == "X-Auth-Token"
    assert missing.headers["x-openstack-request-id"].startswith("req-")
    assert alice.get(f"{V3}/users/nobody").status == 403
    assert cloud.nobody.get(f"{V3}/users").status == 401
    unknown = admin.get(f"{V3}/nothing/here")
    assert unknown.status == 404
    assert unknown.headers["content-type"].startswith("text/html")
    wrong = admin.put(f"{V3}/users", {})
    assert wrong.status == 405
    assert "message" in wrong.json
    assert "GET" in wrong.headers["allow"]


def test_malformed_json_is_refused_before_the_route(admin: User) -> None:
    for path in (f"{V3}/users", f"{V3}/nothing/here"):
        assert admin.post(path, data=b"{not json").status == 400


@pytest.mark.parametrize(
    "body, names",
    [
        ({}, "user"),
        ({"user": {}}, "name"),
        ({"user": {"name": ""}}, "name"),
        ({"user": {"name": " "}}, "name"),
        ({"user": {"name": "x" * 256}}, "name"),
        ({"user": {"name": 7}}, "name"),
        ({"user": {"name": "x", "enabled": "perhaps"}}, "enabled"),
        ({"user": {"name": "x", "options": {"fly": True}}}, "options"),
        ({"user": {"name": "x", "options": {"lock_password": "yes"}}}, "lock_password"),
        ({"user": {"name": "x", "password": "p" * 5000}}, "password"),
        ([], "user"),
    ],
)
def test_bad_bodies_are_400_and_name_the_field(admin: User, body: object, names: str) -> None:
    got = admin.post(f"{V3}/users", body)
    assert got.status == 400, got
    assert names in got.json["error"]["message"]


def test_lists_filter_sort_and_page(admin: User) -> None:
    for name in ("ann", "anna", "ben", "Bert_x", "carl%"):
        assert admin.post(f"{V3}/users", {"user": {"name": name, "enabled": name != "ben"}}).status == 201

    def found(query: str) -> list[str]:
        return [u["name"] for u in admin.get(f"{V3}/users?sort_key=name&{query}").json["users"]]

    assert found("name=ann") == ["ann"]
    assert found("name__startswith=ann") == ["ann", "anna"]
    assert found("name__contains=%25") == ["carl%"]
    assert found("name__icontains=BER") == ["Bert_x"]
    assert found("enabled=false") == ["ben"]
    assert found("domain_id=elsewhere") == []
    first = admin.get(f"{V3}/users?limit=2").json
    assert len(first["users"]) == 2
    assert first["truncated"] is True
    seen = list(first["users"])
    while first["links"]["next"]:
        first = admin.get(
            first["links"]["next"].partition("/identity")[1]
            + first["links"]["next"].partition("/identity")[2]
        ).json
        seen += first["users"]
    assert len({u["id"] for u in seen}) == len(seen) == 6
    assert admin.get(f"{V3}/users?marker=nobody").status == 404


def test_trailing_slashes_links_and_unknown_attributes(admin: User) -> None:
    made = admin.post(f"{V3}/users/", {"user": {"name": "ann", "email": "ann@example.org", "hat": "red"}})
    assert made.status == 201
    user = made.json["user"]
    assert (user["email"], user["hat"]) == ("ann@example.org", "red")
    assert user["links"]["self"].endswith(f"/identity/v3/users/{user['id']}")
    assert "password" not in user
    changed = admin.patch(f"{V3}/users/{user['id']}", {"user": {"hat": "blue"}}).json["user"]
    assert (changed["email"], changed["hat"]) == ("ann@example.org", "blue")
    listed = admin.get(f"{V3}/users").json
    assert listed["links"] == {"next": None, "previous": None, "self": listed["links"]["self"]}


def test_nul_and_absurd_input_never_breaks(admin: User) -> None:
    for name in ("a\u0000b", "\ud7ff", "'; DROP TABLE identity_user; --", "../../etc/passwd", "名前"):
        assert admin.post(f"{V3}/users", {"user": {"name": name}}).status in (201, 400)
    for path in (
        "users/%00",
        "users/" + "x" * 5000,
        "users/..%2f..%2fetc",
        "users?limit=-1",
        "users?limit=x",
        "users?sort_key=hash",
    ):
        assert admin.get(f"{V3}/{path}").status in (400, 404)
