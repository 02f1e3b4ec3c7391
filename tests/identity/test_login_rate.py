"""Logins that are too many are refused for a while, whoever they are for."""

import pytest

from tests.conftest import Answer, Bed, User
from tests.identity.process import another, configure

V3 = "/identity/v3"


def attempt(bed: Bed, name: str, word: str = "wrong", *, near: str = "127.0.0.1", **who: str) -> Answer:
    user = {**(who or {"name": name}), "password": word}
    if "id" not in user:
        user["domain"] = {"id": "default"}  # type: ignore[assignment]
    auth = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
    return User(bed, "").post(f"{V3}/auth/tokens", auth, headers={"X-Forwarded-For": near})


def test_nothing_is_counted_by_default(cloud: Bed, alice: User) -> None:
    assert {attempt(cloud, "alice").status for _ in range(30)} == {401}


@pytest.mark.parametrize("name", ["alice", "nobody"])
def test_too_many_for_a_user_whether_there_is_one_or_not(cloud: Bed, alice: User, name: str) -> None:
    configure(cloud, "identity", logins_per_user=3)
    assert [attempt(cloud, name).status for _ in range(4)] == [401, 401, 401, 429]
    refused = attempt(cloud, name, "alice-pass-word")
    assert refused.status == 429, "the right password does not help"
    assert refused.json["error"]["code"] == 429
    assert name not in refused.text
    wait = int(refused.headers["retry-after"])
    assert 1 <= wait <= 20
    cloud.turn(wait, every=wait)
    assert attempt(cloud, name, "alice-pass-word").status == (201 if name == "alice" else 401)
    assert attempt(cloud, name).status == 429
    assert attempt(cloud, "another").status == 401


def test_a_user_is_one_by_name_by_id_and_in_every_process(cloud: Bed, alice: User) -> None:
    configure(cloud, "identity", logins_per_user=4)
    with another(cloud) as other:
        tried = [
            attempt(cloud, "alice"),
            attempt(other, "ALICE"),
            attempt(cloud, "", id=alice.id),
            User(other, "").post(
                f"{V3}/users/{alice.id}/password",
                {"user": {"original_password": "wrong", "password": "new-pass-word"}},
            ),
            attempt(other, "alice"),
            attempt(cloud, "", id=alice.id),
        ]
    assert [t.status for t in tried] == [401, 401, 401, 401, 429, 429]


def test_too_many_from_an_address(cloud: Bed, alice: User) -> None:
    configure(cloud, "identity", logins_per_address=2)
    configure(cloud, "api", trusted_proxies=["127.0.0.0/8"])
    assert [attempt(cloud, f"u{n}", near="192.0.2.7").status for n in range(3)] == [401, 401, 429]
    assert attempt(cloud, "alice", "alice-pass-word", near="192.0.2.8").status == 201
    assert attempt(cloud, "u", near="192.0.2.9, 192.0.2.7").status == 429, (
        "only the nearest is the proxy's word"
    )
    same_network = [attempt(cloud, "u", near=f"2001:db8::{n}").status for n in (1, 2, 3)]
    assert same_network == [401, 401, 429]
    configure(cloud, "api", trusted_proxies=[])
    tried = [attempt(cloud, "u", near=f"198.51.100.{n}").status for n in (1, 2, 3)]
    assert tried == [401, 401, 429], "nobody else is believed about where he is"


def test_lockout_is_as_it_was(cloud: Bed, alice: User) -> None:
    configure(cloud, "identity", logins_per_user=100, lockout_failures=3, lockout_seconds=60)
    assert {attempt(cloud, "alice").status for _ in range(3)} == {401}
    assert attempt(cloud, "alice", "alice-pass-word").status == 401
    cloud.turn(61, every=61)
    assert attempt(cloud, "alice", "alice-pass-word").status == 201
