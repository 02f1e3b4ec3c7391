"""Domains whose users are in a directory, with a real OpenLDAP: logging in, lists, roles, and what ends when."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stackling.base import log
from stackling.base.config import ConfigError
from stackling.base.directory import DomainDirectory
from stackling.identity.actions import directory, directory_entry, key_rotation
from tests.conftest import Answer, Bed, User
from tests.identity.slapd import ADMIN, ADMIN_PASSWORD, SUFFIX, Slapd

V3 = "/identity/v3"
LDAP = {
    "user": f"cn=reader,{SUFFIX}",
    "password": "reads",
    "suffix": SUFFIX,
    "user_id_attribute": "uid",
    "user_enabled_attribute": "employeeType",
    "page_size": 3,
}


@pytest.fixture
def slapd() -> Iterator[Slapd]:
    home = Path(tempfile.mkdtemp(prefix="stackling-ldap-", dir="/tmp"))
    made = Slapd(home)
    yield made
    made.stop()
    shutil.rmtree(home)


class Corp:
    """A cloud with domain `corp`, whose users are in the directory: ada and bob, ada in group dev, which has a role."""

    def __init__(self, cloud: Bed, slapd: Slapd, **options: Any) -> None:
        self.cloud, self.slapd, self.admin = cloud, slapd, cloud.admin
        self.ada = slapd.person("ada", mail="ada@example.org", description="First of us")
        self.bob = slapd.person("bob")
        self.dev = slapd.group("dev", self.ada, description="Developers")
        self.id = self.ok(201, self.admin.post(f"{V3}/domains", {"domain": {"name": "corp"}}))["domain"]["id"]
        self.configure(**options)
        project = {"project": {"name": "shop", "domain_id": self.id}}
        self.project_id = self.ok(201, self.admin.post(f"{V3}/projects", project))["project"]["id"]
        self.roles = {r["name"]: r["id"] for r in self.admin.get(f"{V3}/roles").json["roles"]}

    def ok(self, status: int, answer: Answer) -> Any:
        assert answer.status == status, answer
        return answer.json if answer.text else None

    def put_config(self, **options: Any) -> Answer:
        ldap = {k: v for k, v in {"url": self.slapd.url, **LDAP, **options}.items() if v is not None}
        body = {"config": {"identity": {"driver": "ldap"}, "ldap": ldap}}
        return self.admin.put(f"{V3}/domains/{self.id}/config", body)

    def configure(self, **options: Any) -> None:
        answer = self.put_config(**options)
        assert answer.status in (200, 201), answer

    def login(self, name: str, password: str, *, by_id: bool = False, project: bool = False) -> Answer:
        who = {"id": name} if by_id else {"name": name, "domain": {"name": "corp"}}
        identity = {"methods": ["password"], "password": {"user": {**who, "password": password}}}
        auth: dict[str, Any] = {"identity": identity}
        if project:
            auth["scope"] = {"project": {"id": self.project_id}}
        return self.cloud.nobody.post(f"{V3}/auth/tokens", {"auth": auth})

    def enter(self, name: str, *, project: bool = False) -> User:
        got = self.login(name, f"{name}-pw", project=project)
        assert got.status == 201, got
        return User(self.cloud, got.headers["x-subject-token"], id=got.json["token"]["user"]["id"])

    def users(self, query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ok(200, self.admin.get(f"{V3}/users?domain_id={self.id}{query}"))[
            "users"
        ]
        return found

    def names(self, query: str = "") -> list[str]:
        return sorted(u["name"] for u in self.users(query))

    def group_id(self, name: str) -> str:
        found = self.ok(200, self.admin.get(f"{V3}/groups?domain_id={self.id}&name={name}"))["groups"]
        return str(found[0]["id"])

    def give_dev_a_role(self) -> None:
        at = f"{V3}/projects/{self.project_id}/groups/{self.group_id('dev')}/roles/{self.roles['member']}"
        self.ok(204, self.admin.put(at))


@pytest.fixture
def corp(cloud: Bed, slapd: Slapd) -> Corp:
    return Corp(cloud, slapd)


def valid(user: User) -> int:
    return user.get(f"{V3}/auth/projects").status


# -- logging in --------------------------------------------------------------------------------------------------------


def test_logging_in_by_name_and_by_id(corp: Corp) -> None:
    got = corp.login("ada", "ada-pw")
    assert got.status == 201, got
    shown = got.json["token"]["user"]
    assert (shown["name"], shown["domain"]["name"]) == ("ada", "corp")
    assert len(shown["id"]) == 64
    # The id that Keystone's default generator of public ids makes, so that assignments can move over.
    assert shown["id"] == directory_entry.public_id(corp.id, "user", "ada")
    assert corp.login(shown["id"], "ada-pw", by_id=True).json["token"]["user"]["id"] == shown["id"]
    me = corp.admin.get(f"{V3}/users/{shown['id']}").json["user"]
    assert (me["email"], me["description"], me["enabled"]) == ("ada@example.org", "First of us", True)
    assert "password" not in str(me).replace("password_expires_at", "")


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ada", "wrong"),
        ("ada", ""),  # an LDAP bind without a password would succeed
        ("nobody", "ada-pw"),
        ("*", "ada-pw"),
        ("a*", "ada-pw"),
        ("ada)(sn=*", "ada-pw"),
        ("ada)(|(sn=*", "ada-pw"),
        ("ada\\2a", "ada-pw"),
        ("", "ada-pw"),
        ("reader", "reads"),
    ],
)
def test_what_does_not_let_in(corp: Corp, name: str, password: str) -> None:
    got = corp.login(name, password)
    assert got.status == 401, got
    assert got.json["error"]["message"] == corp.login("ada", "wrong").json["error"]["message"]


def test_two_of_one_name_let_nobody_in(corp: Corp) -> None:
    corp.slapd.person("eve", name="ada")
    assert corp.login("ada", "ada-pw").status == 401
    assert corp.login("ada", "eve-pw").status == 401


def test_a_user_of_the_cloud_is_never_mistaken_for_one_of_the_directory(cloud: Bed, slapd: Slapd) -> None:
    corp = Corp(cloud, slapd)
    assert cloud.admin.delete(f"{V3}/domains/{corp.id}/config").status == 204
    user = {"name": "root", "domain_id": corp.id, "password": "own-pass-word"}
    own = corp.ok(201, cloud.admin.post(f"{V3}/users", {"user": user}))["user"]["id"]
    corp.configure()
    slapd.person("root")
    assert corp.login("root", "root-pw").status == 401
    assert corp.login("root", "own-pass-word").json["token"]["user"]["id"] == own
    assert [u["id"] for u in corp.users("&name=root")] == [own]
    assert corp.names() == ["ada", "bob", "root"]
    assert cloud.admin.patch(f"{V3}/users/{own}", {"user": {"description": "kept here"}}).status == 200


def test_disabled_domain(corp: Corp) -> None:
    ada = corp.enter("ada")
    corp.ok(200, corp.admin.patch(f"{V3}/domains/{corp.id}", {"domain": {"enabled": False}}))
    assert corp.login("ada", "ada-pw").status == 401
    assert valid(ada) == 401


# -- lists -------------------------------------------------------------------------------------------------------------


def test_lists_with_filters_and_pages(corp: Corp) -> None:
    for number in range(8):
        corp.slapd.person(f"p{number}")
    corp.cloud.turn(61, every=61)
    everybody = ["ada", "bob", *(f"p{n}" for n in range(8))]
    assert corp.names() == everybody
    assert corp.names("&name=bob") == ["bob"]
    assert corp.names("&name__startswith=p") == everybody[2:]
    assert corp.names("&name__icontains=DA") == ["ada"]
    assert corp.names("&name=*") == []
    assert corp.names("&enabled=false") == []
    seen: list[str] = []
    url = f"{V3}/users?domain_id={corp.id}&limit=4&sort_key=name"
    while url:
        page = corp.ok(200, corp.admin.get(url))
        seen += [u["name"] for u in page["users"]]
        url = (page["links"]["next"] or "").partition("/identity")[2]
        url = f"/identity{url}" if url else ""
    assert seen == everybody
    groups = corp.ok(200, corp.admin.get(f"{V3}/groups?domain_id={corp.id}"))["groups"]
    assert [(g["name"], g["description"]) for g in groups] == [("dev", "Developers")]
    # Without a domain the directory's users are among all.
    assert {"ada", "admin"} <= {u["name"] for u in corp.admin.get(f"{V3}/users").json["users"]}


def test_membership(corp: Corp) -> None:
    dev = corp.group_id("dev")
    ada, bob = (corp.users(f"&name={n}")[0]["id"] for n in ("ada", "bob"))
    assert [u["name"] for u in corp.admin.get(f"{V3}/groups/{dev}/users").json["users"]] == ["ada"]
    assert [g["name"] for g in corp.admin.get(f"{V3}/users/{ada}/groups").json["groups"]] == ["dev"]
    assert corp.admin.get(f"{V3}/users/{bob}/groups").json["groups"] == []
    assert corp.admin.call("HEAD", f"{V3}/groups/{dev}/users/{ada}").status == 204
    assert corp.admin.call("HEAD", f"{V3}/groups/{dev}/users/{bob}").status == 404
    corp.slapd.change(
        corp.dev, "member", corp.bob.upper().replace(",", ", ")
    )  # another spelling of the same DN
    corp.cloud.turn(61, every=61)
    assert [u["name"] for u in corp.admin.get(f"{V3}/groups/{dev}/users").json["users"]] == ["bob"]
    assert [g["name"] for g in corp.admin.get(f"{V3}/users/{bob}/groups").json["groups"]] == ["dev"]


def test_members_by_id(cloud: Bed, slapd: Slapd) -> None:
    corp = Corp(
        cloud,
        slapd,
        group_objectclass="posixGroup",
        group_members_are_ids=True,
        group_member_attribute="memberUid",
        group_name_attribute="cn",
    )
    slapd.add(
        f"cn=ops,ou=UserGroups,{SUFFIX}", objectClass="posixGroup", cn="ops", gidNumber="7", memberUid="bob"
    )
    assert [
        u["name"] for u in cloud.admin.get(f"{V3}/groups/{corp.group_id('ops')}/users").json["users"]
    ] == ["bob"]
    bob = corp.enter("bob")
    assert [g["name"] for g in cloud.admin.get(f"{V3}/users/{bob.id}/groups").json["groups"]] == ["ops"]


def test_filters_trees_and_more_attributes(cloud: Bed, slapd: Slapd) -> None:
    slapd.add(f"ou=Deep,ou=Users,{SUFFIX}", objectClass="organizationalUnit", ou="Deep")
    slapd.add(
        f"uid=cid,ou=Deep,ou=Users,{SUFFIX}",
        objectClass="inetOrgPerson",
        uid="cid",
        sn="cid",
        cn="Cid",
        userPassword="cid-pw",
        title="Dr",
    )
    corp = Corp(cloud, slapd)
    assert corp.names() == ["ada", "bob"]
    corp.configure(query_scope="sub", user_additional_attribute_mapping=["title:honour"])
    assert corp.names() == ["ada", "bob", "cid"]
    assert corp.users("&name=cid")[0]["honour"] == "Dr"
    corp.configure(query_scope="sub", user_filter="(!(title=Dr))")
    assert corp.names() == ["ada", "bob"]
    assert corp.login("cid", "cid-pw").status == 401
    corp.configure(user_tree_dn=f"ou=Deep,ou=Users,{SUFFIX}")
    assert corp.names() == ["cid"]


# -- enabled -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "on", "off", "missing"),
    [
        ({}, "TRUE", "FALSE", True),
        ({"user_enabled_default": "False"}, "true", "no", False),
        ({"user_enabled_invert": True, "user_enabled_default": "False"}, "false", "TRUE", True),
        ({"user_enabled_mask": 2, "user_enabled_default": "512"}, "512", "514", True),
        ({"user_enabled_mask": "2", "user_enabled_default": "512"}, "66048", "not a number", True),
    ],
)
def test_who_is_enabled(
    cloud: Bed, slapd: Slapd, options: dict[str, Any], on: str, off: str, missing: bool
) -> None:
    corp = Corp(cloud, slapd, **options)
    for value, right in ((on, True), (off, False), (None, missing)):
        slapd.change(corp.ada, "employeeType", *([value] if value else []))
        assert (corp.login("ada", "ada-pw").status == 201) is right
        cloud.turn(61, every=61)
        assert [u["enabled"] for u in corp.users() if u["name"] == "ada"] == [right]


def test_enabled_by_a_group(cloud: Bed, slapd: Slapd) -> None:
    corp = Corp(
        cloud, slapd, user_enabled_emulation=True, user_enabled_emulation_dn=f"cn=on,ou=UserGroups,{SUFFIX}"
    )
    slapd.group("on", corp.ada)
    assert corp.login("ada", "ada-pw").status == 201
    assert corp.login("bob", "bob-pw").status == 401
    assert corp.names("&enabled=true") == ["ada"]


# -- roles, and what ends ----------------------------------------------------------------------------------------------


def test_roles_of_users_and_groups(corp: Corp) -> None:
    corp.give_dev_a_role()
    got = corp.login("ada", "ada-pw", project=True)
    assert got.status == 201, got
    assert "member" in [r["name"] for r in got.json["token"]["roles"]]
    assert corp.login("bob", "bob-pw", project=True).status == 401
    bob = corp.users("&name=bob")[0]["id"]
    at = f"{V3}/projects/{corp.project_id}/users/{bob}/roles/{corp.roles['reader']}"
    corp.ok(204, corp.admin.put(at))
    assert corp.login("bob", "bob-pw", project=True).status == 201
    listed = corp.admin.get(
        f"{V3}/role_assignments?scope.project.id={corp.project_id}&effective&include_names"
    )
    who = {(a["user"]["name"], a["role"]["name"]) for a in listed.json["role_assignments"]}
    assert {("ada", "member"), ("bob", "reader")} <= who
    corp.slapd.change(corp.dev, "member", corp.bob)
    assert corp.login("ada", "ada-pw", project=True).status == 401
    assert "member" in [r["name"] for r in corp.login("bob", "bob-pw", project=True).json["token"]["roles"]]


def test_tokens_end_with_what_they_stand_on(corp: Corp) -> None:
    corp.give_dev_a_role()
    ada, bob = corp.enter("ada", project=True), corp.enter("bob")
    assert (valid(ada), valid(bob)) == (200, 200)
    corp.slapd.change(corp.dev, "member", corp.bob)
    assert valid(ada) == 200  # for as long as the directory is believed
    corp.cloud.turn(61, every=61)
    assert valid(ada) == 401
    ada = corp.enter("ada")
    corp.slapd.change(corp.ada, "employeeType", "FALSE")
    corp.slapd.remove(corp.bob)
    corp.cloud.turn(61, every=61)
    assert (valid(ada), valid(bob)) == (401, 401)
    assert corp.admin.get(f"{V3}/users/{bob.id}").status == 404
    assert corp.admin.get(f"{V3}/users/{ada.id}").json["user"]["enabled"] is False
    assert corp.names() == ["ada"]
    # Whoever comes back has what he was given, and none of his old tokens.
    corp.slapd.person("bob")
    corp.slapd.change(corp.ada, "employeeType", "TRUE")
    corp.cloud.turn(61, every=61)
    assert corp.enter("bob").id == bob.id
    assert valid(bob) == 401
    corp.enter("ada")
    assert valid(ada) == 401


def test_application_credentials_and_trusts_end_too(corp: Corp) -> None:
    corp.give_dev_a_role()
    ada = corp.enter("ada", project=True)
    wanted = {"application_credential": {"name": "ci"}}
    made = corp.ok(201, ada.post(f"{V3}/users/{ada.id}/application_credentials", wanted))[
        "application_credential"
    ]
    trust = {
        "trustor_user_id": ada.id,
        "trustee_user_id": corp.admin.id,
        "project_id": corp.project_id,
        "impersonation": False,
        "roles": [{"name": "member"}],
    }
    trust_id = corp.ok(201, ada.post(f"{V3}/OS-TRUST/trusts", {"trust": trust}))["trust"]["id"]

    def by_credential() -> Answer:
        part = {"id": made["id"], "secret": made["secret"]}
        identity = {"methods": ["application_credential"], "application_credential": part}
        return corp.cloud.nobody.post(f"{V3}/auth/tokens", {"auth": {"identity": identity}})

    def by_trust() -> Answer:
        identity = {"methods": ["token"], "token": {"id": corp.admin.token}}
        scope = {"OS-TRUST:trust": {"id": trust_id}}
        return corp.cloud.nobody.post(f"{V3}/auth/tokens", {"auth": {"identity": identity, "scope": scope}})

    first, second = by_credential(), by_trust()
    assert (first.status, second.status) == (201, 201)
    users = [User(corp.cloud, a.headers["x-subject-token"]) for a in (first, second)]
    assert [valid(u) for u in users] == [200, 200]
    corp.slapd.remove(corp.ada)
    corp.cloud.turn(61, every=61)
    assert [valid(u) for u in users] == [401, 401]
    assert by_credential().status == 401
    assert by_trust().status in (401, 403)
    corp.slapd.person("ada")
    corp.slapd.change(corp.dev, "member", corp.ada)
    assert corp.login("ada", "ada-pw", project=True).status == 201
    assert by_credential().status == 201


def test_a_domain_without_its_directory_has_no_more_of_its_users(corp: Corp) -> None:
    ada = corp.enter("ada")
    corp.ok(204, corp.admin.delete(f"{V3}/domains/{corp.id}/config"))
    assert valid(ada) == 401
    assert corp.names() == []
    assert corp.login("ada", "ada-pw").status == 401
    corp.configure()
    assert corp.enter("ada").id == ada.id
    corp.ok(200, corp.admin.patch(f"{V3}/domains/{corp.id}", {"domain": {"enabled": False}}))
    corp.ok(204, corp.admin.delete(f"{V3}/domains/{corp.id}"))


def test_renamed_and_exchanged_names(corp: Corp) -> None:
    before = {u["name"]: u["id"] for u in corp.users()}
    corp.slapd.change(corp.ada, "sn", "bob")
    corp.slapd.change(corp.bob, "sn", "ada")
    corp.cloud.turn(61, every=61)
    after = {u["name"]: u["id"] for u in corp.users()}
    assert after == {"ada": before["bob"], "bob": before["ada"]}


# -- read only ---------------------------------------------------------------------------------------------------------


def test_everything_that_writes_is_refused(corp: Corp) -> None:
    ada, dev, admin = corp.users("&name=ada")[0]["id"], corp.group_id("dev"), corp.admin
    home = {"name": "new", "domain_id": corp.id}
    refused = [
        admin.post(f"{V3}/users", {"user": {**home, "password": "some-pass-word"}}),
        admin.post(f"{V3}/groups", {"group": home}),
        admin.patch(f"{V3}/users/{ada}", {"user": {"enabled": False}}),
        admin.patch(f"{V3}/users/{ada}", {"user": {"password": "other-pass-word"}}),
        admin.delete(f"{V3}/users/{ada}"),
        admin.patch(f"{V3}/groups/{dev}", {"group": {"name": "x"}}),
        admin.delete(f"{V3}/groups/{dev}"),
        admin.put(f"{V3}/groups/{dev}/users/{ada}"),
        admin.delete(f"{V3}/groups/{dev}/users/{ada}"),
        admin.put(f"{V3}/groups/{dev}/users/{corp.cloud.alice.id}"),
        corp.cloud.nobody.post(
            f"{V3}/users/{ada}/password",
            {"user": {"original_password": "ada-pw", "password": "new-pass-word"}},
        ),
    ]
    assert [a.status for a in refused] == [403] * len(refused)
    assert all("directory" in a.json["error"]["message"] for a in refused)
    wrong = {"user": {"original_password": "wrong", "password": "new-pass-word"}}
    assert corp.cloud.nobody.post(f"{V3}/users/{ada}/password", wrong).status == 401
    assert corp.login("ada", "ada-pw").status == 201


# -- trouble -----------------------------------------------------------------------------------------------------------


def test_a_directory_that_is_down_is_no_trouble_for_others(corp: Corp) -> None:
    ada = corp.enter("ada")
    corp.slapd.stop()
    assert valid(ada) == 200  # known for the next minute
    got = corp.login("ada", "ada-pw")
    assert got.status == 503, got
    assert "directory of domain corp" in got.json["error"]["message"]
    assert corp.admin.get(f"{V3}/users?domain_id={corp.id}").status == 503
    assert corp.admin.get(f"{V3}/users").status == 200
    corp.cloud.turn(61, every=61)
    assert valid(ada) == 503
    assert corp.admin.get(f"{V3}/users/{ada.id}").status == 503
    assert corp.cloud.alice.get(f"{V3}/auth/projects").status == 200
    corp.slapd.start()
    assert corp.login("ada", "ada-pw").status == 503  # not asked again at once
    corp.cloud.turn(11, every=11)
    assert corp.login("ada", "ada-pw").status == 201
    assert valid(ada) == 200


def test_tls(corp: Corp) -> None:
    slapd = corp.slapd
    for options in ({"url": slapd.secure_url}, {"use_tls": True}):
        corp.configure(**options, tls_cacertfile=str(slapd.ca))
        assert corp.login("ada", "ada-pw").status == 201
        corp.configure(**options)  # the system's CAs didn't sign it
        assert corp.login("ada", "ada-pw").status == 503
        corp.cloud.turn(11, every=11)
        corp.configure(**options, tls_req_cert="never")
        assert corp.login("ada", "ada-pw").status == 201
        corp.configure(**options, tls_cacertfile="/nowhere")
        assert corp.login("ada", "ada-pw").status == 503
        corp.cloud.turn(11, every=11)


def test_wrong_bind_password_is_the_directorys_trouble(corp: Corp) -> None:
    corp.configure(password="wrong")
    assert corp.login("ada", "ada-pw").status == 503
    corp.cloud.turn(11, every=11)
    corp.configure(password=None)
    assert corp.login("ada", "ada-pw").status == 503


def test_a_tree_that_is_not_there_takes_nobody_away(corp: Corp) -> None:
    ada = corp.enter("ada")
    corp.configure(user_tree_dn=f"ou=Elsewhere,{SUFFIX}")
    assert valid(ada) == 503
    corp.cloud.turn(11, every=11)
    corp.configure()
    assert valid(ada) == 200


@pytest.mark.parametrize(
    "options",
    [
        {"user_filter": "title=Dr"},
        {"user_filter": "(title=Dr))(|(uid=*"},
        {"query_scope": "all"},
        {"page_size": -1},
        {"page_size": "many"},
        {"tls_req_cert": "perhaps"},
        {"user_name_attribute": "sn)(uid=*"},
        {"user_enabled_mask": 2},
        {"user_additional_attribute_mapping": ["title:name"]},
        {"password": 7},
    ],
)
def test_options_that_can_not_be(corp: Corp, options: dict[str, Any]) -> None:
    got = corp.put_config(**options)
    assert got.status == 400, got
    assert "ldap." in got.json["error"]["message"]
    assert corp.login("ada", "ada-pw").status == 201


@pytest.mark.parametrize(
    "options",
    [{"url": "http://127.0.0.1"}, {"url": ""}, {"url": "ldaps://127.0.0.1", "use_tls": True}],
)
def test_an_address_that_leads_nowhere_is_told_when_it_is_asked(corp: Corp, options: dict[str, Any]) -> None:
    """Upstream takes any text, and Tempest sends one that is no URL."""
    assert corp.put_config(**options).status == 200
    refused = corp.login("ada", "ada-pw")
    assert refused.status == 503
    assert "ldap." in refused.text
    corp.configure()
    assert corp.login("ada", "ada-pw").status == 201


def test_the_bind_password_is_shown_and_logged_to_nobody(
    corp: Corp, capsys: pytest.CaptureFixture[str]
) -> None:
    log.setup(level="debug")
    corp.configure(password="reads", url=corp.slapd.url)
    shown = corp.admin.get(f"{V3}/domains/{corp.id}/config").text
    assert "password" not in shown
    corp.login("ada", "ada-pw")
    corp.login("ada", "a-wrong-pw")
    corp.slapd.stop()
    corp.login("ada", "ada-pw")
    said = capsys.readouterr()
    assert "directory.down" in said.err
    assert not any(secret in said.err + said.out for secret in ("ada-pw", "a-wrong-pw", '"reads"'))
    with corp.cloud.db.read() as tx:
        kept = [r.value for r in tx.execute(directory.domain_config.select()) if r.option == "password"]
    assert kept != ["reads"]
    key_rotation.rotate_credential_keys(corp.cloud.cloud)
    corp.slapd.start()
    corp.cloud.turn(11, every=11)
    assert corp.login("ada", "ada-pw").status == 201


def test_directories_of_the_configuration_file(cloud: Bed, slapd: Slapd) -> None:
    corp = Corp(cloud, slapd)
    corp.ok(204, corp.admin.delete(f"{V3}/domains/{corp.id}/config"))
    assert corp.login("ada", "ada-pw").status == 401
    one = DomainDirectory(domain="corp", url=slapd.url, **LDAP)
    has_directories(cloud, one)
    assert corp.login("ada", "ada-pw").status == 201
    assert corp.names() == ["ada", "bob"]
    corp.configure(user_filter="(uid=bob)")  # a domain's own comes first
    assert corp.login("ada", "ada-pw").status == 401
    has_directories(cloud, DomainDirectory(domain="corp", url="http://x"))
    with cloud.db.begin() as tx, pytest.raises(ConfigError, match=r"ldap\.url"):
        directory.prepare(tx, cloud.cloud)


def has_directories(cloud: Bed, *directories: DomainDirectory) -> None:
    """As after a restart with these in the configuration file."""
    identity = msgspec.structs.replace(cloud.config.identity, directories=list(directories))
    cloud.cloud.config = msgspec.structs.replace(cloud.config, identity=identity)


def test_the_administrator_of_the_directory_is_nobody_here(corp: Corp) -> None:
    assert corp.login(ADMIN, ADMIN_PASSWORD).status == 401
    assert corp.login(corp.ada, "ada-pw").status == 401


def test_who_may_not_list_users_makes_nobody_ask(corp: Corp) -> None:
    corp.slapd.stop()
    assert corp.cloud.alice.get(f"{V3}/users?domain_id={corp.id}").status == 403
    assert corp.cloud.nobody.get(f"{V3}/users?domain_id={corp.id}").status == 401
