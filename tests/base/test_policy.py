"""Rules answer as oslo.policy answers, and an operator's file overrides them while the cloud runs."""

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from stackling.base import policy as policies
from stackling.base.policy import Policy, Rule
from stackling.boot import assembly

_CREDS = [
    {
        "user_id": "u1",
        "project_id": "p1",
        "tenant_id": "p1",
        "roles": roles,
        "system_scope": system,
        "domain_id": domain,
        "is_admin": "admin" in roles,
    }
    for roles, system, domain in itertools.product(
        ([], ["reader"], ["Member", "reader"], ["manager", "member", "reader"], ["admin"], ["service"]),
        (None, "all"),
        (None, "d1"),
    )
]
_TARGETS: list[dict[str, Any]] = [
    {},
    {"project_id": "p1", "tenant_id": "p1", "user_id": "u1"},
    {
        "project_id": "p2",
        "tenant_id": "p2",
        "user_id": "u2",
        "visibility": "public",
        "owner": "p1",
        "member_id": "p1",
    },
    {
        "target.user.id": "u1",
        "target.domain.id": "d1",
        "target.user.domain_id": "d1",
        "target.token.user_id": "u1",
        "target.role.name": "member",
    },
    {
        "network:tenant_id": "p1",
        "tenant_id": "p2",
        "shared": True,
        "networks:shared": True,
        "device_owner": "network:dhcp",
    },
]


@pytest.fixture(scope="module")
def rules() -> Policy:
    return Policy(assembly.rules())


def test_every_rule_answers_as_oslo_policy_does(rules: Policy) -> None:
    for name in rules.rules:
        for target, creds in itertools.product(_TARGETS, _CREDS):
            upstream = bool(rules._enforcer.rules[name](target, creds, rules._enforcer, name))
            assert rules.allows(name, target, creds, "any") is upstream, (name, target, creds)


@pytest.mark.parametrize(
    "check",
    [
        "role:%(wanted)s",
        "token.user.name:%(name)s",
        "token.teams.name:%(name)s",
        "True:%(enabled)s",
        "None:%(nothing)s",
        "'yes':%(answer)s",
        "not (role:member and rule:nowhere)",
        "rule:other or !",
        "not rule:other",
        "@",
        "",
    ],
)
def test_the_language_is_oslo_policys(check: str) -> None:
    made = Policy([Rule("it", check), Rule("other", "role:member")])
    creds = {
        "roles": ["member"],
        "token": {"user": {"name": "alice"}, "teams": [{"name": "red"}, {"name": "blue"}]},
    }
    targets: list[dict[str, Any]] = [
        {},
        {"wanted": "MEMBER", "name": "alice", "enabled": True, "nothing": None, "answer": "yes"},
        {"wanted": "admin", "name": "blue", "enabled": "no", "nothing": "", "answer": "no"},
    ]
    for target in targets:
        assert made.allows("it", target, creds, "any") is bool(
            made._enforcer.rules["it"](target, creds, made._enforcer, "it")
        )


def test_a_scope_that_a_rule_does_not_name_is_refused() -> None:
    made = Policy([Rule("it", "@", scopes=("system",))])
    assert made.allows("it", {}, {}, "system")
    assert not made.allows("it", {}, {}, "project")
    with pytest.raises(KeyError):
        made.allows("nobody:declared:it", {}, {}, "project")


def test_an_operators_file_overrides_rules_while_the_cloud_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "_LOOK_AGAIN", -1.0)
    file = tmp_path / "policy.yaml"
    made = Policy([Rule("it", "role:admin")], file)
    member = {"roles": ["member"]}
    assert not made.allows("it", {}, member, "project")
    file.write_text('"it": "role:member"\n')
    assert made.allows("it", {}, member, "project")
    file.write_text('"it": "role:admin\n')  # not YAML: what was in force stays
    os.utime(file, (1, 1))  # whatever the clock says, another time
    assert made.allows("it", {}, member, "project")
    file.unlink()
    assert not made.allows("it", {}, member, "project")
