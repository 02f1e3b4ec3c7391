"""Nobody learns from a login whether there is such a user: the same answer, after the same work."""

from collections.abc import Iterator
from typing import Any

import argon2
import pytest

from tests.conftest import Answer, Bed, User
from tests.identity.process import configure

V3 = "/identity/v3"


class Hashes:
    """Counts the hashes that are computed, by memory and passes, which is what their time depends on."""

    def __init__(self) -> None:
        self.costs: list[tuple[int, int]] = []

    def take(self) -> list[tuple[int, int]]:
        taken, self.costs = self.costs, []
        return taken


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hashes]:
    made = Hashes()
    verify, digest = argon2.PasswordHasher.verify, argon2.PasswordHasher.hash

    def counted(self: argon2.PasswordHasher, kept: str, plain: str) -> bool:
        found = argon2.extract_parameters(kept)
        made.costs.append((found.memory_cost, found.time_cost))
        return bool(verify(self, kept, plain))

    def counted_digest(self: argon2.PasswordHasher, plain: str, **more: Any) -> str:
        made.costs.append((self.memory_cost, self.time_cost))
        return str(digest(self, plain, **more))

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted)
    monkeypatch.setattr(argon2.PasswordHasher, "hash", counted_digest)
    yield made
    monkeypatch.undo()


def attempt(bed: Bed, part: dict[str, Any], method: str = "password") -> Answer:
    return bed.nobody.post(f"{V3}/auth/tokens", {"auth": {"identity": {"methods": [method], method: part}}})


def same(answers: list[Answer]) -> None:
    shown = {
        (a.status, a.text, tuple(sorted((k, v) for k, v in a.headers.items() if "request-id" not in k)))
        for a in answers
    }
    assert len(shown) == 1, shown


def test_password_logins(cloud: Bed, admin: User, alice: User, bob: User, hashes: Hashes) -> None:
    carol = admin.post(f"{V3}/users", {"user": {"name": "carol"}}).json["user"]
    assert admin.patch(f"{V3}/users/{bob.id}", {"user": {"enabled": False}}).status == 200
    configure(cloud, "identity", lockout_failures=2)
    default = {"id": "default"}
    users = {
        "wrong password": {"name": "alice", "domain": default},
        "by id": {"id": alice.id},
        "unknown": {"name": "nobody", "domain": default},
        "unknown id": {"id": "0" * 32},
        "unknown domain": {"name": "alice", "domain": {"id": "nowhere"}},
        "unknown domain name": {"name": "alice", "domain": {"name": "Nowhere"}},
        "disabled": {"name": "bob", "domain": default},
        "without password": {"id": carol["id"]},
        "locked by now": {"id": alice.id},
    }
    attempt(
        cloud, {"user": {"name": "nobody", "domain": default, "password": "x"}}
    )  # makes the hash of nobody
    hashes.take()
    answers, costs = [], {}
    for name, user in users.items():
        answers.append(attempt(cloud, {"user": {**user, "password": "wrong"}}))
        costs[name] = hashes.take()
    same(answers)
    options = cloud.config.identity
    assert costs == {name: [(options.hash_memory_kib, options.hash_passes)] for name in users}
    # Right passwords of those who may not in, and of somebody who is locked, look like wrong ones.
    same(
        [
            answers[0],
            attempt(cloud, {"user": {"name": "bob", "domain": default, "password": "bob-pass-word"}}),
            attempt(cloud, {"user": {"id": alice.id, "password": "alice-pass-word"}}),
        ]
    )


def test_application_credentials(cloud: Bed, alice: User, hashes: Hashes) -> None:
    new = {"application_credential": {"name": "ci"}}
    made = alice.post(f"{V3}/users/{alice.id}/application_credentials", new).json["application_credential"]
    attempt(cloud, {"id": "nothing", "secret": "x"}, "application_credential")
    hashes.take()
    answers, costs = [], []
    for who in (
        {"id": made["id"]},
        {"id": "nothing"},
        {"name": "ci", "user": {"id": alice.id}},
        {"name": "other", "user": {"id": alice.id}},
        {"name": "ci", "user": {"name": "nobody", "domain": {"id": "default"}}},
    ):
        answers.append(attempt(cloud, {**who, "secret": "wrong"}, "application_credential"))
        costs.append(len(hashes.take()))
    same(answers)
    assert costs == [1] * 5


def test_changing_a_password(cloud: Bed, alice: User, hashes: Hashes) -> None:
    change = {"user": {"original_password": "wrong", "password": "new-pass-word"}}
    cloud.nobody.post(f"{V3}/users/nobody/password", change)
    hashes.take()
    answers, costs = [], []
    for id in (alice.id, "nobody"):
        answers.append(cloud.nobody.post(f"{V3}/users/{id}/password", change))
        costs.append(len(hashes.take()))
    same(answers)
    assert costs == [1, 1]


def test_second_factors(cloud: Bed, alice: User) -> None:
    same(
        [
            attempt(cloud, {"user": {**user, "passcode": "000000"}}, "totp")
            for user in (
                {"id": alice.id},
                {"id": "nobody"},
                {"name": "nobody", "domain": {"id": "default"}},
            )
        ]
    )
