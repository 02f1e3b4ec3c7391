"""`stackling policy`: rules in force, why somebody may do something, and a policy.yaml that changes under a running cloud."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.operator import Operator


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    made = Operator(tmp_path_factory.mktemp("policy"))
    made.says("up", "--fake")
    yield made
    made.run("down", "--fake", "--purge")


@pytest.fixture
def file(operator: Operator) -> Iterator[Path]:
    """Where the operator's policy.yaml goes."""
    path = operator.home / "stackling-fake" / "config" / "policy.yaml"
    yield path
    path.unlink(missing_ok=True)


def ask(operator: Operator, path: str, token: str = "", body: Any = None) -> tuple[int, Any, str]:
    headers = {"Content-Type": "application/json", "X-Auth-Token": token}
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://127.0.0.1:{operator.port}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer), answer.headers.get("X-Subject-Token") or ""
    except urllib.error.HTTPError as e:
        return e.code, None, ""


def login(operator: Operator, name: str, password: str, project: str) -> str:
    domain = {"id": "default"}
    user = {"name": name, "domain": domain, "password": password}
    identity = {"methods": ["password"], "password": {"user": user}}
    scope = {"project": {"name": project, "domain": domain}}
    status, _, token = ask(
        operator, "/identity/v3/auth/tokens", body={"auth": {"identity": identity, "scope": scope}}
    )
    assert status == 201
    return token


@pytest.fixture(scope="module")
def member(operator: Operator) -> str:
    """The token of `mia`, a member of the project `mint`."""
    words = operator.says("env", "--fake", "--format", "json")
    admin = login(operator, "admin", json.loads(words)["OS_PASSWORD"], "admin")
    v3 = "/identity/v3"
    project = ask(operator, f"{v3}/projects", admin, {"project": {"name": "mint"}})[1]["project"]["id"]
    mia = ask(operator, f"{v3}/users", admin, {"user": {"name": "mia", "password": "mia-pass-word"}})[1][
        "user"
    ]["id"]
    roles = {r["name"]: r["id"] for r in ask(operator, f"{v3}/roles", admin)[1]["roles"]}
    give = urllib.request.Request(
        f"http://127.0.0.1:{operator.port}{v3}/projects/{project}/users/{mia}/roles/{roles['member']}",
        headers={"X-Auth-Token": admin},
        method="PUT",
    )
    urllib.request.urlopen(give, timeout=30).close()
    return login(operator, "mia", "mia-pass-word", "mint")


def test_rules_are_listed_with_what_overrides_them(operator: Operator, file: Path) -> None:
    listed = {r["rule"]: r for r in json.loads(operator.says("policy", "list", "--fake", "--json"))}
    assert listed["identity:create_user"]["scope"] == ["system", "domain", "project"]
    assert listed["identity:create_user"]["override"] is None
    assert {n.partition(":")[0] for n in listed} > {"identity", "os_compute_api", "volume"}
    file.write_text('"identity:list_regions": "role:reader"\n')
    changed = json.loads(operator.says("policy", "list", "--fake", "--json", "--changed"))
    assert [(r["rule"], r["default"], r["override"]) for r in changed] == [
        ("identity:list_regions", "", "role:reader")
    ]
    assert "policy.yaml: role:reader" in operator.says("policy", "list", "list_regions", "--fake")


def test_why_somebody_may_or_may_not(operator: Operator, member: str) -> None:
    mia = ("--user", "mia", "--project", "mint", "--fake")
    said = operator.says("policy", "check", "os_compute_api:servers:create", *mia)
    assert said.startswith("os_compute_api:servers:create is allowed: roles member, reader\n")
    assert "yes role:member" in said
    refused = operator.run("policy", "check", "identity:create_user", *mia)
    assert refused.returncode == 1
    assert "no  role:admin   (the caller's roles are member, reader)" in refused.stdout
    assert "the target has no target.user.domain_id" in refused.stdout
    aim = ("--target", "project_id=other", "--json")
    told = json.loads(operator.run("policy", "check", "os_compute_api:servers:create", *mia, *aim).stdout)
    assert told["allowed"] is False
    assert told["roles"] == ["member", "reader"]
    assert told["reason"]["parts"][1]["parts"][1]["says"].endswith("is not other")
    scope = operator.run(
        "policy", "check", "os_compute_api:servers:create", "--user", "admin", "--system", "--fake"
    )
    assert scope.returncode == 1
    assert "is not for tokens of a system, only of a project" in scope.stdout


def test_what_can_not_be_checked_is_said(operator: Operator) -> None:
    assert "there is no rule 'nope'" in operator.trouble(
        "policy", "check", "nope", "--user", "admin", "--project", "admin", "--fake"
    )
    rule = ("policy", "check", "identity:list_users", "--fake")
    assert "there is no user 'zoe'" in operator.trouble(*rule, "--user", "zoe", "--project", "admin")
    assert "there is no project 'x y'" in operator.trouble(*rule, "--user", "admin", "--project", "x y")
    assert "name one scope" in operator.trouble(*rule, "--user", "admin")
    assert "name=value" in operator.trouble(*rule, "--user", "admin", "--system", "--target", "x")


@pytest.mark.parametrize(
    "text, says",
    [
        ('"identity:list_users": "role:admin\n', "policy.yaml: "),
        (
            '"identity:list_users": "role:admin and"\n',
            "'identity:list_users': 'role:admin and' is not in the policy language",
        ),
        ('"identity:list_users": "not admins"\n', "is not in the policy language"),
        ('"identity:list_users": "rule:nowhere"\n', "refers to the rule 'nowhere', which is nowhere"),
        ('"a": "rule:b"\n"b": "rule:a"\n', "refers to itself"),
        ("- role:admin\n", "it holds rules"),
        ('"identity:list_users": [["role:admin"]]\n', "a rule's name and its check are texts"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(operator: Operator, file: Path, text: str, says: str) -> None:
    file.write_text(text)
    assert says in operator.trouble("policy", "list", "--fake")


def test_the_running_cloud_follows_the_file(operator: Operator, file: Path, member: str) -> None:
    def users(wanted: int) -> None:
        deadline = time.monotonic() + 15
        while (status := ask(operator, "/identity/v3/users", member)[0]) != wanted:
            assert time.monotonic() < deadline, status
            time.sleep(0.1)

    users(403)
    file.write_text('"identity:list_users": "role:member"\n')
    users(200)
    file.write_text('"identity:list_users": "role:member and"\n')
    time.sleep(2.5)  # longer than between two looks at the file
    users(200)
    log = "".join(p.read_text() for p in (operator.home / "stackling-fake" / "log").iterdir())
    assert log.count("policy.unreadable") == 1
    assert "is not in the policy language" in log
    file.unlink()
    users(403)


def test_a_cloud_does_not_start_with_a_bad_file(operator: Operator, file: Path) -> None:
    operator.says("down", "--fake")
    file.write_text('"identity:list_users": "rule:nowhere"\n')
    assert "refers to the rule 'nowhere'" in operator.trouble("up", "--fake")
    file.unlink()
    operator.says("up", "--fake")
