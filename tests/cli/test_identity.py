"""`stackling identity` and `stackling audit` against a running cloud, and beside it."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_commands import Operator


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    made = Operator(tmp_path_factory.mktemp("operator"))
    made.says("up", "--fake")
    yield made
    made.run("down", "--fake", "--purge")


def config_dir(operator: Operator) -> Path:
    return operator.home / "stackling-fake" / "config"


def login(operator: Operator, password: str) -> str:
    """The administrator's token; empty when he is refused."""
    user = {"name": "admin", "domain": {"id": "default"}, "password": password}
    scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
    auth = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
    return str(send(operator, "POST", "/identity/v3/auth/tokens", auth)[1].get("X-Subject-Token") or "")


def send(operator: Operator, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
    url = f"http://127.0.0.1:{operator.port}{path}"
    headers = {"Content-Type": "application/json", "X-Auth-Token": token}
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as e:
        return e.code, e.headers


@pytest.mark.parametrize(
    "command",
    [
        "identity",
        "identity bootstrap",
        "identity rotate-keys",
        "identity keys",
        "audit",
        "audit list",
        "audit export",
    ],
)
def test_every_command_explains_itself(operator: Operator, command: str) -> None:
    assert f"Usage: stackling {command}" in operator.says(*command.split(), "--help")


def test_keys_are_shown_and_rotated_while_the_cloud_runs(operator: Operator) -> None:
    token = login(operator, (config_dir(operator) / "admin-password").read_text().strip())

    def roles(name: str) -> list[tuple[str, int]]:
        shown = json.loads(operator.says("identity", "keys", "--fake", "--json"))
        return [(k["role"], k["number"]) for k in shown if k["keys"] == name]

    assert roles("tokens") == [("primary", 1), ("staged", 0)]
    assert roles("jws") == []
    said = operator.says("identity", "rotate-keys", "tokens", "credentials", "--fake")
    assert said == "tokens: rotated\ncredentials: rotated\n"
    assert roles("tokens") == [("primary", 2), ("old", 1), ("staged", 0)]
    assert roles("credentials") == [("primary", 2), ("old", 1), ("staged", 0)]
    assert send(operator, "GET", "/identity/v3/auth/projects", token=token)[0] == 200
    table = operator.says("identity", "keys", "--fake")
    assert "primary" in table
    assert "0 d 0 h" in table
    state = operator.home / "stackling-fake" / "state" / "keys" / "fernet"
    assert not any(f.read_text() in table for f in state.iterdir())
    assert "say which keys" in operator.trouble("identity", "rotate-keys", "--fake")
    assert operator.run("identity", "rotate-keys", "cookies", "--fake").returncode != 0


def test_an_administrator_who_is_locked_out_gets_in_again(operator: Operator) -> None:
    kept = config_dir(operator) / "admin-password"
    old = kept.read_text().strip()
    token = login(operator, old)
    me = json.loads(json.dumps({"user": {"enabled": False}}))
    user_id = json.loads(operator.says("audit", "list", "--fake", "--json", "--limit", "1"))["initiator"][
        "id"
    ]
    assert send(operator, "PATCH", f"/identity/v3/users/{user_id}", me, token)[0] == 200
    assert login(operator, old) == ""
    said = operator.says("identity", "bootstrap", "--fake", "--new-password")
    new = kept.read_text().strip()
    assert new != old
    assert new not in said
    assert (kept.stat().st_mode & 0o777, login(operator, old)) == (0o600, "")
    fresh = login(operator, new)
    assert send(operator, "GET", "/identity/v3/users", token=fresh)[0] == 200
    assert send(operator, "GET", "/identity/v3/users", token=token)[0] == 401
    assert f"OS_PASSWORD={new}" in operator.says("env", "--fake").replace("'", "")
    assert operator.says("identity", "bootstrap", "--fake")
    assert login(operator, new) != "", "without being asked to it changes no password"
    assert "no password on standard input" in operator.trouble(
        "identity", "bootstrap", "--fake", "--password-stdin"
    )


def test_the_audit_is_listed_and_exported(operator: Operator) -> None:
    assert login(operator, "wrong") == ""
    table = operator.says("audit", "list", "--fake", "--outcome", "failure")
    assert "authenticate" in table
    assert "admin" in table
    operator.says("identity", "rotate-keys", "receipts", "--fake")
    lines = [json.loads(line) for line in operator.says("audit", "export", "--fake").splitlines()]
    assert lines == sorted(lines, key=lambda e: e["eventTime"])
    assert "update/rotate" in {e["action"] for e in lines}
    one = operator.says("audit", "list", "--fake", "--json", "--limit", "1", "--action", "update/rotate")
    assert json.loads(one)["target"]["id"] == "receipts"
    later = operator.says("audit", "export", "--fake", "--since", lines[-1]["eventTime"])
    assert len(later.splitlines()) < len(lines)
    assert "since" in operator.trouble("audit", "list", "--fake", "--since", "yesterday")
