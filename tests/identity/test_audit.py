"""Who did what is kept with the act itself, can be searched, and never holds a secret."""

import json
from typing import Any

import pytest
import sqlalchemy as sa

from stackling.base import audit
from stackling.identity.actions import keys
from tests.conftest import Bed, User

V3 = "/identity/v3"
AUDIT = "/stackling/v1/audit"


def events(admin: User, query: str = "") -> list[dict[str, Any]]:
    got = admin.get(f"{AUDIT}?{query}")
    assert got.status == 200, got
    return list(got.json["events"])


def latest(admin: User, query: str = "") -> dict[str, Any]:
    return events(admin, f"limit=1&{query}")[0]


def login(bed: Bed, name: str, word: str) -> int:
    user = {"name": name, "domain": {"id": "default"}, "password": word}
    auth = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
    return bed.nobody.post(f"{V3}/auth/tokens", auth).status


def test_a_login_that_succeeds_and_one_that_fails(cloud: Bed, admin: User, alice: User) -> None:
    assert login(cloud, "alice", "alice-pass-word") == 201
    event = latest(admin)
    assert (event["action"], event["outcome"]) == ("authenticate", "success")
    assert (event["initiator"]["id"], event["initiator"]["name"]) == (alice.id, "alice")
    assert event["initiator"]["host"]["address"] == "127.0.0.1"
    assert event["typeURI"] == "http://schemas.dmtf.org/cloud/audit/1.0/event"
    assert login(cloud, "alice", "wrong-pass-word") == 401
    event = latest(admin)
    assert (event["action"], event["outcome"]) == ("authenticate", "failure")
    assert event["reason"] == {"reasonType": "HTTP", "reasonCode": "401"}
    assert event["initiator"]["id"] == alice.id
    assert login(cloud, "hunter2-typed-as-name", "x") == 401
    event = latest(admin, "outcome=failure")
    assert event["initiator"]["id"] == "unknown"
    assert "hunter2" not in json.dumps(event), "what was typed as a name may be a password"


def test_every_change_in_identity_is_kept_with_what_it_is_about(cloud: Bed, admin: User) -> None:
    new = {"user": {"name": "eve", "password": "very-secret-word"}}
    eve = admin.post(f"{V3}/users", new).json["user"]["id"]
    event = latest(admin)
    assert (event["action"], event["target"]) == (
        "create",
        {"typeURI": "data/security/account/user", "id": eve},
    )
    assert event["initiator"]["id"] == admin.id
    assert event["initiator"]["project_id"] == admin.project_id
    assert event["initiator"]["request_id"].startswith("req-")
    assert (event["requestMethod"], event["requestPath"]) == ("POST", f"{V3}/users")
    admin.patch(f"{V3}/users/{eve}", {"user": {"password": "other-secret-word"}})
    assert latest(admin)["action"] == "update"
    role = next(r["id"] for r in admin.get(f"{V3}/roles").json["roles"] if r["name"] == "member")
    grant = f"{V3}/projects/{admin.project_id}/users/{eve}/roles/{role}"
    assert admin.put(grant).status == 204
    event = latest(admin)
    assert event["target"] == {"typeURI": "data/security/role", "id": role}
    assert event["requestPath"] == grant
    assert admin.delete(f"{V3}/users/{eve}").status == 204
    assert latest(admin, f"target_id={eve}")["action"] == "delete"
    assert [e["action"] for e in events(admin, f"target_id={eve}")] == ["delete", "update", "create"]


@pytest.mark.parametrize(
    "method, path, body, noun",
    [
        ("POST", "projects", {"project": {"name": "p"}}, "account/project"),
        ("POST", "domains", {"domain": {"name": "d"}}, "account/domain"),
        ("POST", "roles", {"role": {"name": "r"}}, "role"),
        ("POST", "policies", {"policy": {"blob": "x", "type": "text/plain"}}, "policy"),
        (
            "POST",
            "credentials",
            {"credential": {"type": "cert", "blob": "hush", "user_id": "u"}},
            "credential",
        ),
        ("POST", "services", {"service": {"type": "x"}}, "service"),
    ],
)
def test_nouns(admin: User, method: str, path: str, body: Any, noun: str) -> None:
    made = admin.call(method, f"{V3}/{path}", body)
    assert made.status == 201, made
    event = latest(admin)
    assert event["target"] == {
        "typeURI": f"data/security/{noun}",
        "id": next(iter(made.json.values()))["id"],
    }
    assert "hush" not in json.dumps(event)


def test_a_revoked_token_is_named_by_its_audit_id(cloud: Bed, admin: User, alice: User) -> None:
    shown = alice.get(f"{V3}/auth/tokens", headers={"X-Subject-Token": alice.token}).json["token"]
    assert admin.delete(f"{V3}/auth/tokens", headers={"X-Subject-Token": alice.token}).status == 204
    event = latest(admin)
    assert event["target"] == {"typeURI": "data/security/token", "id": shown["audit_ids"][0]}
    assert alice.token not in json.dumps(events(admin))


def test_refusals_of_policy_are_kept_and_mistakes_are_not(cloud: Bed, admin: User, alice: User) -> None:
    assert alice.delete(f"{V3}/users/{admin.id}").status == 403
    event = latest(admin)
    assert (event["action"], event["outcome"], event["reason"]["reasonCode"]) == ("delete", "failure", "403")
    assert (event["initiator"]["id"], event["target"]["id"]) == (alice.id, admin.id)
    long = "x" * 300
    assert alice.delete(f"{V3}/users/{long}").status == 403
    assert latest(admin)["target"]["id"] == long[:255]
    before = len(events(admin))
    assert admin.post(f"{V3}/users", {"user": {}}).status == 400
    assert admin.delete(f"{V3}/users/nobody").status == 404
    assert alice.get(f"{V3}/users").status == 403
    assert len(events(admin)) == before


def test_the_event_is_written_with_the_act_or_neither_is(
    cloud: Bed, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise sa.exc.OperationalError("", {}, Exception("disk full"))

    monkeypatch.setattr(audit.Audit, "record", full)
    assert admin.post(f"{V3}/projects", {"project": {"name": "p"}}).status == 503
    monkeypatch.undo()
    assert admin.get(f"{V3}/projects?name=p").json["projects"] == []


def test_administrators_acts_in_other_services_are_kept(cloud: Bed, admin: User, alice: User) -> None:
    flavor = {"flavor": {"name": "f", "ram": 64, "vcpus": 1, "disk": 1}}
    made = admin.post("/compute/v2.1/flavors", flavor)
    assert made.status == 200, made
    event = latest(admin)
    assert (event["action"], event["observer"]["id"]) == ("create", "compute")
    assert event["target"]["typeURI"] == "service/compute/flavor"
    before = len(events(admin))
    assert alice.post("/network/v2.0/networks", {"network": {"name": "n"}}).status == 201
    assert len(events(admin)) == before, "what users do with their own things is not audited"


def test_rotations_and_password_changes_are_kept(cloud: Bed, admin: User, alice: User) -> None:
    with cloud.db.begin() as tx:
        keys.rotate(tx, cloud.cloud, "tokens")
    event = latest(admin)
    assert (event["action"], event["target"]) == (
        "update/rotate",
        {"typeURI": "data/security/keys", "id": "tokens"},
    )
    for word, outcome in (("wrong", "failure"), ("alice-pass-word", "success")):
        change = {"user": {"original_password": word, "password": "new-secret-word"}}
        cloud.nobody.post(f"{V3}/users/{alice.id}/password", change)
        event = latest(admin)
        assert (event["action"], event["outcome"]) == ("update/password", outcome)
        assert (event["initiator"]["id"], event["target"]["id"]) == (alice.id, alice.id)
    assert "secret-word" not in json.dumps(events(admin))


def test_no_secret_is_in_the_table(cloud: Bed, admin: User, alice: User) -> None:
    cred = alice.post(
        f"{V3}/users/{alice.id}/application_credentials", {"application_credential": {"name": "ci"}}
    ).json["application_credential"]
    made = latest(admin)["target"]
    assert made == {"typeURI": "data/security/application_credential", "id": cred["id"]}
    body = {"methods": ["application_credential"]}
    part = {"id": cred["id"], "secret": cred["secret"]}
    auth = {"auth": {"identity": {**body, "application_credential": part}}}
    assert cloud.nobody.post(f"{V3}/auth/tokens?secret=in-the-query", auth).status == 201
    with cloud.db.read() as tx:
        rows = repr(tx.execute(sa.select(audit.event)).all())
    for hidden in (cred["secret"], "alice-pass-word", "in-the-query", alice.token):
        assert hidden not in rows


def test_searching_and_paging(cloud: Bed, admin: User) -> None:
    start = cloud.clock.now()
    ids = []
    for n in range(5):
        cloud.clock.turn(1)
        ids.append(admin.post(f"{V3}/projects", {"project": {"name": f"p{n}"}}).json["project"]["id"])
    mine = f"target_type=data/security/account/project&since={start.isoformat()}Z"
    assert [e["target"]["id"] for e in events(admin, mine)] == ids[::-1]
    assert [e["target"]["id"] for e in events(admin, f"{mine}&sort_dir=asc")] == ids
    until = events(admin, mine)[2]["eventTime"]
    assert [e["target"]["id"] for e in events(admin, f"{mine}&until={until}")] == ids[1::-1]
    found, path = [], f"{AUDIT}?{mine}&limit=2"
    while path:
        page = admin.get(path).json
        assert len(page["events"]) <= 2
        found += [e["target"]["id"] for e in page["events"]]
        path = page.get("next", "").partition("falconframework.org")[2]
    assert found == ids[::-1]
    one = events(admin, mine)[0]
    assert admin.get(f"{AUDIT}/{one['id']}").json["event"] == one
    assert admin.get(f"{AUDIT}/nothing").status == 404
    for bad in ("since=yesterday", "limit=0", "limit=9999", "marker=x", "sort_dir=up", "colour=red"):
        answer = admin.get(f"{AUDIT}?{bad}")
        assert (answer.status, bad.partition("=")[0] in answer.text) == (400, True), bad


def test_who_may_read_it(cloud: Bed, admin: User, alice: User, reader: User) -> None:
    assert cloud.nobody.get(AUDIT).status == 401
    assert {u.get(AUDIT).status for u in (alice, reader)} == {403}
    role = next(r["id"] for r in admin.get(f"{V3}/roles").json["roles"] if r["name"] == "reader")
    assert admin.put(f"{V3}/system/users/{reader.id}/roles/{role}").status == 204
    auditor = cloud.login("rita", "rita-pass-word", scope={"system": {"all": True}})
    assert auditor.get(AUDIT).status == 200
    assert auditor.post(AUDIT, {}).status == 405


def test_events_are_forgotten_when_they_are_old_or_not_wanted(cloud: Bed, admin: User) -> None:
    assert login(cloud, "admin", "wrong") == 401
    cloud.clock.turn(91 * 86400)
    cloud.settle()
    admin = cloud.login("admin", "admin-pass-word", project="admin")
    left = events(admin, "action=authenticate")
    assert [e["outcome"] for e in left] == ["success"], "only this login is left"
