"""What Active Directory does differently, as far as OpenLDAP can play it; the real one: `tests.identity.active_directory`."""

import uuid
from collections.abc import Iterator
from typing import Any

import ldap.dn
import pytest

from stackling.base import log
from stackling.base.errors import Unauthorized
from stackling.identity.actions import directory
from stackling.identity.actions.directory_entry import public_id
from tests.conftest import Bed
from tests.identity.ad_limits import AdLimits
from tests.identity.slapd import SUFFIX, Slapd
from tests.identity.test_directory import V3, Corp, slapd

__all__ = ["slapd"]  # a fixture

LIKE_AD: dict[str, Any] = {
    "query_scope": "sub",
    "user_objectclass": "user",
    "user_id_attribute": "objectGUID",
    "user_name_attribute": "sAMAccountName",
    "user_enabled_attribute": "userAccountControl",
    "user_enabled_mask": 2,
    "user_enabled_default": 512,
    "group_objectclass": "group",
    "group_id_attribute": "objectGUID",
    "group_name_attribute": "sAMAccountName",
    "chase_referrals": False,
}


@pytest.fixture
def corp(cloud: Bed, slapd: Slapd) -> Corp:
    return Corp(cloud, slapd, **LIKE_AD)


@pytest.fixture
def limits(slapd: Slapd) -> Iterator[AdLimits]:
    made = AdLimits(slapd.port)
    yield made
    made.stop()


def ad_person(
    slapd: Slapd, name: str, cn: str | None = None, *, control: int = 512, under: str = f"ou=Users,{SUFFIX}"
) -> str:
    return slapd.add(
        f"CN={ldap.dn.escape_dn_chars(cn or name)},{under}",
        objectClass="user",
        cn=cn or name,
        sn=name,
        sAMAccountName=name,
        userAccountControl=str(control),
        userPassword=f"{name}-pw",
        objectGUID=guid(name).bytes_le,
        objectSid=bytes.fromhex("010500000000000515000000e8fd9ad35c1ba2bb1b46f333") + guid(name).bytes[:4],
    )


def ad_group(slapd: Slapd, cn: str, *members: str, under: str = "UserGroups", name: str | None = None) -> str:
    return slapd.add(
        f"CN={cn},ou={under},{SUFFIX}",
        objectClass="group",
        cn=cn,
        sAMAccountName=name or cn,
        objectGUID=guid(name or cn).bytes_le,
        **({"member": members} if members else {}),
    )


def guid(name: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_DNS, name)


def members(corp: Corp, group: str) -> list[str]:
    answer = corp.ok(200, corp.admin.get(f"{V3}/groups/{corp.group_id(group)}/users"))
    return sorted(u["name"] for u in answer["users"])


def test_people_as_active_directory_has_them(corp: Corp) -> None:
    eva = ad_person(corp.slapd, "eva", "Eva (ops) * \\ Şahin, Jr")
    ad_person(corp.slapd, "jörg")
    ad_person(corp.slapd, "off", control=514)
    ad_group(corp.slapd, "ops", eva)
    for options in (
        {},
        {"user_id_attribute": "objectSid", "group_id_attribute": "sAMAccountName"},
        {"user_name_attribute": "cn"},
    ):
        corp.configure(**{**LIKE_AD, **options})
        name = "Eva (ops) * \\ Şahin, Jr" if "user_name_attribute" in options else "eva"
        found = {u["name"]: u for u in corp.users()}
        assert set(found) == {name, "jörg", "off"}
        assert found["off"]["enabled"] is False
        if not options:
            assert found["eva"]["id"] == public_id(corp.id, "user", str(guid("eva")))
        for who, right in ((name, 201), ("jörg", 201), ("off", 401)):
            password = "eva-pw" if who == name else f"{who}-pw"
            assert corp.login(who, password).status == right
            assert corp.login(found[who]["id"], password, by_id=True).status == right
        assert members(corp, "ops") == [name]
        groups = corp.ok(200, corp.admin.get(f"{V3}/users/{found[name]['id']}/groups"))["groups"]
        assert [g["name"] for g in groups] == ["ops"]


def test_a_sid_is_shown_as_windows_writes_it(corp: Corp) -> None:
    ad_person(corp.slapd, "eva")
    corp.configure(**LIKE_AD, user_additional_attribute_mapping=["objectSid:sid", "objectGUID:guid"])
    (eva,) = corp.users("&name=eva")
    last = int.from_bytes(guid("eva").bytes[:4], "little")
    assert eva["sid"] == f"S-1-5-21-3550150120-3147963228-871581211-{last}"
    assert eva["guid"] == str(guid("eva"))


def test_members_that_come_in_parts(corp: Corp, limits: AdLimits) -> None:
    """A group of more than 1,500 on Windows; here, of more than three."""
    people = [ad_person(corp.slapd, f"p{n}") for n in range(8)]
    for size in (1, 3, 4, 6, 8):
        ad_group(corp.slapd, f"of {size}", *people[:size])
    corp.configure(**LIKE_AD, url=limits.url)
    for size in (1, 3, 4, 6, 8):
        assert members(corp, f"of {size}") == [f"p{n}" for n in range(size)]
    assert {"member;range=3-*", "member;range=6-*"} <= set(limits.asked)


def test_a_login_does_not_read_who_else_is_in_the_groups(corp: Corp, limits: AdLimits) -> None:
    ad_group(corp.slapd, "all", *(ad_person(corp.slapd, f"p{n}") for n in range(8)))
    corp.configure(**LIKE_AD, url=limits.url)
    p7 = corp.login("p7", "p7-pw")
    assert p7.status == 201
    assert not any(name.startswith("member") for name in limits.asked)
    groups = corp.admin.get(f"{V3}/users/{p7.json['token']['user']['id']}/groups").json["groups"]
    assert [g["name"] for g in groups] == ["all"]


def test_groups_in_groups(corp: Corp) -> None:
    people = [ad_person(corp.slapd, name) for name in ("eva", "ira")]
    inner = ad_group(corp.slapd, "inner", people[0])
    between = ad_group(corp.slapd, "between", inner, under="Users")  # not where groups are looked for
    outer = ad_group(corp.slapd, "outer", between, people[1], f"CN=nobody,{SUFFIX}")
    corp.slapd.change(inner, "member", people[0], outer)  # a circle
    corp.configure(**LIKE_AD)
    assert (members(corp, "inner"), members(corp, "outer")) == (["eva"], ["ira"])
    corp.configure(**LIKE_AD, group_ad_nesting=True)
    assert members(corp, "inner") == members(corp, "outer") == ["eva", "ira"]
    listed = corp.ok(200, corp.admin.get(f"{V3}/groups?domain_id={corp.id}"))["groups"]
    assert {g["name"] for g in listed} == {"inner", "outer"}
    corp.slapd.remove(between)
    corp.cloud.turn(61, every=61)
    assert (members(corp, "inner"), members(corp, "outer")) == (["eva", "ira"], ["ira"])


def test_who_shares_an_id_is_nobody(corp: Corp) -> None:
    """`cn` is no id where searches go deep: whoever may make people or groups in some unit could else be another."""
    deep = f"ou=Deep,ou=Users,{SUFFIX}"
    corp.slapd.add(deep, objectClass="organizationalUnit", ou="Deep")
    corp.slapd.add(f"ou=Deep,ou=UserGroups,{SUFFIX}", objectClass="organizationalUnit", ou="Deep")
    eva, ira = (ad_person(corp.slapd, name) for name in ("eva", "ira"))
    ad_group(corp.slapd, "ops", eva)
    corp.configure(**{**LIKE_AD, "user_id_attribute": "cn", "group_id_attribute": "cn"})
    assert corp.names() == ["eva", "ira"]
    assert corp.login("eva", "eva-pw").status == 201
    ops = corp.group_id("ops")
    twin = ad_person(corp.slapd, "twin", "Eva", under=deep)
    ad_group(corp.slapd, "ops", ira, under="Deep,ou=UserGroups", name="ops2")
    assert corp.login("twin", "twin-pw").status == corp.login("eva", "eva-pw").status == 401
    assert corp.login("ira", "ira-pw").status == 201
    ira_id = corp.users("&name=ira")[0]["id"]
    assert corp.admin.get(f"{V3}/users/{ira_id}/groups").json["groups"] == []
    corp.cloud.turn(61, every=61)
    assert corp.names() == ["ira"]
    assert corp.admin.get(f"{V3}/groups/{ops}").status == 404
    corp.slapd.remove(twin)
    assert corp.login("eva", "eva-pw").status == 201


@pytest.mark.parametrize("chase", [None, False, True])
def test_referrals_are_passed_over(corp: Corp, chase: bool | None) -> None:
    """A search at the root of a domain says where its other parts are; nothing is there that may be asked."""
    for unit in ("Users", "UserGroups"):
        corp.slapd.add(
            f"ou=elsewhere,ou={unit},{SUFFIX}",
            objectClass=["referral", "extensibleObject"],
            ou="elsewhere",
            ref=f"ldap://127.0.0.1:1/ou=elsewhere,ou={unit},{SUFFIX}",
        )
    ad_group(corp.slapd, "ops", ad_person(corp.slapd, "eva"))
    corp.configure(**{**LIKE_AD, "chase_referrals": chase, "group_ad_nesting": True})
    assert corp.login("eva", "eva-pw").status == 201
    assert corp.names() == ["eva"]
    assert members(corp, "ops") == ["eva"]


def test_a_server_that_wants_pages(corp: Corp, capsys: pytest.CaptureFixture[str]) -> None:
    log.setup(level="info")
    for number in range(9):
        ad_person(corp.slapd, f"p{number}")
    corp.configure(**LIKE_AD, page_size=0)
    assert corp.admin.get(f"{V3}/users?domain_id={corp.id}").status == 503
    assert "set ldap.page_size" in capsys.readouterr().err
    corp.configure(**LIKE_AD, page_size=2)
    corp.cloud.turn(11, every=11)
    assert corp.names() == [f"p{n}" for n in range(9)]


def test_why_a_password_is_refused_is_told_to_operators_only(corp: Corp, limits: AdLimits) -> None:
    ad_person(corp.slapd, "eva")
    corp.configure(**LIKE_AD, url=limits.url)
    refused = corp.login("eva", "no")
    assert refused.status == 401
    assert refused.text == corp.login("nobody", "no").text
    with corp.cloud.db.read() as tx:
        home = directory.of_domain(tx, corp.cloud.cloud, corp.id)
    assert home is not None
    with pytest.raises(Unauthorized) as caught:
        directory.prove(corp.cloud.cloud, home, "no", name="eva")
    assert caught.value.detail.partition(": ")[2].startswith("the password has expired")


def test_the_next_server_is_asked_when_one_is_down(corp: Corp) -> None:
    ad_person(corp.slapd, "eva")
    corp.configure(
        **LIKE_AD, url=f"ldap://127.0.0.1:1, {corp.slapd.url}", randomize_urls=True, connection_timeout=2
    )
    for _ in range(4):
        assert corp.login("eva", "eva-pw").status == 201
