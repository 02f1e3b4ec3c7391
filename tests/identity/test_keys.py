"""Forms of tokens, and keys that are rotated while the cloud goes on."""

import json
import os
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey

from stackling.identity.actions import encryption, key_rotation, keys
from stackling.identity.actions import token as tokens
from tests.conftest import Bed, User
from tests.identity.process import another, configure

V3 = "/identity/v3"


def rescope(bed: Any, token: str, project_id: str) -> Any:
    """A new token for an old one, which costs no hashing."""
    identity = {"methods": ["token"], "token": {"id": token}}
    auth = {"auth": {"identity": identity, "scope": {"project": {"id": project_id}}}}
    return User(bed, "").post(f"{V3}/auth/tokens", auth)


def works(bed: Any, token: str) -> bool:
    return User(bed, token).get(f"{V3}/auth/projects").status == 200


def rotate(bed: Any, name: str = "tokens", **more: Any) -> None:
    with bed.db.begin() as tx:
        keys.rotate(tx, bed.cloud, name, **more)


def forget(bed: Any) -> None:
    """As after a restart: no token is known."""
    tokens.tokens(bed.cloud)._known.clear()


def home(bed: Bed) -> Path:
    return Path(bed.config.paths.state_dir) / "keys"


# -- JWS ---------------------------------------------------------------------------------------------------------------


def test_a_jws_token_is_a_jwt_that_others_can_verify_and_means_the_same(cloud: Bed, alice: User) -> None:
    before = alice.get(f"{V3}/auth/tokens", headers={"X-Subject-Token": alice.token}).json["token"]
    configure(cloud, "identity", token_provider="jws")
    got = rescope(cloud, alice.token, alice.project_id)
    text = got.headers["x-subject-token"]
    pair = ECKey.import_key((home(cloud) / "jws" / "1").read_text())
    checked = jws.deserialize_compact(text, pair, algorithms=["ES256"])
    assert checked.headers()["typ"] == "JWT"
    claims = json.loads(checked.payload)
    assert (claims["sub"], claims["openstack_project_id"]) == (alice.id, alice.project_id)
    assert claims["openstack_methods"] == ["password", "token"]
    forget(cloud)
    shown = User(cloud, text).get(f"{V3}/auth/tokens", headers={"X-Subject-Token": text}).json["token"]
    assert shown == got.json["token"]
    assert {k: shown[k] for k in ("user", "project", "roles", "expires_at")} == {
        k: before[k] for k in ("user", "project", "roles", "expires_at")
    }
    assert User(cloud, text).delete(f"{V3}/auth/tokens", headers={"X-Subject-Token": text}).status == 204
    assert not works(cloud, text)


def test_a_switch_of_the_form_ends_no_token(cloud: Bed, alice: User) -> None:
    configure(cloud, "identity", token_provider="jws")
    signed = rescope(cloud, alice.token, alice.project_id).headers["x-subject-token"]
    forget(cloud)
    assert works(cloud, alice.token)
    configure(cloud, "identity", token_provider="fernet")
    forget(cloud)
    assert works(cloud, signed)
    assert rescope(cloud, signed, alice.project_id).headers["x-subject-token"].startswith("gAAAA")


@pytest.mark.parametrize("scope", [{"system": {"all": True}}, {"domain": {"id": "default"}}, "unscoped"])
def test_jws_tokens_of_every_scope(cloud: Bed, admin: User, scope: Any) -> None:
    role = next(r["id"] for r in admin.get(f"{V3}/roles").json["roles"] if r["name"] == "admin")
    assert admin.put(f"{V3}/domains/default/users/{admin.id}/roles/{role}").status == 204
    configure(cloud, "identity", token_provider="jws")
    made = cloud.login("admin", "admin-pass-word", scope=scope)
    forget(cloud)
    shown = made.get(f"{V3}/auth/tokens", headers={"X-Subject-Token": made.token}).json["token"]
    wanted = scope if isinstance(scope, dict) else {}
    assert [k for k in ("project", "domain", "system") if k in shown] == list(wanted)


def test_forged_jws_tokens_prove_nothing(cloud: Bed, alice: User) -> None:
    configure(cloud, "identity", token_provider="jws")
    text = rescope(cloud, alice.token, alice.project_id).headers["x-subject-token"]
    head, body, signature = text.split(".")
    plain = urlsafe_b64decode(body + "=" * (-len(body) % 4))

    def part(value: Any) -> str:
        return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    kid = json.loads(urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]
    other = {**json.loads(plain), "sub": cloud.admin.id}
    public = ECKey.import_key((home(cloud) / "jws" / "1").read_text()).as_pem(private=False)
    foreign = jws.serialize_compact(
        {"alg": "ES256", "typ": "JWT", "kid": kid}, plain, ECKey.generate_key("P-256")
    )
    shared = jws.serialize_compact(
        {"alg": "HS256", "typ": "JWT", "kid": kid},
        plain,
        OctKey.import_key(public.hex()),
        algorithms=["HS256"],
    )
    forged = [
        f"{head}.{part(other)}.{signature}",
        f"{part({'alg': 'none', 'typ': 'JWT', 'kid': kid})}.{body}.",
        f"{part({'alg': 'none', 'typ': 'JWT', 'kid': kid})}.{body}.{signature}",
        f"{head}.{body}.{urlsafe_b64encode(bytes(64)).rstrip(b'=').decode()}",
        f"{head}.{body}.{signature[:-4]}",
        foreign,
        shared,
        "..",
        "a.b.c",
        f"{head}.{body}.{signature}.",
        "\u00e9.b.c",
    ]
    assert works(cloud, text)
    assert [f for f in forged if works(cloud, f)] == []


# -- rotation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider, name", [("fernet", "tokens"), ("jws", "jws")])
def test_a_new_key_is_believed_by_every_process_at_once(
    cloud: Bed, alice: User, provider: str, name: str
) -> None:
    configure(cloud, "identity", token_provider=provider)
    first = rescope(cloud, alice.token, alice.project_id).headers["x-subject-token"]
    with another(cloud) as other:
        assert works(other, first)
        for _ in range(cloud.config.identity.fernet_keys - 2):
            rotate(cloud, name)
            fresh = rescope(cloud, first, alice.project_id).headers["x-subject-token"]
            assert works(other, fresh)
            back = rescope(other, fresh, alice.project_id).headers["x-subject-token"]
            assert works(cloud, back)
            assert works(other, first)
        rotate(cloud, name)
        assert not works(cloud, first), "its key is gone, so it ends even where it was known"
        assert not works(other, first)


@pytest.mark.parametrize("provider, name", [("fernet", "tokens"), ("jws", "jws")])
def test_rotation_during_load_refuses_nobody(cloud: Bed, alice: User, provider: str, name: str) -> None:
    configure(cloud, "identity", token_provider=provider)
    refused: list[Any] = []
    made: list[str] = []
    done = threading.Event()

    def load(here: Any, there: Any) -> None:
        while not done.is_set():
            got = rescope(here, alice.token, alice.project_id)
            text = got.headers.get("x-subject-token", "")
            if got.status != 201 or not works(there, text):
                refused.append(got)
            made.append(text)

    with another(cloud) as other:
        pairs = ((cloud, other), (other, cloud), (cloud, cloud))
        threads = [threading.Thread(target=load, args=pair) for pair in pairs]
        for thread in threads:
            thread.start()
        before = 0
        for _ in range(12):
            rotate(cloud, name, keep=50)
            rotate(other, name, keep=50)
            while len(made) < before + 3 and not refused:
                done.wait(0.01)
            before = len(made)
        done.set()
        for thread in threads:
            thread.join()
    assert refused == []
    assert len(made) >= 36


def test_two_rotations_at_once_follow_each_other(cloud: Bed) -> None:
    before = len(keys.repository(cloud.cloud, keys.TOKENS).numbers())
    threads = [threading.Thread(target=rotate, args=(cloud,), kwargs={"keep": 50}) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = keys.repository(cloud.cloud, keys.TOKENS).numbers()
    assert numbers == list(range(before + 8))


def test_a_rotation_that_was_cut_short_is_ended_by_the_next(cloud: Bed, alice: User) -> None:
    directory = home(cloud) / "fernet"
    os.rename(directory / "0", directory / "2")  # killed between its two renamings
    (directory / ".staged").write_text("half a key")
    assert works(cloud, rescope(cloud, alice.token, alice.project_id).headers["x-subject-token"])
    rotate(cloud)
    assert keys.repository(cloud.cloud, keys.TOKENS).numbers() == [0, 1, 2]
    assert works(cloud, cloud.login("alice", "alice-pass-word").token)


def test_keys_are_rotated_by_the_clock_and_no_token_ends_by_it(cloud: Bed, alice: User) -> None:
    store = keys.repository(cloud.cloud, keys.TOKENS)
    configure(cloud, "identity", key_rotation_hours=1, token_lifetime=5 * 3600)
    long = cloud.login("alice", "alice-pass-word", project="blue")
    before = store.numbers()[-1]
    cloud.turn(4 * 3600, every=1800)
    assert store.numbers()[-1] >= before + 4
    forget(cloud)
    assert works(cloud, long.token)
    roles = [(k.role, k.number) for k in store.listing()]
    assert roles[0] == ("primary", store.numbers()[-1])
    assert roles[-1] == ("staged", 0)
    cloud.turn(80 * 3600, every=3600)
    assert len(store.numbers()) <= 2 + 5 + 48, "old keys go"


def test_without_a_schedule_keys_stay(cloud: Bed) -> None:
    configure(cloud, "identity", key_rotation_hours=0)
    before = keys.repository(cloud.cloud, keys.TOKENS).numbers()
    cloud.turn(72 * 3600, every=6 * 3600)
    assert keys.repository(cloud.cloud, keys.TOKENS).numbers() == before


def test_credentials_outlive_every_rotation_of_their_keys(cloud: Bed, admin: User, alice: User) -> None:
    kept = {"type": "cert", "blob": "very secret", "user_id": alice.id}
    id = alice.post(f"{V3}/credentials", {"credential": kept}).json["credential"]["id"]
    consumer = admin.post(f"{V3}/OS-OAUTH1/consumers", {"consumer": {}}).json["consumer"]
    for turn in range(4):
        if turn == 2:  # one that was cut short: keys are new, and nothing was encrypted with them
            with cloud.db.begin() as tx:
                keys.rotate_credentials(tx, cloud.cloud)
        key_rotation.rotate_credential_keys(cloud.cloud)
    assert alice.get(f"{V3}/credentials/{id}").json["credential"]["blob"] == "very secret"
    with cloud.db.read() as tx:
        row = tx.exec_driver_sql("SELECT secret FROM identity_oauth_consumer").one()
    assert encryption.decrypt(cloud.cloud, row.secret) == consumer["secret"]
