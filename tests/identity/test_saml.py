"""SAML2, with pysaml2's own identity provider: browsers, command lines, and all that must not let in."""

import base64
import html
import re
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lxml import etree

from tests.conftest import Answer, Bed, User
from tests.identity.saml_provider import SamlProvider

V3 = "/identity/v3"
FED = f"{V3}/OS-FEDERATION"
AT = f"{V3}/auth/OS-FEDERATION/identity_providers/corp/protocols/saml2"
DASHBOARD = "https://dashboard.example/auth/websso/"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
NS = {"saml": "urn:oasis:names:tc:SAML:2.0:assertion", "ds": "http://www.w3.org/2000/09/xmldsig#"}


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[SamlProvider]:
    home = tmp_path / "idp"
    home.mkdir()
    made = SamlProvider(home)
    yield made
    made.close()


RULES = [
    {"local": [{"user": {"name": "{0}", "id": "{1}"}}], "remote": [{"type": "uid"}, {"type": "NAME_ID"}]},
    {"local": [{"groups": "{0}", "domain": {"id": "default"}}], "remote": [{"type": "MELLON_groups"}]},
]


class Corp:
    """A cloud that lets people of one provider in, with a group `dev` that has a role on project `shop`."""

    def __init__(self, cloud: Bed, provider: SamlProvider) -> None:
        self.cloud, self.admin, self.provider = cloud, cloud.admin, provider
        identity = msgspec.structs.replace(cloud.config.identity, trusted_dashboards=[DASHBOARD])
        cloud.cloud.config = msgspec.structs.replace(cloud.config, identity=identity)
        admin = self.admin
        self.ok(201, admin.put(f"{FED}/identity_providers/corp", {"identity_provider": {"enabled": True}}))
        self.ok(201, admin.put(f"{FED}/mappings/corp", {"mapping": {"rules": RULES}}))
        at = f"{FED}/identity_providers/corp/protocols/saml2"
        self.ok(201, admin.put(at, {"protocol": {"mapping_id": "corp"}}))
        self.speaks()
        provider.sp_metadata = [cloud.nobody.get(f"{AT}/saml2/metadata").text]
        self.group_id = self.ok(201, admin.post(f"{V3}/groups", {"group": {"name": "dev"}}))["group"]["id"]
        made = self.ok(201, admin.post(f"{V3}/projects", {"project": {"name": "shop"}}))
        self.project_id = made["project"]["id"]
        role = next(r["id"] for r in admin.get(f"{V3}/roles").json["roles"] if r["name"] == "member")
        self.ok(204, admin.put(f"{V3}/projects/{self.project_id}/groups/{self.group_id}/roles/{role}"))

    def ok(self, status: int, answer: Answer) -> Any:
        assert answer.status == status, answer
        return answer.json if answer.text else None

    def speaks(self, **options: Any) -> Any:
        want = {"saml2": {"metadata": self.provider.metadata(), **options}}
        return self.ok(200, self.admin.put(f"{FED}/identity_providers/corp/saml2", want))["saml2"]

    def leave(self, path: str = f"{AT}/websso") -> tuple[str, str]:
        """A browser that begins: where it is sent, and its cookie."""
        got = self.cloud.nobody.get(f"{path}?origin={urllib.parse.quote(DASHBOARD)}")
        assert got.status == 302, got
        return got.headers["location"], got.headers["set-cookie"].partition(";")[0]

    def arrive(self, form: dict[str, str], cookie: str | None) -> Answer:
        headers = {**FORM, **({"Cookie": cookie} if cookie else {})}
        return self.cloud.nobody.post(
            f"{AT}/saml2/acs", data=urllib.parse.urlencode(form).encode(), headers=headers
        )

    def come(self, change: Callable[[str], str] = str) -> Answer:
        location, cookie = self.leave()
        return self.arrive(self.provider.browser(location, change)[1], cookie)

    def token(self, answer: Answer) -> User:
        assert answer.status == 200, answer
        found = re.search(r'name="token" value="([^"]+)"', answer.text)
        assert found
        return User(self.cloud, html.unescape(found[1]))

    def scoped(self, user: User) -> Answer:
        identity = {"methods": ["saml2"], "saml2": {"id": user.token}}
        scope = {"project": {"id": self.project_id}}
        return self.cloud.nobody.post(f"{V3}/auth/tokens", {"auth": {"identity": identity, "scope": scope}})


@pytest.fixture
def corp(cloud: Bed, provider: SamlProvider) -> Corp:
    return Corp(cloud, provider)


# -- what lets in ------------------------------------------------------------------------------------------------------


def test_a_browser_logs_in(corp: Corp) -> None:
    got = corp.come()
    assert f'action="{DASHBOARD}"' in got.text
    assert got.headers["cache-control"] == "no-store"
    user = corp.token(got)
    shown = corp.admin.get(f"{V3}/auth/tokens", headers={"X-Subject-Token": user.token}).json["token"]
    assert (shown["methods"], shown["user"]["name"]) == (["saml2"], "ada")
    assert shown["user"]["OS-FEDERATION"] == {
        "groups": [{"id": corp.group_id}],
        "identity_provider": {"id": "corp"},
        "protocol": {"id": "saml2"},
    }
    scoped = corp.scoped(user)
    assert scoped.status == 201, scoped
    again = corp.token(corp.come())
    shown_again = corp.admin.get(f"{V3}/auth/tokens", headers={"X-Subject-Token": again.token}).json["token"]
    assert shown_again["user"]["id"] == shown["user"]["id"]


def test_where_only_one_provider_has_the_protocol(corp: Corp) -> None:
    location, cookie = corp.leave(f"{V3}/auth/OS-FEDERATION/websso/saml2")
    corp.token(corp.arrive(corp.provider.browser(location)[1], cookie))


def test_a_form_from_another_site_comes_once_more_with_the_cookie(corp: Corp) -> None:
    """SameSite=Lax keeps the cookie from the provider's own form, so ours sends it again."""
    location, cookie = corp.leave()
    _, form = corp.provider.browser(location)
    first = corp.arrive(form, None)
    assert first.status == 200
    assert 'action=""' in first.text
    assert "token" not in first.text
    fields = {n: html.unescape(v) for n, v in re.findall(r'name="(\w+)" value="([^"]*)"', first.text)}
    assert fields == {**form, "again": "1"}
    corp.token(corp.arrive(fields, cookie))
    assert corp.arrive(fields, None).status == 401


def test_command_line(corp: Corp) -> None:
    """ECP, as keystoneauth's v3samlpassword does it."""
    user = ecp(corp)
    assert user.status == 201, user
    assert user.json["token"]["user"]["name"] == "ada"
    assert corp.scoped(User(corp.cloud, user.headers["x-subject-token"])).status == 201


def ecp(corp: Corp, change: Callable[[Any], None] = lambda _: None) -> Answer:
    soap, name = (
        "{http://schemas.xmlsoap.org/soap/envelope/}",
        "{urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp}",
    )
    asked = corp.cloud.nobody.get(
        f"{FED}/identity_providers/corp/protocols/saml2/auth",
        headers={
            "Accept": "application/json,application/vnd.paos+xml",
            "PAOS": 'ver="urn:liberty:paos:2003-08";"urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp"',
        },
    )
    assert (asked.status, asked.headers["content-type"]) == (200, "application/vnd.paos+xml"), asked
    root = etree.fromstring(asked.text.encode())
    state = root.find(f"{soap}Header/{name}RelayState")
    consumer = root.find(f"{soap}Header/{{urn:liberty:paos:2003-08}}Request").get("responseConsumerURL")
    root.remove(root[0])
    import requests

    got = requests.post(
        corp.provider.url + "/ecp", data=etree.tostring(root), auth=("ada", "ada-pw"), timeout=20
    )
    assert got.status_code == 200
    made = etree.fromstring(got.content)
    answer = made.find(f"{soap}Header/{name}Response")
    assert answer.get("AssertionConsumerServiceURL") == consumer
    made.find(f"{soap}Header").replace(answer, state)
    change(made)
    headers = {"Content-Type": "application/vnd.paos+xml"}
    return corp.cloud.nobody.post(f"{AT}/saml2/acs", data=etree.tostring(made), headers=headers)


def test_command_line_with_another_relay_state(corp: Corp) -> None:
    def state(text: str | None) -> Callable[[Any], None]:
        def change(root: Any) -> None:
            root.find(".//{urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp}RelayState").text = text

        return change

    assert ecp(corp, state(None)).status == 401
    assert ecp(corp, state("gAAAAA")).status == 401
    _location, cookie = corp.leave()
    assert ecp(corp, state(cookie.partition("=")[2])).status == 401


def test_what_nobody_asked_for(corp: Corp) -> None:
    """Keystone to Keystone brings assertions by itself: only where that is allowed, and once as well."""
    base = f"{corp.cloud.config.base_url}{AT}/saml2"

    def bring(envelope: str) -> Answer:
        headers = {"Content-Type": "application/vnd.paos+xml"}
        return corp.cloud.nobody.post(f"{AT}/saml2/acs", data=envelope.encode(), headers=headers)

    first = corp.provider.unasked(f"{base}/acs", f"{base}/metadata")
    assert bring(first).status == 401
    corp.speaks(allow_unsolicited=True)
    got = bring(first)
    assert got.status == 201, got
    assert got.json["token"]["user"]["name"] == "ada"
    assert bring(first).status == 401
    text = corp.provider.unasked(f"{base}/acs", f"{base}/metadata")
    inner = text[text.index("<S:Body>") + 8 : text.index("</S:Body>")]
    _, cookie = corp.leave()
    assert corp.arrive({"SAMLResponse": base64.b64encode(inner.encode()).decode()}, cookie).status == 401


# -- what doesn't ------------------------------------------------------------------------------------------------------


def test_an_assertion_lets_in_once(corp: Corp) -> None:
    location, cookie = corp.leave()
    _, form = corp.provider.browser(location)
    assert corp.arrive(form, cookie).status == 200
    assert corp.arrive(form, cookie).status == 401


def test_another_browser(corp: Corp) -> None:
    mine, theirs = corp.leave(), corp.leave()
    _, form = corp.provider.browser(mine[0])
    assert corp.arrive(form, theirs[1]).status == 401
    assert corp.arrive(form, "stackling_saml=gAAAAABx").status == 401
    assert corp.arrive(form, mine[1]).status == 200


def changed(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


def tree(change: Callable[[Any, Any], None]) -> Callable[[str], str]:
    """A change of the parsed response, given with its assertion."""

    def made(text: str) -> str:
        root = etree.fromstring(text.encode())
        change(root, root.find("saml:Assertion", NS))
        return etree.tostring(root).decode()

    return made


def evil(assertion: Any, *, signed: bool, id: str | None = None) -> Any:
    copy = etree.fromstring(etree.tostring(assertion))
    for value in copy.iterfind(".//saml:AttributeValue", NS):
        value.text = "admin"
    if id is not None:
        copy.set("ID", id)
    if not signed:
        copy.remove(copy.find("ds:Signature", NS))
    return copy


def beside(root: Any, good: Any) -> None:
    root.insert(0, evil(good, signed=False, id="_evil"))


def same_id(root: Any, good: Any) -> None:
    root.insert(0, evil(good, signed=False))


def wrapped_in_object(root: Any, good: Any) -> None:
    """The good one hides in the signature of the evil one, whose reference still leads to it."""
    bad = evil(good, signed=True, id="_evil")
    held = etree.SubElement(bad.find("ds:Signature", NS), "{http://www.w3.org/2000/09/xmldsig#}Object")
    root.replace(good, bad)
    held.append(good)


def wrapped_in_extensions(root: Any, good: Any) -> None:
    root.replace(good, evil(good, signed=True, id="_evil"))
    held = etree.Element("{urn:oasis:names:tc:SAML:2.0:protocol}Extensions")
    held.append(good)
    root.insert(1, held)


def wrapped_in_advice(root: Any, good: Any) -> None:
    bad = evil(good, signed=True, id="_evil")
    root.replace(good, bad)
    held = etree.SubElement(bad, f"{{{NS['saml']}}}Advice")
    held.append(good)


def unsigned(root: Any, good: Any) -> None:
    good.remove(good.find("ds:Signature", NS))


def signed_elsewhere(root: Any, good: Any) -> None:
    root.append(good.find("ds:Signature", NS))


def with_hmac(root: Any, good: Any) -> None:
    method = good.find(".//ds:SignatureMethod", NS)
    method.set("Algorithm", "http://www.w3.org/2000/09/xmldsig#hmac-sha1")


def own_key(root: Any, good: Any) -> None:
    for value in good.iterfind(".//ds:DigestValue", NS):
        value.text = base64.b64encode(bytes(32)).decode()


def another_destination(root: Any, good: Any) -> None:
    root.set("Destination", "https://elsewhere.example/acs")


def another_request(root: Any, good: Any) -> None:
    root.set("InResponseTo", "id-another")


@pytest.mark.parametrize(
    "change",
    [
        changed(">ada<", ">admin<"),
        changed('Version="2.0"', 'Version="2.1"'),
        lambda text: (
            "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>" + text.partition("?>")[2].strip()
        ),
        lambda text: "<!DOCTYPE x>" + (text.partition("?>")[2].strip() if text.startswith("<?") else text),
        lambda _: "not XML",
        lambda _: "<a/>",
        *(
            tree(change)
            for change in (
                beside,
                same_id,
                wrapped_in_object,
                wrapped_in_extensions,
                wrapped_in_advice,
                unsigned,
                signed_elsewhere,
                with_hmac,
                own_key,
                another_destination,
                another_request,
            )
        ),
    ],
)
def test_what_was_tampered_with(corp: Corp, change: Callable[[str], str]) -> None:
    got = corp.come(change)
    assert got.status == 401, got
    assert got.json["error"]["message"] == "The request you have made requires authentication."
    assert corp.come().status == 200


def test_an_assertion_that_is_over(corp: Corp) -> None:
    corp.provider.lifetime = {"minutes": -5}
    assert corp.come().status == 401


def test_weak_signatures(corp: Corp) -> None:
    from saml2.xmldsig import DIGEST_SHA1, SIG_RSA_SHA1

    corp.provider.algorithm, corp.provider.digest = SIG_RSA_SHA1, DIGEST_SHA1
    assert corp.come().status == 401


def test_weak_signatures_of_a_keystone(corp: Corp) -> None:
    """Which is an identity provider with SHA-1 to this day: where the operator says so."""
    from saml2.xmldsig import DIGEST_SHA1, SIG_RSA_SHA1

    corp.provider.algorithm, corp.provider.digest = SIG_RSA_SHA1, DIGEST_SHA1
    corp.speaks(allow_sha1=True)
    corp.token(corp.come())
    assert corp.come(changed(">ada<", ">admin<")).status == 401
    assert corp.come(tree(with_hmac)).status == 401


def test_a_signature_of_the_response_alone_is_not_enough(corp: Corp) -> None:
    corp.provider.signs = {"sign_assertion": False, "sign_response": True}
    assert corp.come().status == 401
    corp.provider.signs = {"sign_assertion": True, "sign_response": True}
    assert corp.come().status == 200


def test_another_provider_key(corp: Corp, tmp_path: Path) -> None:
    corp.provider._key()
    assert corp.come().status == 401


def test_an_assertion_for_another_service_provider(corp: Corp) -> None:
    """The provider made it for protocol `other` of the same provider: its audience and address are not ours."""
    at = f"{FED}/identity_providers/corp/protocols/other"
    corp.ok(201, corp.admin.put(at, {"protocol": {"mapping_id": "corp"}}))
    other = AT.removesuffix("saml2") + "other"
    corp.provider.sp_metadata.append(corp.cloud.nobody.get(f"{other}/saml2/metadata").text)
    location, cookie = corp.leave(f"{other}/websso")
    _, form = corp.provider.browser(location)
    assert corp.arrive(form, cookie).status == 401
    _, mine = corp.leave()
    assert corp.arrive(form, mine).status == 401


def test_an_assertion_for_another_cloud(corp: Corp) -> None:
    """Whoever forges the header Host does not make an assertion for another cloud one for this cloud."""
    ours = corp.cloud.config.base_url
    theirs = [corp.provider.sp_metadata[0].replace(ours, "http://evil.example")]
    location, cookie = corp.leave()
    asked = urllib.parse.urlsplit(location).query
    corp.provider.sp_metadata = theirs

    def change(request: str) -> str:
        return request.replace(ours, "http://evil.example")

    there, text = corp.provider.answer_to(asked, change)
    assert there.startswith("http://evil.example/")
    form = {"SAMLResponse": base64.b64encode(text.encode()).decode()}
    headers = {**FORM, "Cookie": cookie, "Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    data = urllib.parse.urlencode(form).encode()
    assert corp.cloud.nobody.post(f"{AT}/saml2/acs", data=data, headers=headers).status == 401


def test_disabled_provider(corp: Corp) -> None:
    location, cookie = corp.leave()
    _, form = corp.provider.browser(location)
    user = corp.token(corp.come())
    change = {"identity_provider": {"enabled": False}}
    corp.ok(200, corp.admin.patch(f"{FED}/identity_providers/corp", change))
    assert corp.arrive(form, cookie).status == 403
    assert user.get(f"{V3}/auth/projects").status == 401


def test_dashboards_that_are_not_trusted(corp: Corp) -> None:
    assert corp.cloud.nobody.get(f"{AT}/websso?origin=https://evil.example/").status == 401
    assert corp.cloud.nobody.get(f"{AT}/websso").status == 400


def test_forms_that_are_none(corp: Corp) -> None:
    _, cookie = corp.leave()
    for form in ({}, {"SAMLResponse": "%%%"}, {"SAMLResponse": ""}):
        assert corp.arrive(form, cookie).status in (400, 401)
    assert corp.arrive({"SAMLResponse": "A" * 900_000}, cookie).status == 413
    headers = {"Content-Type": "application/vnd.paos+xml"}
    assert corp.cloud.nobody.post(f"{AT}/saml2/acs", data=b"<x/>", headers=headers).status == 401


# -- encryption --------------------------------------------------------------------------------------------------------


ENC, ENC11 = "http://www.w3.org/2001/04/xmlenc#", "http://www.w3.org/2009/xmlenc11#"
OAEP = f"{ENC}rsa-oaep-mgf1p"
GCM = (f"{ENC11}aes256-gcm", OAEP, "aes-256")
SIGNED_TWICE = {"sign_assertion": True, "sign_response": True}


def test_encrypted_assertions(corp: Corp) -> None:
    seen: list[str] = []

    def look(text: str) -> str:
        seen.append(text)
        return text

    corp.provider.encrypts = GCM
    user = corp.token(corp.come(look))
    assert "EncryptedData" in seen[0]
    assert ">ada<" not in seen[0]
    assert corp.scoped(user).status == 201
    corp.provider.signs = SIGNED_TWICE
    corp.provider.encrypts = (f"{ENC}aes128-cbc", OAEP, "aes-128")
    assert ecp(corp).status == 201


def altered(root: Any) -> None:
    value = root.findall(f".//{{{ENC}}}CipherValue")[-1]
    middle = len(value.text) // 2
    value.text = value.text[:middle] + ("A" if value.text[middle] != "A" else "B") + value.text[middle + 1 :]


def from_a_file(root: Any) -> None:
    value = root.findall(f".//{{{ENC}}}CipherValue")[-1]
    value.tag = f"{{{ENC}}}CipherReference"
    value.text = None
    value.set("URI", "file:///etc/passwd")


def key_from_elsewhere(root: Any) -> None:
    info = root.find(f".//{{{ENC}}}EncryptedData/{{{NS['ds']}}}KeyInfo")
    etree.SubElement(info, f"{{{NS['ds']}}}RetrievalMethod").set("URI", "http://127.0.0.1:9/key")


def twice(root: Any) -> None:
    held = root.find("saml:EncryptedAssertion", NS)
    root.append(etree.fromstring(etree.tostring(held)))


def one_in_the_clear(root: Any) -> None:
    etree.SubElement(root, f"{{{NS['saml']}}}Assertion").set("ID", "_evil")


def deeper(root: Any) -> None:
    held = root.find("saml:EncryptedAssertion", NS)
    extensions = etree.SubElement(root, "{urn:oasis:names:tc:SAML:2.0:protocol}Extensions")
    extensions.append(held)


def test_encryption_that_was_tampered_with(corp: Corp) -> None:
    corp.provider.encrypts = GCM
    for change in (altered, from_a_file, key_from_elsewhere, twice, one_in_the_clear, deeper):

        def made(text: str, change: Callable[[Any], None] = change) -> str:
            root = etree.fromstring(text.encode())
            change(root)
            return etree.tostring(root).decode()

        got = corp.come(made)
        assert got.status == 401, change
        assert got.json["error"]["message"] == "The request you have made requires authentication."


def test_encryption_that_proves_nothing(corp: Corp) -> None:
    """Everybody can encrypt for us, so what is encrypted has to be signed; and old ciphers tell what they hide."""
    for how in ((f"{ENC}tripledes-cbc", OAEP, "des-192"), (GCM[0], f"{ENC}rsa-1_5", "aes-256")):
        corp.provider.encrypts = how
        assert corp.come().status == 401
    corp.provider.encrypts = GCM
    corp.provider.signs = {"sign_assertion": False, "sign_response": True}
    assert corp.come().status == 401
    location, cookie = corp.leave()
    corp.provider.signs, corp.provider.encrypts = SIGNED_TWICE, None
    clear = base64.b64decode(corp.provider.browser(location)[1]["SAMLResponse"]).decode()
    corp.provider.encrypts = GCM
    own = corp.provider.home / "cert.pem"
    for text in (
        corp.provider.encrypted(clear.replace(">ada<", ">admin<")),
        corp.provider.encrypted(clear, cert_file=own),  # for somebody else
    ):
        assert corp.arrive({"SAMLResponse": base64.b64encode(text.encode()).decode()}, cookie).status == 401
    good = {"SAMLResponse": base64.b64encode(corp.provider.encrypted(clear).encode()).decode()}
    assert corp.arrive(good, cookie).status == 200


# -- configuration -----------------------------------------------------------------------------------------------------


def test_how_a_provider_speaks_it(corp: Corp) -> None:
    at = f"{FED}/identity_providers/corp/saml2"
    shown = corp.admin.get(at).json["saml2"]
    assert (shown["entity_id"], shown["allow_unsolicited"]) == (corp.provider.entity_id, False)
    assert corp.cloud.alice.get(at).status == 403
    assert corp.cloud.alice.put(at, {"saml2": {"metadata": "x"}}).status == 403
    good = corp.provider.metadata()
    for wrong in (
        "",
        "<x/>",
        "<!DOCTYPE x>" + good,
        good.replace("IDPSSODescriptor", "SPSSODescriptor"),
        re.sub(r"(<[^>]*X509Certificate>).*?(</)", r"\1AAAA\2", good, flags=re.S),
        good.replace("http://127.0.0.1", "http://idp.example"),
    ):
        got = corp.admin.put(at, {"saml2": {"metadata": wrong}})
        assert got.status == 400, wrong[:200]
    assert corp.admin.put(at, {"saml2": {"metadata": good, "entity_id": "another"}}).status == 400
    assert corp.admin.put(f"{FED}/identity_providers/none/saml2", {"saml2": {"metadata": good}}).status == 404
    assert corp.admin.delete(at).status == 204
    assert corp.admin.get(at).status == 404
    assert corp.cloud.nobody.get(f"{AT}/saml2/metadata").status == 404
    assert corp.cloud.nobody.get(f"{AT}/websso?origin={urllib.parse.quote(DASHBOARD)}").status == 404


def test_our_metadata(corp: Corp) -> None:
    got = corp.cloud.nobody.get(f"{AT}/saml2/metadata")
    assert got.headers["content-type"] == "application/samlmetadata+xml"
    root = etree.fromstring(got.text.encode())
    assert root.get("entityID").endswith(f"{AT}/saml2/metadata")
    ours = root.find("{urn:oasis:names:tc:SAML:2.0:metadata}SPSSODescriptor")
    assert (ours.get("WantAssertionsSigned"), ours.get("AuthnRequestsSigned")) == ("true", "true")
    named = {
        use: root.find(f".//{{*}}KeyDescriptor[@use='{use}']//{{*}}X509Certificate").text
        for use in ("signing", "encryption")
    }
    assert named["signing"] != named["encryption"]
    for name in ("saml2", "saml2-encryption"):
        key = Path(corp.cloud.config.paths.state_dir) / "keys" / name / "key.pem"
        assert key.stat().st_mode & 0o77 == 0
