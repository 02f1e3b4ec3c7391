"""Logging in, scopes, what a token shows, and that what is revoked stops working at once."""

import json
import stat
from pathlib import Path

import pytest

from stackling.base.config import Config, Identity
from stackling.base.db import Database
from stackling.boot import assembly
from stackling.identity.actions import bootstrap, keys
from stackling.identity.actions import token as tokens
from stackling.identity.state import revision
from tests.conftest import Bed, User
from tests.identity.process import another, configure

V3 = "/identity/v3"


def password(name: str, word: str, scope: object = None) -> dict[str, object]:
    who = {"name": name, "domain": {"id": "default"}, "password": word}
    auth: dict[str, object] = {"identity": {"methods": ["password"], "password": {"user": who}}}
    return {"auth": auth if scope is None else {**auth, "scope": scope}}


def works(bed: Bed, token: str) -> bool:
    return User(bed, token).get(f"{V3}/auth/projects").status == 200


def test_a_project_token_shows_scope_roles_and_catalog(alice: User) -> None:
    shown = alice.get(f"{V3}/auth/tokens", headers={"X-Subject-Token": alice.token})
    assert shown.status == 200
    assert shown.headers["x-subject-token"] == alice.token
    assert shown.headers["vary"] == "X-Auth-Token"
    token = shown.json["token"]
    assert [r["name"] for r in token["roles"]] == ["member", "reader"]
    assert token["project"] == {
        "id": alice.project_id,
        "name": "blue",
        "domain": {"id": "default", "name": "Default"},
    }
    assert token["is_domain"] is False
    assert token["methods"] == ["password"]
    assert token["user"]["password_expires_at"] is None
    assert token["expires_at"].endswith("Z")
    assert len(token["audit_ids"]) == 1
    found = {s["type"]: s for s in token["catalog"]}
    assert {"identity", "compute", "image", "network", "volumev3", "block-storage", "placement"} <= set(found)
    assert {e["interface"] for e in found["compute"]["endpoints"]} == {"public", "internal", "admin"}
    assert all(e["region"] == e["region_id"] == "RegionOne" for e in found["compute"]["endpoints"])


def test_nocatalog_and_head(alice: User) -> None:
    assert (
        "catalog"
        not in alice.get(f"{V3}/auth/tokens?nocatalog", headers={"X-Subject-Token": alice.token}).json[
            "token"
        ]
    )
    head = alice.call("HEAD", f"{V3}/auth/tokens", headers={"X-Subject-Token": alice.token})
    assert (head.status, head.content) == (200, b"")
    assert alice.get(f"{V3}/auth/tokens", headers={"X-Subject-Token": "nonsense"}).status == 404


@pytest.mark.parametrize(
    "scope, shows",
    [
        ({"system": {"all": True}}, "system"),
        ({"project": {"name": "admin", "domain": {"name": "Default"}}}, "project"),
        ("unscoped", None),
        ({"unscoped": {}}, None),
        (None, None),
    ],
)
def test_scopes(cloud: Bed, scope: object, shows: str | None) -> None:
    made = cloud.nobody.post(f"{V3}/auth/tokens", password("admin", "admin-pass-word", scope))
    assert made.status == 201, made
    token = made.json["token"]
    assert [k for k in ("project", "domain", "system") if k in token] == ([shows] if shows else [])
    assert ("catalog" in token) == ("roles" in token) == (shows is not None)


def test_domain_scope_needs_a_role_on_the_domain(cloud: Bed, admin: User, alice: User) -> None:
    scope = {"domain": {"id": "default"}}
    assert cloud.nobody.post(f"{V3}/auth/tokens", password("alice", "alice-pass-word", scope)).status == 401
    manager = next(r["id"] for r in admin.get(f"{V3}/roles").json["roles"] if r["name"] == "manager")
    assert admin.put(f"{V3}/domains/default/users/{alice.id}/roles/{manager}").status == 204
    made = cloud.nobody.post(f"{V3}/auth/tokens", password("alice", "alice-pass-word", scope))
    assert made.json["token"]["domain"] == {"id": "default", "name": "Default"}
    assert [r["name"] for r in made.json["token"]["roles"]] == ["manager", "member", "reader"]


@pytest.mark.parametrize("name, word", [("alice", "wrong"), ("nobody", "alice-pass-word"), ("alice", "")])
def test_every_wrong_login_gets_the_same_answer(cloud: Bed, alice: User, name: str, word: str) -> None:
    got = cloud.nobody.post(f"{V3}/auth/tokens", password(name, word))
    assert got.status == 401
    assert got.json["error"]["message"] == "The request you have made requires authentication."
    assert got.headers["www-authenticate"].startswith('Keystone uri="http')


def test_rescoping_keeps_the_end_and_the_audit_chain(cloud: Bed, alice: User) -> None:
    unscoped = cloud.nobody.post(f"{V3}/auth/tokens", password("alice", "alice-pass-word", "unscoped"))
    cloud.turn(60)
    again = {
        "auth": {
            "identity": {"methods": ["token"], "token": {"id": unscoped.headers["x-subject-token"]}},
            "scope": {"project": {"id": alice.project_id}},
        }
    }
    made = cloud.nobody.post(f"{V3}/auth/tokens", again).json["token"]
    before = unscoped.json["token"]
    assert made["expires_at"] == before["expires_at"]
    assert made["audit_ids"][1] == before["audit_ids"][0]
    assert sorted(made["methods"]) == ["password", "token"]
    again["auth"]["identity"]["token"] = {"id": "nonsense"}  # type: ignore[index]
    assert cloud.nobody.post(f"{V3}/auth/tokens", again).status == 404


def test_scoped_tokens_may_be_kept_from_being_rescoped(cloud: Bed, alice: User) -> None:
    configure(cloud, "identity", allow_rescope_scoped_token=False)
    unscoped = cloud.login("alice", "alice-pass-word", scope="unscoped")
    for token, status in ((unscoped.token, 201), (alice.token, 403)):
        identity = {"methods": ["token"], "token": {"id": token}}
        auth = {"identity": identity, "scope": {"project": {"id": alice.project_id}}}
        assert cloud.nobody.post(f"{V3}/auth/tokens", {"auth": auth}).status == status


def test_who_may_look_at_a_token_and_how(cloud: Bed, admin: User, alice: User, bob: User) -> None:
    subject = {"X-Subject-Token": alice.token}
    for method in ("GET", "HEAD"):
        for who, status in ((alice, 200), (admin, 200), (bob, 403), (cloud.nobody, 401)):
            got = who.call(method, f"{V3}/auth/tokens", headers=subject)
            assert (got.status, got.headers["vary"]) == (status, "X-Auth-Token")
        assert admin.call(method, f"{V3}/auth/tokens").status == 404
        gone = admin.call(method, f"{V3}/auth/tokens", headers={"X-Subject-Token": "x"})
        assert gone.status == 404
    assert bob.delete(f"{V3}/auth/tokens", headers=subject).status == 403
    assert works(cloud, alice.token)
    again = cloud.nobody.post(f"{V3}/auth/tokens?nocatalog", password("alice", "alice-pass-word"))
    assert again.headers["vary"] == "X-Auth-Token"
    scope = {"project": {"id": alice.project_id}}
    assert (
        "catalog"
        not in cloud.nobody.post(
            f"{V3}/auth/tokens?nocatalog", password("alice", "alice-pass-word", scope)
        ).json["token"]
    )


# -- revocation --------------------------------------------------------------------------------------------------------


def test_a_revoked_token_ends_in_every_process(cloud: Bed, alice: User) -> None:
    its_own = Database(cloud.db.url.render_as_string(hide_password=False), durable=False)
    other = assembly.assemble(cloud.config, its_own, clock=cloud.clock)  # as another process has it
    elsewhere = tokens.authenticator(other)
    assert elsewhere(alice.token).user_id == alice.id
    second = cloud.login("alice", "alice-pass-word", project="blue")
    assert alice.delete(f"{V3}/auth/tokens", headers={"X-Subject-Token": alice.token}).status == 204
    assert not works(cloud, alice.token)
    with pytest.raises(tokens.Unauthorized):
        elsewhere(alice.token)
    assert works(cloud, second.token)
    its_own.close()


def test_a_known_token_costs_no_query_until_something_ends(
    cloud: Bed, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Database] = []
    glance = revision.glance
    monkeypatch.setattr(revision, "glance", lambda database: looks.append(database) or glance(database))
    second = cloud.login("alice", "alice-pass-word", project="blue")
    with another(cloud) as other:
        there = tokens.authenticator(other.cloud)
        assert all(there(alice.token).user_id == alice.id for _ in range(2))  # looked up, then known
        looks.clear()
        assert all(there(alice.token).user_id == alice.id for _ in range(3))
        assert alice.post("/network/v2.0/networks", {"network": {}}).status == 201
        assert there(alice.token).user_id == alice.id
        assert [one for one in looks if one is other.db] == []
        assert second.delete(f"{V3}/auth/tokens", headers={"X-Subject-Token": second.token}).status == 204
        assert all(there(alice.token).user_id == alice.id for _ in range(3))
        assert [one for one in looks if one is other.db] == [other.db]


@pytest.mark.parametrize(
    "how", ["password", "own password", "disable", "delete", "role", "project", "domain", "all"]
)
def test_what_ends_tokens_ends_them_at_once(cloud: Bed, admin: User, alice: User, how: str) -> None:
    assert works(cloud, alice.token)
    user, project = f"{V3}/users/{alice.id}", f"{V3}/projects/{alice.project_id}"
    member = next(r["id"] for r in admin.get(f"{V3}/roles").json["roles"] if r["name"] == "member")
    if how == "password":
        got = admin.patch(user, {"user": {"password": "new-pass-word"}})
    elif how == "own password":
        change = {"user": {"original_password": "alice-pass-word", "password": "new-pass-word"}}
        got = cloud.nobody.post(f"{user}/password", change)
    elif how == "disable":
        got = admin.patch(user, {"user": {"enabled": False}})
        assert admin.patch(user, {"user": {"enabled": True}}).status == 200  # and stay ended
    elif how == "delete":
        got = admin.delete(user)
    elif how == "role":
        got = admin.delete(f"{project}/users/{alice.id}/roles/{member}")
    elif how == "project":
        got = admin.patch(project, {"project": {"enabled": False}})
    elif how == "all":
        got = alice.delete(f"{user}/tokens")
    else:
        domain = admin.post(f"{V3}/domains", {"domain": {"name": "d"}}).json["domain"]["id"]
        made = admin.post(
            f"{V3}/users", {"user": {"name": "eve", "password": "eve-pass-word", "domain_id": domain}}
        )
        eve = cloud.login("eve", "eve-pass-word", domain=domain)
        assert works(cloud, eve.token), made
        assert admin.patch(f"{V3}/domains/{domain}", {"domain": {"enabled": False}}).status == 200
        assert not works(cloud, eve.token)
        return
    assert got.status in (200, 204), got
    assert not works(cloud, alice.token)


def test_tokens_expire(cloud: Bed, alice: User) -> None:
    cloud.turn(3500, every=3500)
    assert works(cloud, alice.token)
    admin = cloud.login("admin", "admin-pass-word", project="admin")
    cloud.turn(101, every=101)
    assert not works(cloud, alice.token)
    subject = {"X-Subject-Token": alice.token}
    assert admin.get(f"{V3}/auth/tokens", headers=subject).status == 404
    assert admin.get(f"{V3}/auth/tokens?allow_expired=1", headers=subject).status == 200


def rotate(bed: Bed) -> None:
    with bed.db.begin() as tx:
        keys.rotate(tx, bed.cloud, "tokens")


def test_keys_rotate_without_ending_tokens(cloud: Bed, alice: User) -> None:
    other = tokens.authenticator(assembly.assemble(cloud.config, cloud.db, clock=cloud.clock))
    kept = cloud.config.identity.fernet_keys
    for turn in range(kept - 1):
        rotate(cloud)
        fresh = cloud.login("alice", "alice-pass-word", project="blue")
        assert other(fresh.token).user_id == alice.id
        tokens.tokens(cloud.cloud)._known.clear()
        assert works(cloud, alice.token) == (turn < kept - 2)
    where = Path(cloud.config.paths.state_dir) / "keys" / "fernet"
    assert len(list(where.iterdir())) == kept
    assert {stat.S_IMODE(f.stat().st_mode) for f in where.iterdir()} == {0o600}


def test_a_known_token_costs_one_row(cloud: Bed, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    authenticate = tokens.authenticator(cloud.cloud)
    authenticate(alice.token)
    monkeypatch.setattr(tokens, "read", lambda *_: pytest.fail("looked up again"))
    assert authenticate(alice.token).user_id == alice.id


# -- first start -------------------------------------------------------------------------------------------------------


def test_the_admins_password_is_made_once_and_private(cloud: Bed, tmp_path: Path) -> None:
    config = Config(paths=cloud.config.paths.__class__(config_dir=str(tmp_path / "new")), identity=Identity())
    made = bootstrap.admin_password(assembly.assemble(config, cloud.db))
    path = tmp_path / "new" / "admin-password"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(made) >= 20
    assert bootstrap.admin_password(assembly.assemble(config, cloud.db)) == made


def test_a_second_start_changes_nothing_but_moved_urls(cloud: Bed, admin: User) -> None:
    def snapshot() -> str:
        lists = [
            admin.get(f"{V3}/{what}").json[what]
            for what in ("users", "projects", "roles", "services", "endpoints")
        ]
        return json.dumps(lists, sort_keys=True)

    before = snapshot()
    with cloud.db.begin() as tx:
        bootstrap.bootstrap(tx, cloud.cloud)
    assert snapshot() == before
    service = admin.get(f"{V3}/services?type=image").json["services"][0]["id"]
    public, internal, *_ = admin.get(f"{V3}/endpoints?service_id={service}").json["endpoints"]
    url = {"endpoint": {"url": "https://elsewhere.example/image"}}
    assert admin.patch(f"{V3}/endpoints/{public['id']}", url).status == 200
    cloud.cloud.config = Config(
        paths=cloud.config.paths, api=cloud.config.api.__class__(public_url="https://cloud.example/")
    )
    with cloud.db.begin() as tx:
        bootstrap.bootstrap(tx, cloud.cloud)
    assert (
        admin.get(f"{V3}/endpoints/{public['id']}").json["endpoint"]["url"]
        == "https://elsewhere.example/image"
    )
    assert (
        admin.get(f"{V3}/endpoints/{internal['id']}").json["endpoint"]["url"] == "https://cloud.example/image"
    )
