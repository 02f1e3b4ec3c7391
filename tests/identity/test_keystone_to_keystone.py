"""Keystone to Keystone: one cloud asserts to another who its users are; clients are keystoneauth's own."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from keystoneauth1 import exceptions, session
from keystoneauth1.identity import v3
from keystoneauth1.identity.v3.k2k import Keystone2Keystone
from lxml import etree

from stackling.identity.saml import identity_provider
from tests.conftest import Answer, Bed, User
from tests.identity.saml_provider import SamlProvider
from tests.identity.test_federated_clients import served, serving

__all__ = ["served"]  # a fixture
V3 = "/identity/v3"
FED = f"{V3}/OS-FEDERATION"
ASSERT = f"{V3}/auth/OS-FEDERATION/saml2"
AUTH = f"{FED}/identity_providers/home/protocols/mapped/auth"
PAOS = {"Content-Type": "application/vnd.paos+xml"}
NS = {
    "soap": "http://schemas.xmlsoap.org/soap/envelope/",
    "saml": "urn:oasis:names:tc:SAML:2.0:assertion",
    "samlp": "urn:oasis:names:tc:SAML:2.0:protocol",
    "ecp": "urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp",
    "md": "urn:oasis:names:tc:SAML:2.0:metadata",
}
RULES = [
    {
        "local": [
            {"user": {"name": "{0}"}},
            {"groups": "{1}"},
            {"projects": [{"name": "{2}-abroad", "roles": [{"name": "member"}]}]},
        ],
        "remote": [{"type": "openstack_user"}, {"type": "openstack_groups"}, {"type": "openstack_project"}],
    }
]


def ok(status: int, answer: Answer) -> Any:
    assert answer.status == status, answer
    return answer.json if answer.text else None


@pytest.fixture
def abroad(prepared: Path, tmp_path: Path) -> Iterator[Bed]:
    """A second cloud, to which users of the first one go."""
    home = tmp_path / "abroad"
    shutil.copytree(prepared, home)
    bed = Bed(f"sqlite:///{home / 'state.db'}", home, prepared=True)
    with serving(bed):
        yield bed
    bed.close()


def trusts(
    cloud: Bed, idp_id: str, remote: str, rules: list[Any], saml2: dict[str, Any] | None = None
) -> None:
    """Have `cloud` let in whom the provider `remote` asserts."""
    want = {"identity_provider": {"enabled": True, "remote_ids": [remote]}}
    ok(201, cloud.admin.put(f"{FED}/identity_providers/{idp_id}", want))
    ok(201, cloud.admin.put(f"{FED}/mappings/{idp_id}", {"mapping": {"rules": rules}}))
    at = f"{FED}/identity_providers/{idp_id}/protocols/mapped"
    ok(201, cloud.admin.put(at, {"protocol": {"mapping_id": idp_id}}))
    if saml2 is not None:
        ok(200, cloud.admin.put(f"{FED}/identity_providers/{idp_id}/saml2", {"saml2": saml2}))


def sends_to(home: Bed, sp_url: str, auth_url: str, **more: Any) -> None:
    """Have `home` know the service provider `abroad`."""
    want = {"sp_url": sp_url, "auth_url": auth_url, "enabled": True, **more}
    ok(201, home.admin.put(f"{FED}/service_providers/abroad", {"service_provider": want}))


def put_in_group(cloud: Bed, user: User, name: str) -> str:
    made: str = ok(201, cloud.admin.post(f"{V3}/groups", {"group": {"name": name}}))["group"]["id"]
    ok(204, cloud.admin.put(f"{V3}/groups/{made}/users/{user.id}"))
    return made


def wanted(token: str, sp_id: str = "abroad") -> dict[str, Any]:
    identity = {"methods": ["token"], "token": {"id": token}}
    return {"auth": {"identity": identity, "scope": {"service_provider": {"id": sp_id}}}}


def attributes(root: Any) -> dict[str, list[str]]:
    return {
        one.get("Name"): [value.text for value in one.iterfind("saml:AttributeValue", NS)]
        for one in root.iterfind(".//saml:Attribute", NS)
    }


@pytest.mark.parametrize("where", ["acs", "shibboleth"])
def test_from_one_cloud_to_another(served: Bed, abroad: Bed, where: str) -> None:
    alice = served.alice
    put_in_group(served, alice, "dév")
    there = ok(201, abroad.admin.post(f"{V3}/groups", {"group": {"name": "dév"}}))["group"]["id"]
    metadata = served.nobody.get(f"{FED}/saml2/metadata").text
    us = f"{served.config.base_url}{FED}/saml2/idp"
    trusts(abroad, "home", us, RULES, {"metadata": metadata, "allow_unsolicited": True})
    base = abroad.config.base_url
    acs = f"{base}{V3}/auth/OS-FEDERATION/identity_providers/home/protocols/mapped/saml2/acs"
    sp_url = acs if where == "acs" else f"{base}/Shibboleth.sso/SAML2/ECP"
    sends_to(served, sp_url, f"{base}{AUTH}")
    at_home = v3.Password(
        auth_url=f"{served.config.base_url}{V3}",
        username=alice.name,
        password=alice.password,
        user_domain_id="default",
        project_id=alice.project_id,
    )
    for scope in ({}, {"project_name": "blue-abroad", "project_domain_name": domain_of(abroad)}):
        plugin = Keystone2Keystone(at_home, "abroad", **scope)
        text = plugin.get_token(session.Session(auth=plugin))
        shown = abroad.admin.get(f"{V3}/auth/tokens", headers={"X-Subject-Token": text}).json["token"]
        assert shown["user"]["name"] == "alice"
        assert shown["user"]["OS-FEDERATION"] == {
            "groups": [{"id": there}],
            "identity_provider": {"id": "home"},
            "protocol": {"id": "mapped"},
        }
        assert shown.get("project", {}).get("name") == scope.get("project_name")
    ok(200, served.admin.patch(f"{FED}/service_providers/abroad", {"service_provider": {"enabled": False}}))
    with pytest.raises(exceptions.ClientException):
        Keystone2Keystone(at_home, "abroad").get_token(session.Session())


def domain_of(cloud: Bed) -> str:
    """The name of the domain that the provider's users are in."""
    idp = cloud.admin.get(f"{FED}/identity_providers/home").json["identity_provider"]
    return str(cloud.admin.get(f"{V3}/domains/{idp['domain_id']}").json["domain"]["name"])


def test_what_is_asserted(cloud: Bed) -> None:
    put_in_group(cloud, cloud.alice, "dev")
    sends_to(
        cloud, "https://sp.example/acs", "https://sp.example/v3/OS-FEDERATION/x", relay_state_prefix="rs:"
    )
    got = cloud.nobody.post(ASSERT, wanted(cloud.alice.token))
    assert got.status == 200, got
    assert got.headers["content-type"].partition(";")[0] == "text/xml"
    assert (got.headers["x-sp-url"], got.headers["x-auth-url"]) == (
        "https://sp.example/acs",
        "https://sp.example/v3/OS-FEDERATION/x",
    )
    root = etree.fromstring(got.content)
    us = f"{cloud.config.base_url}{FED}/saml2/idp"
    assert (etree.QName(root).localname, root.get("Destination")) == ("Response", "https://sp.example/acs")
    assert {i.text for i in root.iter(f"{{{NS['saml']}}}Issuer")} == {us}
    assert root.find(".//saml:SubjectConfirmationData", NS).get("Recipient") == "https://sp.example/acs"
    assert root.findtext(".//saml:NameID", namespaces=NS) == "alice"
    assert attributes(root) == {
        "openstack_user": ["alice"],
        "openstack_user_domain": ["Default"],
        "openstack_roles": ["member", "reader"],
        "openstack_project": ["blue"],
        "openstack_project_domain": ["Default"],
        "openstack_groups": ['JSON:{"name": "dev", "domain": {"name": "Default"}}'],
    }
    enveloped = cloud.nobody.post(f"{ASSERT}/ecp", wanted(cloud.alice.token))
    assert enveloped.status == 200, enveloped
    root = etree.fromstring(enveloped.content)
    state = root.find("soap:Header/ecp:RelayState", NS)
    assert state.text.startswith("rs:")
    assert state.get(f"{{{NS['soap']}}}mustUnderstand") == "1"
    assert root.find("soap:Body/samlp:Response", NS) is not None
    shown = cloud.alice.get(f"{V3}/auth/tokens", headers={"X-Subject-Token": cloud.alice.token}).json["token"]
    assert [sp["id"] for sp in shown["service_providers"]] == ["abroad"]
    acts = cloud.admin.get("/stackling/v1/audit?action=authenticate&limit=2").json["events"]
    assert [(a["target"]["id"], a["initiator"]["name"], a["outcome"]) for a in acts] == [
        ("abroad", "alice", "success")
    ] * 2


def test_metadata(cloud: Bed) -> None:
    got = cloud.nobody.get(f"{FED}/saml2/metadata")
    assert (got.status, got.headers["content-type"].partition(";")[0]) == (200, "text/xml")
    root = etree.fromstring(got.content)
    assert root.get("entityID") == f"{cloud.config.base_url}{FED}/saml2/idp"
    says = root.find("md:IDPSSODescriptor", NS)
    assert says.find("md:KeyDescriptor", NS).get("use") == "signing"
    assert says.find("md:SingleSignOnService", NS).get("Location").endswith("/OS-FEDERATION/saml2/sso")
    assert cloud.nobody.get(f"{FED}/saml2/metadata").text == got.text


def test_what_is_not_asserted(cloud: Bed) -> None:
    alice = cloud.alice
    assert cloud.nobody.post(ASSERT, wanted(alice.token)).status == 404
    sends_to(cloud, "https://sp.example/acs", "https://sp.example/auth", enabled=False)
    for path in (ASSERT, f"{ASSERT}/ecp"):
        assert cloud.nobody.post(path, wanted(alice.token)).status == 403
        assert cloud.nobody.get(path).status == 405
        for body in (
            {},
            {"auth": {}},
            {"auth": None},
            {"auth": {**wanted(alice.token)["auth"], "more": 1}},
            {"auth": {"identity": {"token": {"id": 7}}, "scope": {"service_provider": {"id": "abroad"}}}},
            {"auth": {"identity": {"token": {"id": alice.token}}, "scope": {"project": {"id": "x"}}}},
        ):
            assert cloud.nobody.post(path, body).status == 400, body
        assert cloud.nobody.post(path, data=b"{").status == 400
    on = {"service_provider": {"enabled": True}}
    ok(200, cloud.admin.patch(f"{FED}/service_providers/abroad", on))
    assert cloud.nobody.post(ASSERT, wanted("gAAAAAB")).status == 404
    assert cloud.nobody.post(ASSERT, wanted(cloud.login(alice.name, alice.password).token)).status == 403
    system = cloud.admin.put(f"{V3}/system/users/{alice.id}/roles/{role(cloud, 'reader')}")
    assert system.status == 204
    scoped = cloud.login(alice.name, alice.password, scope={"system": {"all": True}})
    assert cloud.nobody.post(ASSERT, wanted(scoped.token)).status == 403
    minimal = {"identity": {"token": {"id": alice.token}}, "scope": {"service_provider": {"id": "abroad"}}}
    assert cloud.nobody.post(ASSERT, {"auth": minimal}).status == 200
    ok(204, alice.delete(f"{V3}/auth/tokens", headers={"X-Subject-Token": alice.token}))
    assert cloud.nobody.post(ASSERT, wanted(alice.token)).status == 404


def role(cloud: Bed, name: str) -> str:
    return str(next(r["id"] for r in cloud.admin.get(f"{V3}/roles").json["roles"] if r["name"] == name))


def test_what_was_lent_is_asserted_without_groups(cloud: Bed) -> None:
    """Groups could give more over there than an application credential has here; its access rules mean nothing there."""
    alice = cloud.alice
    put_in_group(cloud, alice, "dev")
    sends_to(cloud, "https://sp.example/acs", "https://sp.example/auth")

    def token(**more: Any) -> str:
        want = {"application_credential": {"name": str(more), "roles": [{"name": "reader"}], **more}}
        made = ok(201, alice.post(f"{V3}/users/{alice.id}/application_credentials", want))
        made = made["application_credential"]
        part = {"id": made["id"], "secret": made["secret"]}
        identity = {"methods": ["application_credential"], "application_credential": part}
        return cloud.nobody.post(f"{V3}/auth/tokens", {"auth": {"identity": identity}}).headers[
            "x-subject-token"
        ]

    got = cloud.nobody.post(ASSERT, wanted(token()))
    assert got.status == 200, got
    held = attributes(etree.fromstring(got.content))
    assert held["openstack_roles"] == ["reader"]
    assert "openstack_groups" not in held
    rule = {"service": "compute", "method": "GET", "path": "/v2.1/servers"}
    assert cloud.nobody.post(ASSERT, wanted(token(access_rules=[rule]))).status == 404


def test_names_that_xml_can_not_hold(cloud: Bed) -> None:
    sends_to(cloud, "https://sp.example/acs", "https://sp.example/auth")
    alice = cloud.alice
    ok(200, cloud.admin.patch(f"{V3}/users/{alice.id}", {"user": {"name": "al\u0001ice"}}))
    got = cloud.nobody.post(ASSERT, wanted(alice.token))
    assert got.status == 400, got
    assert "XML" in got.json["error"]["message"]
    ok(200, cloud.admin.patch(f"{V3}/users/{alice.id}", {"user": {"name": "<ali&ce> é"}}))
    got = cloud.nobody.post(ASSERT, wanted(alice.token))
    assert attributes(etree.fromstring(got.content))["openstack_user"] == ["<ali&ce> é"]


def test_a_cloud_is_its_own_provider(served: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows its own metadata; what mod_shib does in front of other clouds is done here at the same place."""
    us = f"{served.config.base_url}{FED}/saml2/idp"
    trusts(
        served,
        "home",
        us,
        [{**RULES[0], "local": [{"user": {"name": "{0}"}}], "remote": RULES[0]["remote"][:1]}],
    )
    at = f"{served.config.base_url}/Shibboleth.sso/SAML2/ECP"
    sends_to(served, at, f"{served.config.base_url}{AUTH}")
    # Ids of a Keystone are 32 hex digits, and most begin with one that XML's type ID does not let them.
    monkeypatch.setattr(identity_provider, "_id", lambda: "7" + uuid.uuid4().hex[1:])
    envelope = served.nobody.post(f"{ASSERT}/ecp", wanted(served.alice.token)).content
    browser = requests.Session()
    assert browser.get(f"{served.config.base_url}{AUTH}", timeout=20).status_code == 401
    changed = envelope.replace(b">alice<", b">admin<")
    for bad in (changed, b"<x/>", b"", b"not XML"):
        got = browser.post(at, data=bad, headers=PAOS, allow_redirects=False, timeout=20)
        assert got.status_code == 401, got.text
    got = browser.post(at, data=envelope, headers=PAOS, allow_redirects=False, timeout=20)
    assert got.status_code == 302, got.text
    assert "HttpOnly" in got.headers["Set-Cookie"]
    again = requests.post(at, data=envelope, headers=PAOS, allow_redirects=False, timeout=20)
    assert again.status_code == 401
    came = browser.get(f"{served.config.base_url}{AUTH}", headers=PAOS, timeout=20)
    assert came.status_code == 201, came.text
    found = came.json()["token"]["user"]
    assert (found["name"], found["domain"]["name"]) == ("alice", domain_of(served))
    assert found["id"] != served.alice.id  # she is not the one who is here already
    other = AUTH.replace("/home/", "/other/")
    trusts(served, "other", "https://other.example", RULES)
    assert browser.get(f"{served.config.base_url}{other}", timeout=20).status_code == 401
    ok(200, served.admin.patch(f"{FED}/identity_providers/home", {"identity_provider": {"enabled": False}}))
    assert browser.get(f"{served.config.base_url}{AUTH}", timeout=20).status_code == 403
    requests.Session().get(
        f"{served.config.base_url}{AUTH}", cookies={"stackling_saml_session": "x"}, timeout=20
    )


def test_only_providers_who_may_send_somebody_unasked(served: Bed, tmp_path: Path) -> None:
    (tmp_path / "idp").mkdir()
    provider = SamlProvider(tmp_path / "idp")
    try:
        base = served.config.base_url
        at = f"{base}/Shibboleth.sso/SAML2/ECP"
        rules = [{"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "uid"}]}]
        asked = {"metadata": provider.metadata(), "allow_unsolicited": False}
        trusts(served, "home", provider.entity_id, rules, asked)

        def bring(destination: str = at, audience: str = f"{base}/shibboleth") -> int:
            envelope = provider.unasked(destination, audience)
            return requests.post(
                at, data=envelope.encode(), headers=PAOS, allow_redirects=False, timeout=20
            ).status_code

        assert bring() == 401
        asked["allow_unsolicited"] = True
        ok(200, served.admin.put(f"{FED}/identity_providers/home/saml2", {"saml2": asked}))
        assert bring() == 302
        assert bring(audience="https://other.example") == 401
        assert bring(destination=f"{base}/elsewhere") == 401
        provider.attributes = {
            "uid": "ada",
            "groups": [f"group {n} {'x' * 40} {n * 7919}" for n in range(1500)],
        }
        assert bring() == 401  # more than a cookie holds
    finally:
        provider.close()


def test_another_base_url_is_another_cloud(cloud: Bed) -> None:
    api = msgspec.structs.replace(cloud.config.api, public_url="https://cloud.example")
    cloud.cloud.config = msgspec.structs.replace(cloud.config, api=api)
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    got = cloud.nobody.get(f"{FED}/saml2/metadata", headers=headers)
    assert 'entityID="https://cloud.example/identity/v3/OS-FEDERATION/saml2/idp"' in got.text
    assert "evil" not in got.text
