"""A round through a real Active Directory, Samba's, as an operator's cloud would meet it.

    apt-get install samba samba-ad-provision samba-dsdb-modules winbind ldb-tools
    python -m tests.identity.active_directory

As root. Everything is in a network namespace of its own and a directory in /tmp; both are gone afterwards. Not part of
`./check`: what Active Directory does differently is played by OpenLDAP there (`test_active_directory.py`).
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ldap.dn

from stackling.base import log
from stackling.base.errors import Unauthorized
from stackling.identity.actions import directory
from stackling.identity.actions.directory_entry import public_id
from tests.conftest import Answer, Bed, User
from tests.identity.samba import (
    CROWD,
    DEEP,
    ELSEWHERE,
    GROUPS,
    PEOPLE,
    ROOT,
    ActiveDirectory,
    password_of,
    put,
)
from tests.identity.test_directory import V3, Corp, valid

MANY = 1600  # more than a page (1,000), and more than the values of an attribute that Windows tells at once (1,500)
ODD = "Łukasz (ops) * \\ “star”, Jr"  # what a filter and a DN have to escape
ODD_DN = f"CN={ldap.dn.escape_dn_chars(ODD)},{PEOPLE}"
PAGE = Path(__file__).parents[2] / "docs" / "identity.md"


def as_documented() -> dict[str, Any]:
    """The options that docs/identity.md has for Active Directory."""
    section = PAGE.read_text().partition("\n## Active Directory\n")[2].partition("\n## ")[0]
    block = section.partition("```json\n")[2].partition("```")[0]
    documented: dict[str, Any] = json.loads(block)["config"]["ldap"]
    return documented


class AdCorp(Corp):
    """A cloud whose domain `corp` is Active Directory's domain."""

    def __init__(self, cloud: Bed, ad: ActiveDirectory) -> None:
        self.cloud, self.ad, self.admin = cloud, ad, cloud.admin
        self.id = self.ok(201, self.admin.post(f"{V3}/domains", {"domain": {"name": "corp"}}))["domain"]["id"]
        self.configure()
        project = {"project": {"name": "shop", "domain_id": self.id}}
        self.project_id = self.ok(201, self.admin.post(f"{V3}/projects", project))["project"]["id"]
        self.roles = {r["name"]: r["id"] for r in self.admin.get(f"{V3}/roles").json["roles"]}

    def put_config(self, **options: Any) -> Answer:
        base = {**as_documented(), "url": self.ad.secure_url, "tls_cacertfile": str(self.ad.ca), **options}
        body = {
            "config": {
                "identity": {"driver": "ldap"},
                "ldap": {k: v for k, v in base.items() if v is not None},
            }
        }
        return self.admin.put(f"{V3}/domains/{self.id}/config", body)

    def enter(self, name: str, *, project: bool = False) -> User:
        got = self.login(name, password_of(name), project=project)
        assert got.status == 201, got
        return User(self.cloud, got.headers["x-subject-token"], id=got.json["token"]["user"]["id"])

    def lets_in(self, name: str, password: str | None = None) -> int:
        return self.login(name, password if password is not None else password_of(name)).status

    def refused(self, name: str) -> str:
        """Why nobody comes in by that name and the right password, as the log says."""
        assert self.lets_in(name) == 401
        with self.cloud.db.read() as tx:
            home = directory.of_domain(tx, self.cloud.cloud, self.id)
        assert home is not None
        try:
            directory.prove(self.cloud.cloud, home, password_of(name), name=name)
        except Unauthorized as e:
            return e.detail.partition(": ")[2]
        raise AssertionError(f"{name} was let in")

    def later(self) -> None:
        """What was read is believed no more."""
        self.cloud.turn(61, every=61)

    def user(self, name: str) -> dict[str, Any]:
        (found,) = self.users(f"&name={name}")
        return found

    def members(self, group: str) -> list[str]:
        answer = self.ok(200, self.admin.get(f"{V3}/groups/{self.group_id(group)}/users"))
        return sorted(u["name"] for u in answer["users"])

    def groups_of(self, name: str) -> list[str]:
        answer = self.ok(200, self.admin.get(f"{V3}/users/{self.user(name)['id']}/groups"))
        return sorted(g["name"] for g in answer["groups"])


# -- the round ---------------------------------------------------------------------------------------------------------


def populate(ad: ActiveDirectory) -> None:
    for unit in (PEOPLE, GROUPS, DEEP, ELSEWHERE):
        ad.add(unit, objectClass="organizationalUnit")
    ad.person("reader")
    ada = ad.person(
        "ada",
        "Ada Lovelace",
        mail="ada@example.test",
        description="First of us",
        userPrincipalName="ada@example.test",
        department="Engines",
    )
    bob, odd = ad.person("bob"), ad.person("lukasz", ODD)
    ad.person("jörg", "Jörg Müller")
    ad.person("off", control=514)
    ad.person("gone", accountExpires="130000000000000000")  # 2012
    ad.person("twin", "bob", under=DEEP)  # the same cn in another unit
    ad.add(f"CN=guest speaker,{PEOPLE}", objectClass="contact")
    ad.add(f"CN=pc,{PEOPLE}", objectClass="computer", sAMAccountName="PC$", userAccountControl="4096")
    inner = ad.group("inner", ada, odd)
    between = ad.group("between", inner, under=ELSEWHERE)  # outside the groups' tree
    outer = ad.group("outer", between, bob)
    ad.change(inner, "member", ada, odd, outer)  # a circle
    ad.group("empty")
    crowd = []
    with ad.bound() as c:
        for number in range(MANY):
            name = f"p{number:04}"
            crowd.append(f"CN={name},{CROWD}")
            if not number:
                put(c, CROWD, {"objectClass": "organizationalUnit"})
            put(c, crowd[-1], {"objectClass": "user", "sAMAccountName": name, "userAccountControl": 544})
    ad.group("crowd", *crowd, ada)


def logins(corp: AdCorp) -> None:
    assert corp.lets_in("ada") == 201
    assert corp.lets_in("ADA", password_of("ada")) == 201
    assert corp.lets_in("jörg") == 201
    assert corp.lets_in("lukasz") == 201
    for name, password in (
        ("ada", "wrong"),
        ("ada", ""),
        ("*", password_of("ada")),
        ("ada)(cn=*", password_of("ada")),
        ("nobody", "x"),
        ("EXAMPLE\\ada", password_of("ada")),
        ("PC$", "x"),
    ):
        assert corp.lets_in(name, password) == 401, name
    for name, why in (("off", "the account is disabled"), ("gone", "the account has expired")):
        assert corp.refused(name).startswith(why)
    by_id = corp.login(corp.user("ada")["id"], password_of("ada"), by_id=True)
    assert by_id.status == 201, by_id


def passwords_that_have_to_be_changed(corp: AdCorp) -> None:
    bob = f"CN=bob,{PEOPLE}"
    corp.ad.change(bob, "pwdLastSet", "0")
    assert corp.refused("bob").startswith("the password must be changed first")
    corp.ad.change(bob, "pwdLastSet", "-1")
    assert corp.lets_in("bob") == 201
    corp.ad.password_set_in_2012("bob")
    assert corp.refused("bob").startswith("the password has expired")
    corp.ad.change(bob, "pwdLastSet", "0")
    corp.ad.change(bob, "pwdLastSet", "-1")
    assert corp.lets_in("bob") == 201


def locked_accounts(corp: AdCorp) -> None:
    corp.ad.change(ROOT, "lockoutThreshold", "3")
    bob = corp.enter("bob")
    for _ in range(4):
        assert corp.lets_in("bob", "wrong") == 401
    assert corp.refused("bob").startswith("the account is locked")
    assert valid(bob) == 200  # whoever knows a name could else end its tokens
    corp.ad.change(f"CN=bob,{PEOPLE}", "lockoutTime", "0")
    assert corp.lets_in("bob") == 201
    corp.ad.change(ROOT, "lockoutThreshold", "0")


def what_is_shown(corp: AdCorp) -> None:
    ada = corp.user("ada")
    assert (ada["email"], ada["description"], ada["enabled"]) == ("ada@example.test", "First of us", True)
    guid = str(uuid.UUID(bytes_le=corp.ad.raw(f"CN=Ada Lovelace,{PEOPLE}", "objectGUID")))
    assert ada["id"] == public_id(corp.id, "user", guid)
    assert corp.user("off")["enabled"] is False
    assert corp.user("jörg")["name"] == "jörg"
    corp.configure(user_additional_attribute_mapping="department:unit,objectSid:sid")
    shown = corp.user("ada")
    assert shown["unit"] == "Engines"
    assert shown["sid"].startswith("S-1-5-21-")


def lists(corp: AdCorp) -> None:
    started = time.monotonic()
    names = corp.names()
    print(f"{'':6} {'':7}  a list of {len(names)} users took {time.monotonic() - started:.1f} s")
    assert len([n for n in names if n.startswith(("p0", "p1"))]) == MANY
    assert {"ada", "bob", "jörg", "lukasz", "off", "gone", "twin", "Administrator"} <= set(names)
    assert not {"PC$", "DC1$", "guest speaker"} & set(names)
    assert corp.names("&name__startswith=p159") == [f"p159{n}" for n in range(10)]
    assert set(corp.names("&enabled=false")) >= {"off", "Guest", "krbtgt"}
    groups = corp.ok(200, corp.admin.get(f"{V3}/groups?domain_id={corp.id}"))["groups"]
    assert {"inner", "outer", "between", "empty", "crowd", "Domain Admins"} <= {g["name"] for g in groups}


def groups_in_groups(corp: AdCorp) -> None:
    for tree, seen in ((ROOT, ["between", "crowd", "inner", "outer"]), (GROUPS, ["crowd", "inner", "outer"])):
        corp.configure(group_tree_dn=tree)
        assert corp.members("inner") == corp.members("outer") == ["ada", "bob", "lukasz"]
        assert corp.groups_of("ada") == seen
        corp.enter("ada")  # which asks the server, by its own rule
        assert corp.groups_of("ada") == seen
        assert corp.members("outer") == ["ada", "bob", "lukasz"]
    corp.configure(group_ad_nesting=False)
    assert corp.members("inner") == ["ada", "lukasz"]
    assert corp.members("outer") == ["bob"]
    assert corp.groups_of("ada") == ["crowd", "inner"]
    corp.enter("ada")
    assert corp.groups_of("ada") == ["crowd", "inner"]


def a_group_of_many(corp: AdCorp) -> None:
    assert len(corp.members("crowd")) == MANY + 1
    assert corp.members("empty") == []


def roles(corp: AdCorp) -> None:
    at = f"{V3}/projects/{corp.project_id}"
    corp.ok(204, corp.admin.put(f"{at}/groups/{corp.group_id('outer')}/roles/{corp.roles['member']}"))
    corp.ok(204, corp.admin.put(f"{at}/users/{corp.user('jörg')['id']}/roles/{corp.roles['reader']}"))
    ada, joerg = corp.enter("ada", project=True), corp.enter("jörg", project=True)
    assert corp.login("twin", password_of("twin"), project=True).status == 401
    query = f"{V3}/role_assignments?scope.project.id={corp.project_id}&effective&include_names"
    found = corp.ok(200, corp.admin.get(query))["role_assignments"]
    who = {(a["user"]["name"], a["role"]["name"]) for a in found}
    assert {("ada", "member"), ("bob", "member"), ("lukasz", "member"), ("jörg", "reader")} <= who
    # ada leaves the group in a group that gave her the role.
    inner, without = f"CN=inner,{GROUPS}", (ODD_DN, f"CN=outer,{GROUPS}")
    corp.ad.change(inner, "member", *without)
    assert (valid(ada), valid(joerg)) == (200, 200)
    corp.later()
    assert (valid(ada), valid(joerg)) == (401, 200)
    corp.ad.change(inner, "member", *without, f"CN=Ada Lovelace,{PEOPLE}")
    corp.later()
    corp.enter("ada", project=True)


def tokens_of_the_disabled(corp: AdCorp) -> None:
    bob = corp.enter("bob")
    corp.ad.change(f"CN=bob,{PEOPLE}", "userAccountControl", "514")
    assert corp.lets_in("bob") == 401
    corp.later()
    assert valid(bob) == 401
    corp.ad.change(f"CN=bob,{PEOPLE}", "userAccountControl", "512")
    assert corp.lets_in("bob") == 201
    assert valid(bob) == 401


def renamed_and_moved(corp: AdCorp) -> None:
    before = corp.user("twin")["id"]
    moved = corp.ad.rename(f"CN=bob,{DEEP}", "CN=twin")
    corp.ad.change(moved, "sAMAccountName", "zwilling")
    corp.later()
    assert corp.names("&name=twin") == []
    assert corp.user("zwilling")["id"] == before
    assert corp.lets_in("zwilling", password_of("twin")) == 201
    corp.ad.remove(moved)
    corp.later()
    assert corp.names("&name=zwilling") == []
    assert corp.lets_in("zwilling", password_of("twin")) == 401


def other_names_and_ids(corp: AdCorp) -> None:
    corp.configure(user_name_attribute="userPrincipalName")
    assert corp.lets_in("ada@example.test", password_of("ada")) == 201
    corp.configure(user_name_attribute="cn")
    assert corp.lets_in(ODD, password_of("lukasz")) == 201
    corp.configure(user_id_attribute="objectSid", group_id_attribute="objectSid")
    ada = corp.enter("ada")
    assert corp.login(ada.id, password_of("ada"), by_id=True).status == 201
    assert "outer" in corp.groups_of("ada")
    sid = corp.user("ada")["id"]
    corp.later()
    assert corp.ok(200, corp.admin.get(f"{V3}/users/{sid}"))["user"]["name"] == "ada"
    corp.configure(user_id_attribute="cn")  # as is Keystone's default, but not unique in a tree
    assert corp.lets_in("ada") == 201
    assert corp.lets_in("bob") == 201
    corp.ad.person("twin", "bob", under=DEEP)
    assert [corp.lets_in(name) for name in ("bob", "twin", "ada")] == [401, 401, 201]
    corp.ad.remove(f"CN=bob,{DEEP}")
    assert corp.lets_in("bob") == 201
    corp.configure(user_id_attribute="sAMAccountName", group_id_attribute="cn")
    assert corp.user("ada")["id"] == public_id(corp.id, "user", "ada")
    assert "outer" in corp.groups_of("ada")


def ways_to_connect(corp: AdCorp) -> None:
    ad = corp.ad
    corp.configure(url=ad.url, use_tls=True)
    assert corp.lets_in("ada") == 201
    corp.configure(user="reader@example.test")
    assert corp.lets_in("ada") == 201
    corp.configure(user="EXAMPLE\\reader")
    assert corp.lets_in("ada") == 201
    corp.configure(url="ldaps://127.0.0.1:3269")  # the global catalog
    assert corp.lets_in("ada") == 201
    assert corp.members("inner") == ["ada", "bob", "lukasz"]
    corp.configure(url=f"ldaps://127.0.0.1:6,{ad.secure_url}")
    assert corp.lets_in("ada") == 201
    for wrong in ({"url": ad.url}, {"tls_cacertfile": None}, {"password": "wrong"}):
        corp.configure(**wrong)
        assert corp.lets_in("ada") == 503, wrong
        corp.cloud.turn(11, every=11)


def referrals(corp: AdCorp) -> None:
    corp.configure(chase_referrals=True)
    assert corp.lets_in("ada") == 201
    assert len(corp.names()) > MANY


def down_and_up_again(corp: AdCorp) -> None:
    ada = corp.enter("ada")
    corp.ad.stop()
    assert valid(ada) == 200
    assert corp.lets_in("ada") == 503
    corp.later()
    assert valid(ada) == 503
    assert corp.admin.get(f"{V3}/users?domain_id={corp.id}").status == 503
    corp.ad.start()
    corp.cloud.turn(11, every=11)
    assert valid(ada) == 200
    assert corp.lets_in("ada") == 201


ROUND: list[Callable[[AdCorp], None]] = [
    logins,
    passwords_that_have_to_be_changed,
    locked_accounts,
    what_is_shown,
    lists,
    groups_in_groups,
    a_group_of_many,
    roles,
    tokens_of_the_disabled,
    renamed_and_moved,
    other_names_and_ids,
    ways_to_connect,
    referrals,
    down_and_up_again,
]


def main() -> int:
    if "--inside" not in sys.argv:
        for program in ("samba", "samba-tool"):
            if shutil.which(program) is None:
                sys.exit(f"{program} is not here; see the top of {__file__}")
        again = f'ip link set lo up && exec "{sys.executable}" -m tests.identity.active_directory --inside'
        return subprocess.run(["unshare", "--net", "sh", "-c", again], check=False).returncode
    home = Path(tempfile.mkdtemp(prefix="stackling-ad-", dir="/tmp"))
    log.setup(level="error")
    ad = ActiveDirectory(home / "dc")
    failed = 0
    try:
        populate(ad)
        cloud = Bed(f"sqlite:///{home / 'state.db'}", home / "cloud")
        corp = AdCorp(cloud, ad)
        for step in ROUND:
            started = time.monotonic()
            corp.configure()
            try:
                step(corp)
                says = "ok"
            except (AssertionError, LookupError):
                traceback.print_exc()
                says, failed = "FAILED", failed + 1
            print(
                f"{says:6} {time.monotonic() - started:5.1f} s  {step.__name__.replace('_', ' ')}", flush=True
            )
        cloud.close()
    finally:
        ad.stop()
        shutil.rmtree(home)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
