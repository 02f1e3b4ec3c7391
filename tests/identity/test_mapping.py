"""The mapping language: each rule with the assertions that it takes and refuses."""

from typing import Any

import pytest

from stackling.identity.mapping import MappingInvalid, MappingRefused, read, try_mapping
from stackling.identity.oidc.claims import assertion_of

USER: dict[str, Any] = {"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "login"}]}
HERE = {"id": "default"}


def rule(local: Any, *remote: dict[str, Any]) -> dict[str, Any]:
    return {"local": local if isinstance(local, list) else [local], "remote": list(remote)}


def groups(made: dict[str, Any]) -> list[str]:
    return sorted(g["name"] for g in made["group_names"])


# -- substitution ------------------------------------------------------------------------------------------------------


def test_values_stand_where_their_number_is() -> None:
    rules = [
        rule(
            {"user": {"name": "{0} {1}", "email": "{2}", "id": "{3}@{0}"}},
            {"type": "first"},
            {"type": "last"},
            {"type": "mail"},
            {"type": "sub"},
        )
    ]
    made = try_mapping(rules, {"first": "Ada", "last": "L", "mail": "ada@example.org", "sub": "77"})
    assert made == {
        "user": {"name": "Ada L", "email": "ada@example.org", "id": "77@Ada", "type": "ephemeral"},
        "group_ids": [],
        "group_names": [],
        "projects": [],
    }


def test_conditions_give_no_number() -> None:
    """Only entries without any_one_of and not_any_of are counted."""
    rules = [
        rule(
            {"user": {"name": "{0}", "email": "{1}"}},
            {"type": "login"},
            {"type": "dept", "any_one_of": ["ops"]},
            {"type": "mail"},
        )
    ]
    made = try_mapping(rules, {"login": "ada", "dept": "ops", "mail": "a@b"})
    assert (made["user"]["name"], made["user"]["email"]) == ("ada", "a@b")


def test_braces_can_be_written_and_counted() -> None:
    made = try_mapping([rule({"user": {"name": "{{{0}}}-{}"}}, {"type": "login"})], {"login": "ada"})
    assert made["user"]["name"] == "{ada}-ada"


def test_what_is_substituted_is_not_substituted_again() -> None:
    rules = [rule({"user": {"name": "{0}"}}, {"type": "login"}, {"type": "secret"})]
    assert try_mapping(rules, {"login": "{1}", "secret": "s"})["user"]["name"] == "{1}"


@pytest.mark.parametrize(
    "text", ["{1}", "{0.__class__}", "{0[0]}", "{0!r}", "{0:>9}", "{name}", "{", "}", "{-1}", "{٣}"]
)
def test_other_places_are_refused_when_the_mapping_is_written(text: str) -> None:
    with pytest.raises(MappingInvalid, match="local"):
        read([rule({"user": {"name": text}}, {"type": "login"})])


def test_a_number_without_any_value_is_refused() -> None:
    with pytest.raises(MappingInvalid, match="refers to a value"):
        read([rule({"user": {"name": "{0}"}}, {"type": "login", "any_one_of": ["ada"]})])


# -- conditions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "condition,values,matches",
    [
        ({}, "x", True),
        ({}, None, False),
        ({"any_one_of": ["a", "b"]}, "b;c", True),
        ({"any_one_of": ["a", "b"]}, "c;d", False),
        ({"any_one_of": ["a"]}, "A", False),
        ({"any_one_of": ["a"]}, "ab", False),
        ({"any_one_of": []}, "a", False),
        ({"any_one_of": ["a"]}, None, False),
        ({"not_any_of": ["a", "b"]}, "c;d", True),
        ({"not_any_of": ["a", "b"]}, "c;b", False),
        ({"not_any_of": ["a"]}, None, False),  # who says nothing of it is not let in by it
        ({"any_one_of": [".*@example.org$"], "regex": True}, "x;ada@example.org", True),
        ({"any_one_of": ["@example.org$"], "regex": True}, "ada@example.org", True),  # anywhere in the value
        ({"any_one_of": ["^example"], "regex": True}, "ada@example.org", False),
        ({"any_one_of": [".*@example.org$"], "regex": False}, "ada@example.org", False),
        ({"not_any_of": ["^ext-"], "regex": True}, "int-1;ext-2", False),
        ({"not_any_of": ["^ext-"], "regex": True}, "int-1;int-2", True),
        ({"any_one_of": [5, True]}, "5", True),
        ({"any_one_of": [5, True]}, "true", True),
        ({"whitelist": ["none"]}, "a", True),  # chooses, and does not decide
        ({"blacklist": ["a"]}, "a", True),
        ({"whitelist": ["a"]}, None, False),
    ],
)
def test_conditions(condition: dict[str, Any], values: str | None, matches: bool) -> None:
    rules = [USER, rule({"group": {"id": "g"}}, {"type": "attribute", **condition})]
    assertion = {"login": "ada"} | ({} if values is None else {"attribute": values})
    assert try_mapping(rules, assertion)["group_ids"] == (["g"] if matches else [])


def test_all_entries_of_a_rule_must_be_satisfied() -> None:
    both = rule(
        {"group": {"id": "g"}}, {"type": "a", "any_one_of": ["1"]}, {"type": "b", "not_any_of": ["2"]}
    )
    for assertion, found in (({"a": "1", "b": "3"}, ["g"]), ({"a": "1", "b": "2"}, []), ({"a": "1"}, [])):
        assert try_mapping([USER, both], {"login": "ada", **assertion})["group_ids"] == found


# -- rules -------------------------------------------------------------------------------------------------------------


def test_rules_add_up_and_the_first_user_stands() -> None:
    rules = [
        USER,
        rule({"user": {"name": "another"}, "group": {"id": "one"}}, {"type": "login"}),
        rule([{"group": {"id": "two"}}, {"group": {"id": "one"}}], {"type": "login"}),
        rule({"group": {"id": "three"}}, {"type": "absent"}),
    ]
    made = try_mapping(rules, {"login": "ada"})
    assert (made["user"]["name"], made["group_ids"]) == ("ada", ["one", "two"])


def test_no_rule_matches_nobody_comes_in() -> None:
    with pytest.raises(MappingRefused, match="No rule"):
        try_mapping([USER], {"other": "ada"})


def test_remote_user_is_the_user_that_no_rule_names() -> None:
    rules = [rule({"group": {"id": "g"}}, {"type": "login"})]
    assert try_mapping(rules, {"login": "x", "REMOTE_USER": "ada"})["user"]["name"] == "ada"
    with pytest.raises(MappingRefused, match="names no user"):
        try_mapping(rules, {"login": "x"})


def test_a_mapping_and_lines_are_taken_as_well() -> None:
    made = try_mapping({"rules": [USER]}, "login: ada\n\nmail: a:b\n")
    assert made["user"]["name"] == "ada"


# -- groups ------------------------------------------------------------------------------------------------------------


def test_groups_by_name_and_domain() -> None:
    rules = [USER, rule({"group": {"name": "dev", "domain": {"name": "corp-{0}"}}}, {"type": "org"})]
    made = try_mapping(rules, {"login": "ada", "org": "x"})
    assert made["group_names"] == [{"name": "dev", "domain": {"name": "corp-x"}}]


def test_a_group_for_each_value() -> None:
    for local in (
        {"groups": "{0}", "domain": HERE},
        {"group": {"name": "{0}", "domain": HERE}},
    ):
        made = try_mapping([USER, rule(local, {"type": "groups"})], {"login": "ada", "groups": "dev;ops"})
        assert groups(made) == ["dev", "ops"]
    for local in ({"group_ids": "{0}"}, {"group": {"id": "{0}"}}):
        made = try_mapping([USER, rule(local, {"type": "groups"})], {"login": "ada", "groups": "g1;g2"})
        assert made["group_ids"] == ["g1", "g2"]


def test_values_within_a_name_make_a_name_each() -> None:
    local = {"groups": "{1}-{0}", "domain": HERE}
    rules = [USER, rule(local, {"type": "groups"}, {"type": "org"})]
    assert groups(try_mapping(rules, {"login": "ada", "groups": "dev;ops", "org": "x"})) == ["x-dev", "x-ops"]


@pytest.mark.parametrize(
    "choice,found",
    [
        ({"whitelist": ["dev", "qa"]}, ["dev"]),
        ({"blacklist": ["dev", "qa"]}, ["admins", "ops"]),
        ({"whitelist": ["^o", "^d"], "regex": True}, ["dev", "ops"]),
        ({"blacklist": ["^adm"], "regex": True}, ["dev", "ops"]),
        ({"whitelist": []}, []),
        ({"blacklist": []}, ["admins", "dev", "ops"]),
        ({"whitelist": ["nothing"]}, []),
    ],
)
def test_lists_choose_among_the_values(choice: dict[str, Any], found: list[str]) -> None:
    rules = [USER, rule({"groups": "{0}", "domain": HERE}, {"type": "groups", **choice})]
    assert groups(try_mapping(rules, {"login": "ada", "groups": "dev;ops;admins"})) == found


def test_a_rule_can_write_a_list_and_an_assertion_can_not() -> None:
    """Upstream reads the substituted text as a list: whoever can choose a value could put himself in any group."""
    written = rule({"groups": "['dev', 'ops']", "domain": HERE}, {"type": "login"})
    assert groups(try_mapping([USER, written], {"login": "ada"})) == ["dev", "ops"]
    rules = [USER, rule({"groups": "{0}", "domain": HERE}, {"type": "team"})]
    assert groups(try_mapping(rules, {"login": "ada", "team": ["['admins']"]})) == ["['admins']"]


# -- users and projects ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "user,kind",
    [
        ({"name": "{0}"}, "ephemeral"),
        ({"name": "{0}", "type": "ephemeral", "domain": HERE}, "ephemeral"),
        ({"name": "{0}", "type": "local", "domain": HERE}, "local"),
        ({"name": "{0}", "type": "local", "domain": {"name": "Default"}}, "local"),
        ({"name": "{0}", "type": "local"}, "ephemeral"),
        ({"name": "{0}", "type": "local", "domain": {}}, "ephemeral"),
    ],
)
def test_a_local_user_needs_a_domain(user: dict[str, Any], kind: str) -> None:
    assert try_mapping([rule({"user": user}, {"type": "login"})], {"login": "ada"})["user"]["type"] == kind


def test_projects_with_roles() -> None:
    wanted = [
        {"name": "Production", "roles": [{"name": "reader"}]},
        {"name": "Project for {0}", "roles": [{"name": "member"}, {"name": "{1}"}], "domain": {"name": "x"}},
    ]
    rules = [rule([{"user": {"name": "{0}"}}, {"projects": wanted}], {"type": "login"}, {"type": "title"})]
    made = try_mapping(rules, {"login": "ada", "title": "manager"})
    assert made["projects"] == [
        {"name": "Production", "roles": [{"name": "reader"}]},
        {
            "name": "Project for ada",
            "roles": [{"name": "member"}, {"name": "manager"}],
            "domain": {"name": "x"},
        },
    ]


# -- what is no mapping ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rules",
    [
        None,
        {},
        [],
        [{}],
        [{"local": []}],
        [{"remote": [{"type": "a"}]}],
        [{"local": [], "remote": []}],
        [rule({"user": {"name": "x"}})],
        [rule({"user": {"name": "x"}}, {"any_one_of": ["a"]})],
        [rule({"user": {"name": "x"}}, {"type": "a", "any_one_of": ["a"], "not_any_of": ["b"]})],
        [rule({"user": {"name": "x"}}, {"type": "a", "whitelist": ["a"], "blacklist": ["b"]})],
        [rule({"user": {"name": "x"}}, {"type": "a", "regex": True})],
        [rule({"user": {"name": "x"}}, {"type": "a", "any_one_of": "a"})],
        [rule({"user": {"name": "x"}}, {"type": "a", "any_one_of": ["("], "regex": True})],
        [rule({"user": {"name": "x"}}, {"type": "a", "regex": "yes", "any_one_of": ["a"]})],
        [rule({"user": {"name": "x"}}, {"type": "a", "more": 1})],
        [rule({"user": {"name": 5}}, {"type": "a"})],
        [rule({"user": {"name": "x", "type": "remote"}}, {"type": "a"})],
        [rule({"user": {"nom": "x"}}, {"type": "a"})],
        [rule({"group": {}}, {"type": "a"})],
        [rule({"group": {"name": "x"}}, {"type": "a"})],
        [rule({"group": {"id": "x", "name": "y", "domain": HERE}}, {"type": "a"})],
        [rule({"groups": "x"}, {"type": "a"})],
        [rule({"projects": [{"name": "x"}]}, {"type": "a"})],
        [rule({"projects": [{"name": "x", "roles": ["member"]}]}, {"type": "a"})],
        [rule({"everything": True}, {"type": "a"})],
        [{**USER, "more": 1}],
    ],
)
def test_what_is_no_mapping_is_refused(rules: Any) -> None:
    with pytest.raises(MappingInvalid):
        read(rules)


# -- claims ------------------------------------------------------------------------------------------------------------


def test_claims_under_all_their_names() -> None:
    made = assertion_of(
        {
            "iss": "https://idp.example",
            "sub": "77",
            "groups": ["a;b", "c"],
            "email_verified": True,
            "realm_access": {"roles": ["r1"], "deep": {"er": 5}},
            "none": None,
            "odd": [{"not": "a value"}],
        }
    )
    for name in ("groups", "OIDC-groups", "OIDC_CLAIM_groups", "OIDC_GROUPS", "HTTP_OIDC_GROUPS"):
        assert made[name] == ["a;b", "c"]  # one value, not two: nobody adds to his groups by their names
    assert made["realm_access.roles"] == ["r1"]
    assert made["HTTP_OIDC_REALM_ACCESS_ROLES"] == ["r1"]
    assert made["realm_access.deep.er"] == ["5"]
    assert made["HTTP_OIDC_EMAIL_VERIFIED"] == ["true"]
    assert made["HTTP_OIDC_ISS"] == ["https://idp.example"]
    assert made["REMOTE_USER"] == ["77@https://idp.example"]
    assert "none" not in made
    assert "odd" not in made


def test_a_claim_does_not_pass_for_another() -> None:
    made = assertion_of(
        {
            "iss": "i",
            "sub": "s",
            "groups": ["users"],
            "GROUPS": ["admins"],
            "HTTP_OIDC_GROUPS": ["admins"],
            "OIDC-groups": ["admins"],
            "REMOTE_USER": "root",
        }
    )
    assert made["HTTP_OIDC_GROUPS"] == made["OIDC-groups"] == made["OIDC_GROUPS"] == ["users"]
    assert made["REMOTE_USER"] == ["s@i"]
