"""Federation: providers, protocols, mappings, and users who come from a real OpenID provider on loopback."""

import base64
import hashlib
import hmac
import html
import json
import re
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from stackling.base.config import Config
from stackling.identity.actions import key_rotation
from stackling.identity.oidc import provider as oidc_provider
from tests.conftest import Answer, Bed, User
from tests.identity.oidc_provider import AUDIENCE, CLIENT_ID, CLIENT_SECRET, OidcProvider

V3 = "/identity/v3"
FED = f"{V3}/OS-FEDERATION"
AUTH = f"{FED}/identity_providers/corp/protocols/openid/auth"
WEBSSO = f"{V3}/auth/OS-FEDERATION/identity_providers/corp/protocols/openid/websso"
DASHBOARD = "https://dashboard.example/auth/websso/"


@pytest.fixture
def provider() -> Iterator[OidcProvider]:
    made = OidcProvider()
    yield made
    made.close()


def rules(*more: dict[str, Any], **user: Any) -> list[dict[str, Any]]:
    named = {"name": "{0}", "id": "{1}", **user}
    remote = [{"type": "HTTP_OIDC_PREFERRED_USERNAME"}, {"type": "HTTP_OIDC_SUB"}]
    return [{"local": [{"user": named}], "remote": remote}, *more]


BY_GROUP = {
    "local": [{"groups": "{0}", "domain": {"id": "default"}}],
    "remote": [{"type": "groups", "whitelist": ["dev", "ops"]}],
}


class Corp:
    """A cloud that lets people of one provider in, and a group `dev` with a role on project `shop`."""

    def __init__(self, cloud: Bed, provider: OidcProvider) -> None:
        self.cloud, self.admin, self.provider = cloud, cloud.admin, provider
        self.ok(
            201,
            self.admin.put(
                f"{FED}/identity_providers/corp",
                {"identity_provider": {"enabled": True, "remote_ids": [provider.issuer]}},
            ),
        )
        self.map(rules(BY_GROUP), new=True)
        self.ok(
            201,
            self.admin.put(
                f"{FED}/identity_providers/corp/protocols/openid", {"protocol": {"mapping_id": "corp"}}
            ),
        )
        self.oidc(
            issuer=provider.issuer, audiences=[AUDIENCE], client_id=CLIENT_ID, client_secret=CLIENT_SECRET
        )
        self.group_id = self.ok(201, self.admin.post(f"{V3}/groups", {"group": {"name": "dev"}}))["group"][
            "id"
        ]
        self.project_id = self.ok(201, self.admin.post(f"{V3}/projects", {"project": {"name": "shop"}}))[
            "project"
        ]["id"]
        self.roles = {r["name"]: r["id"] for r in self.admin.get(f"{V3}/roles").json["roles"]}
        self.ok(
            204,
            self.admin.put(
                f"{V3}/projects/{self.project_id}/groups/{self.group_id}/roles/{self.roles['member']}"
            ),
        )

    def ok(self, status: int, answer: Answer) -> Any:
        assert answer.status == status, answer
        return answer.json if answer.text else None

    def map(self, wanted: list[dict[str, Any]], *, new: bool = False, version: str = "1.0") -> None:
        body = {"mapping": {"rules": wanted, "schema_version": version}}
        call = self.admin.put if new else self.admin.patch
        self.ok(201 if new else 200, call(f"{FED}/mappings/corp", body))

    def oidc(self, **options: Any) -> Any:
        return self.ok(200, self.admin.put(f"{FED}/identity_providers/corp/oidc", {"oidc": options}))["oidc"]

    def come(self, text: str) -> Answer:
        return self.cloud.nobody.post(AUTH, headers={"Authorization": f"Bearer {text}"})

    def enter(self, **claims: Any) -> User:
        """Somebody of the provider, with an unscoped token."""
        got = self.come(self.provider.token(**claims))
        assert got.status == 201, got
        return User(self.cloud, got.headers["x-subject-token"], id=got.json["token"]["user"]["id"])

    def scoped(self, user: User, method: str = "token", **scope: Any) -> Answer:
        identity = {"methods": [method], method: {"id": user.token}}
        wanted = scope or {"project": {"id": self.project_id}}
        return self.cloud.nobody.post(f"{V3}/auth/tokens", {"auth": {"identity": identity, "scope": wanted}})


@pytest.fixture
def corp(cloud: Bed, provider: OidcProvider) -> Corp:
    return Corp(cloud, provider)


# -- configuration -----------------------------------------------------------------------------------------------------


def test_identity_providers(cloud: Bed, admin: User) -> None:
    made = admin.put(
        f"{FED}/identity_providers/acme",
        {"identity_provider": {"remote_ids": ["a", "b"], "description": "d"}},
    )
    assert made.status == 201, made
    shown = made.json["identity_provider"]
    assert {k: shown[k] for k in ("id", "enabled", "description", "authorization_ttl")} == {
        "id": "acme",
        "enabled": False,
        "description": "d",
        "authorization_ttl": None,
    }
    assert sorted(shown["remote_ids"]) == ["a", "b"]
    assert shown["links"]["self"].endswith("/v3/OS-FEDERATION/identity_providers/acme")
    assert shown["links"]["protocols"] == shown["links"]["self"] + "/protocols"
    domain = admin.get(f"{V3}/domains/{shown['domain_id']}").json["domain"]
    assert domain["enabled"] is True
    assert admin.put(f"{FED}/identity_providers/acme", {"identity_provider": {}}).status == 409
    assert (
        admin.put(f"{FED}/identity_providers/other", {"identity_provider": {"remote_ids": ["a"]}}).status
        == 409
    )
    assert (
        admin.put(f"{FED}/identity_providers/other", {"identity_provider": {"domain_id": "nowhere"}}).status
        == 404
    )
    assert admin.put(f"{FED}/identity_providers/other", {"identity_provider": {"more": 1}}).status == 400
    assert (
        admin.patch(f"{FED}/identity_providers/acme", {"identity_provider": {"domain_id": "default"}}).status
        == 400
    )
    changed = admin.patch(
        f"{FED}/identity_providers/acme", {"identity_provider": {"enabled": True, "authorization_ttl": 5}}
    )
    assert (changed.status, changed.json["identity_provider"]["authorization_ttl"]) == (200, 5)
    assert [
        p["id"] for p in admin.get(f"{FED}/identity_providers?enabled=true").json["identity_providers"]
    ] == ["acme"]
    assert admin.get(f"{FED}/identity_providers?id=none").json["identity_providers"] == []
    assert cloud.alice.get(f"{FED}/identity_providers").status == 403
    assert cloud.alice.put(f"{FED}/identity_providers/mine", {"identity_provider": {}}).status == 403
    assert admin.delete(f"{FED}/identity_providers/acme").status == 204
    assert admin.get(f"{FED}/identity_providers/acme").status == 404


def test_protocols_and_mappings(cloud: Bed, admin: User) -> None:
    assert admin.put(f"{FED}/identity_providers/acme", {"identity_provider": {}}).status == 201
    at = f"{FED}/identity_providers/acme/protocols"
    assert admin.put(f"{at}/openid", {"protocol": {"mapping_id": "m"}}).status == 400
    assert admin.put(f"{FED}/mappings/m", {"mapping": {"rules": []}}).status == 400
    assert admin.put(f"{FED}/mappings/m", {"mapping": {}}).status == 400
    bad = rules()
    bad[0]["local"][0]["user"]["name"] = "{7}"
    refused = admin.put(f"{FED}/mappings/m", {"mapping": {"rules": bad}})
    assert refused.status == 400
    assert "{7} refers to a value" in refused.json["error"]["message"]
    made = admin.put(f"{FED}/mappings/m", {"mapping": {"rules": rules()}})
    assert made.status == 201, made
    assert made.json["mapping"]["rules"] == rules()
    assert admin.put(f"{FED}/mappings/m", {"mapping": {"rules": rules()}}).status == 409
    assert [m["id"] for m in admin.get(f"{FED}/mappings").json["mappings"]] == ["m"]
    assert (
        admin.put(f"{FED}/mappings/n", {"mapping": {"rules": rules(), "schema_version": "3.0"}}).status == 400
    )
    for sent, shown in (("2.0", "2.0"), (None, "2.0"), ("1.0", "1.0")):
        changed = admin.patch(f"{FED}/mappings/m", {"mapping": {"rules": rules(), "schema_version": sent}})
        assert (changed.status, changed.json["mapping"]["schema_version"]) == (200, shown)
    made = admin.put(f"{at}/openid", {"protocol": {"mapping_id": "m"}})
    assert made.status == 201, made
    assert made.json["protocol"]["links"]["identity_provider"].endswith("/identity_providers/acme")
    assert admin.put(f"{at}/openid", {"protocol": {"mapping_id": "m"}}).status == 409
    assert (
        admin.put(f"{FED}/identity_providers/none/protocols/openid", {"protocol": {"mapping_id": "m"}}).status
        == 404
    )
    assert [p["id"] for p in admin.get(at).json["protocols"]] == ["openid"]
    assert admin.patch(f"{at}/openid", {"protocol": {"mapping_id": "none"}}).status == 400
    assert admin.delete(f"{at}/openid").status == 204
    assert admin.get(f"{at}/openid").status == 404
    assert admin.delete(f"{FED}/mappings/m").status == 204
    assert cloud.alice.get(f"{FED}/mappings").status == 403


def test_service_providers(cloud: Bed, admin: User) -> None:
    wanted = {
        "auth_url": "https://far.example/v3/OS-FEDERATION/x",
        "sp_url": "https://far.example/Shibboleth.sso",
    }
    made = admin.put(f"{FED}/service_providers/far", {"service_provider": wanted})
    assert made.status == 201, made
    shown = made.json["service_provider"]
    assert (shown["enabled"], shown["relay_state_prefix"], shown["auth_url"]) == (
        False,
        "ss:mem:",
        wanted["auth_url"],
    )
    assert admin.put(f"{FED}/service_providers/far", {"service_provider": wanted}).status == 409
    assert admin.put(f"{FED}/service_providers/x", {"service_provider": {"auth_url": "x"}}).status == 400
    assert admin.patch(f"{FED}/service_providers/far", {"service_provider": {"enabled": True}}).status == 200
    assert cloud.alice.get(f"{FED}/service_providers").status == 403
    assert admin.delete(f"{FED}/service_providers/far").status == 204
    assert admin.get(f"{FED}/service_providers/far").status == 404


def test_openid_connect_of_a_provider(corp: Corp) -> None:
    at, admin = f"{FED}/identity_providers/corp/oidc", corp.admin
    shown = admin.get(at).json["oidc"]
    assert (shown["issuer"], shown["audiences"], shown["client_id"]) == (
        corp.provider.issuer,
        [AUDIENCE],
        CLIENT_ID,
    )
    assert CLIENT_SECRET not in admin.get(at).text
    assert "client_secret" not in shown
    assert "oidc" not in admin.get(f"{FED}/identity_providers/corp").json["identity_provider"]
    issuer = "https://idp.example"
    for wrong in (
        {},
        {"issuer": issuer},
        {"issuer": "http://idp.example", "audiences": ["a"]},
        {"issuer": "file:///etc/passwd", "audiences": ["a"]},
        {"issuer": "https://user:pass@idp.example", "audiences": ["a"]},
        {"issuer": "https://", "audiences": ["a"]},
        {"issuer": issuer, "audiences": ["a"], "jwks_uri": "http://169.254.169.254/keys"},
        {"issuer": issuer, "audiences": "a"},
        {"issuer": issuer, "audiences": [""]},
        {"issuer": issuer, "audiences": ["a"], "more": 1},
        {"issuer": issuer, "client_id": "c", "introspection_endpoint": "http://idp.example/introspection"},
        {"issuer": issuer, "audiences": ["a"], "introspection_endpoint": "https://idp.example/introspection"},
        {"issuer": issuer, "audiences": ["a"], "userinfo": "yes"},
    ):
        assert admin.put(at, {"oidc": wrong}).status == 400, wrong
    assert corp.cloud.alice.get(at).status == 403
    assert corp.cloud.alice.put(at, {"oidc": {"issuer": issuer, "audiences": ["a"]}}).status == 403
    assert (
        admin.put(
            f"{FED}/identity_providers/none/oidc", {"oidc": {"issuer": issuer, "audiences": ["a"]}}
        ).status
        == 404
    )
    assert admin.delete(at).status == 204
    assert admin.get(at).status == 404
    assert corp.come(corp.provider.token()).status == 404


# -- logging in --------------------------------------------------------------------------------------------------------


def test_a_user_comes_in_and_works(corp: Corp) -> None:
    got = corp.come(corp.provider.token())
    assert got.status == 201, got
    token = got.json["token"]
    idp = corp.admin.get(f"{FED}/identity_providers/corp").json["identity_provider"]
    assert token["methods"] == ["openid"]
    assert token["user"]["name"] == "ada"
    assert token["user"]["domain"]["id"] == idp["domain_id"]
    assert token["user"]["OS-FEDERATION"] == {
        "groups": [{"id": corp.group_id}],
        "identity_provider": {"id": "corp"},
        "protocol": {"id": "openid"},
    }
    assert not {"project", "domain", "system", "roles", "catalog"} & set(token)
    ada = corp.enter()
    assert ada.id == token["user"]["id"]
    for path in (f"{V3}/auth/projects", f"{FED}/projects"):
        assert [p["id"] for p in ada.get(path).json["projects"]] == [corp.project_id]
    for path in (f"{V3}/auth/domains", f"{FED}/domains"):
        assert ada.get(path).json["domains"] == []
    for method in ("token", "mapped", "saml2"):
        scoped = corp.scoped(ada, method)
        assert scoped.status == 201, scoped
        shown = scoped.json["token"]
        assert [r["name"] for r in shown["roles"]] == ["member", "reader"]
        assert shown["user"]["OS-FEDERATION"]["identity_provider"] == {"id": "corp"}
        assert "openid" in shown["methods"]
        seen = corp.admin.get(
            f"{V3}/auth/tokens", headers={"X-Subject-Token": scoped.headers["x-subject-token"]}
        )
        assert seen.json["token"]["user"] == shown["user"]
    user = corp.admin.get(f"{V3}/users/{ada.id}").json["user"]
    assert (user["name"], user["enabled"], user["domain_id"]) == ("ada", True, idp["domain_id"])


def test_one_call_to_a_scoped_token(corp: Corp) -> None:
    """For workloads: the provider's token in the body or in the header, and a scope."""
    named = {"identity_provider": "corp", "protocol": "openid"}
    scope = {"project": {"id": corp.project_id}}
    text = corp.provider.token()

    def ask(method: str, part: dict[str, Any], **headers: str) -> Answer:
        auth = {"identity": {"methods": [method], method: part}, "scope": scope}
        return corp.cloud.nobody.post(f"{V3}/auth/tokens", {"auth": auth}, headers=headers)

    for answer in (
        ask("mapped", {**named, "access_token": text}),
        ask("openid", {**named, "access_token": text}),
        ask("mapped", named, Authorization=f"Bearer {text}"),
    ):
        assert answer.status == 201, answer
        assert answer.json["token"]["project"]["id"] == corp.project_id
    assert ask("mapped", named).status == 401
    assert ask("mapped", {}).status == 400
    assert ask("mapped", {"id": corp.cloud.alice.token}).status == 401


def test_it_is_the_subject_that_counts(corp: Corp) -> None:
    first = corp.enter()
    assert corp.enter(preferred_username="ada.lovelace").id == first.id
    assert corp.admin.get(f"{V3}/users/{first.id}").json["user"]["name"] == "ada.lovelace"
    other = corp.enter(sub="78", preferred_username="ada.lovelace")
    assert other.id != first.id
    assert corp.admin.get(f"{V3}/users/{other.id}").json["user"]["name"] == "ada.lovelace (78)"


def test_nobody_becomes_a_user_of_the_same_name(corp: Corp) -> None:
    """A provider whose users live in the default domain does not hand out that domain's own users."""
    admin = corp.admin
    assert (
        admin.put(
            f"{FED}/identity_providers/near", {"identity_provider": {"enabled": True, "domain_id": "default"}}
        ).status
        == 201
    )
    assert (
        admin.put(
            f"{FED}/identity_providers/near/protocols/openid", {"protocol": {"mapping_id": "corp"}}
        ).status
        == 201
    )
    oidc = {"issuer": corp.provider.issuer, "audiences": [AUDIENCE]}
    assert admin.put(f"{FED}/identity_providers/near/oidc", {"oidc": oidc}).status == 200
    at = f"{FED}/identity_providers/near/protocols/openid/auth"
    text = corp.provider.token(preferred_username="admin")
    got = corp.cloud.nobody.post(at, headers={"Authorization": f"Bearer {text}"})
    assert got.status == 201, got
    assert got.json["token"]["user"]["id"] != admin.id
    assert got.json["token"]["user"]["name"] == "admin (77)"
    assert got.json["token"]["user"]["domain"]["id"] == "default"


def test_groups_follow_what_the_provider_says(corp: Corp) -> None:
    ada = corp.enter()
    old = corp.scoped(ada)
    assert old.status == 201
    assert (
        corp.admin.get(
            f"{V3}/auth/tokens", headers={"X-Subject-Token": old.headers["x-subject-token"]}
        ).status
        == 200
    )
    again = corp.enter(groups=["ops", "admins"])
    assert corp.scoped(again).status == 401
    assert again.get(f"{V3}/auth/projects").json["projects"] == []
    # What the user got by a group that he is not in any more is over at once.
    assert (
        corp.admin.get(
            f"{V3}/auth/tokens", headers={"X-Subject-Token": old.headers["x-subject-token"]}
        ).status
        == 404
    )


def test_groups_end_by_themselves(corp: Corp) -> None:
    """With a time to live of the provider, application credentials work as long; without, as long as a token."""
    cloud, made = corp.cloud, []
    for ttl in (None, 180):
        corp.ok(
            200,
            corp.admin.patch(
                f"{FED}/identity_providers/corp", {"identity_provider": {"authorization_ttl": ttl}}
            ),
        )
        ada = corp.enter()
        scoped = corp.scoped(ada)
        user = User(cloud, scoped.headers["x-subject-token"], id=ada.id)
        body = {"application_credential": {"name": f"for {ttl}"}}
        made.append(
            corp.ok(201, user.post(f"{V3}/users/{ada.id}/application_credentials", body))[
                "application_credential"
            ]
        )

    def by(one: dict[str, Any]) -> Answer:
        part = {"id": one["id"], "secret": one["secret"]}
        return cloud.nobody.post(
            f"{V3}/auth/tokens",
            {"auth": {"identity": {"methods": ["application_credential"], "application_credential": part}}},
        )

    got = by(made[0])
    assert got.status == 201, got
    held = User(cloud, got.headers["x-subject-token"])
    assert held.get(f"{V3}/auth/projects").status == 200
    cloud.clock.turn(179 * 60)
    got = by(made[0])
    assert got.status == 201, got
    held = User(cloud, got.headers["x-subject-token"])
    assert held.get(f"{V3}/auth/projects").status == 200
    cloud.clock.turn(2 * 60)  # the token that was just looked at ends with the group, not with its own time
    assert held.get(f"{V3}/auth/projects").status == 401
    assert by(made[0]).status == 401


def test_projects_are_provided(corp: Corp) -> None:
    wanted = [
        {"name": "Project for {0}", "roles": [{"name": "member"}]},
        {"name": "Common", "roles": [{"name": "reader"}]},
    ]
    provide = {"local": [{"projects": wanted}], "remote": [{"type": "preferred_username"}]}
    corp.map(rules(provide))
    ada = corp.enter()
    found = {p["name"]: p for p in ada.get(f"{V3}/auth/projects").json["projects"]}
    assert sorted(found) == ["Common", "Project for ada"]
    idp = corp.admin.get(f"{FED}/identity_providers/corp").json["identity_provider"]
    assert {p["domain_id"] for p in found.values()} == {idp["domain_id"]}
    scoped = corp.scoped(ada, project={"id": found["Project for ada"]["id"]})
    assert [r["name"] for r in scoped.json["token"]["roles"]] == ["member", "reader"]
    corp.enter()  # a second time makes nothing
    assert len(corp.admin.get(f"{V3}/projects?domain_id={idp['domain_id']}").json["projects"]) == 2
    wanted[0]["roles"] = [{"name": "emperor"}]
    corp.map(rules(provide))
    assert corp.come(corp.provider.token()).status == 401


def test_domains_in_mappings(corp: Corp) -> None:
    user = {"domain": {"name": "Default"}}
    corp.map(rules(**user))
    first = corp.come(corp.provider.token(sub="1")).json["token"]["user"]
    assert first["domain"]["id"] != "default"  # schema 1.0 puts everybody in the provider's domain
    corp.map(rules(**user), version="2.0")
    second = corp.come(corp.provider.token(sub="2")).json["token"]["user"]
    assert second["domain"]["id"] == "default"
    corp.map(rules(domain={"name": "nowhere"}), version="2.0")
    assert corp.come(corp.provider.token(sub="3")).status == 401


def test_local_users(corp: Corp) -> None:
    alice = corp.cloud.alice
    corp.map(
        [
            {
                "local": [{"user": {"name": "{0}", "type": "local", "domain": {"id": "default"}}}],
                "remote": [{"type": "preferred_username"}],
            }
        ]
    )
    assert corp.come(corp.provider.token()).status == 401
    got = corp.come(corp.provider.token(preferred_username="alice"))
    assert got.status == 201, got
    assert got.json["token"]["user"]["id"] == alice.id
    assert "OS-FEDERATION" not in got.json["token"]["user"]
    corp.ok(200, corp.admin.patch(f"{V3}/users/{alice.id}", {"user": {"enabled": False}}))
    assert corp.come(corp.provider.token(preferred_username="alice")).status == 401


def test_tokens_end_with_provider_protocol_or_user(corp: Corp) -> None:
    admin = corp.admin
    ada = corp.enter()
    scoped = User(corp.cloud, corp.scoped(ada).headers["x-subject-token"])
    assert scoped.get(f"{V3}/auth/projects").status == 200
    corp.ok(200, admin.patch(f"{FED}/identity_providers/corp", {"identity_provider": {"enabled": False}}))
    assert scoped.get(f"{V3}/auth/projects").status == 401
    assert corp.come(corp.provider.token()).status == 403
    corp.ok(200, admin.patch(f"{FED}/identity_providers/corp", {"identity_provider": {"enabled": True}}))
    assert scoped.get(f"{V3}/auth/projects").status == 200
    corp.ok(200, admin.patch(f"{V3}/users/{ada.id}", {"user": {"enabled": False}}))
    assert corp.come(corp.provider.token()).status == 401
    corp.ok(200, admin.patch(f"{V3}/users/{ada.id}", {"user": {"enabled": True}}))
    ada = corp.enter()
    corp.ok(204, admin.delete(f"{FED}/identity_providers/corp/protocols/openid"))
    assert ada.get(f"{V3}/auth/projects").status == 401
    assert corp.come(corp.provider.token()).status == 404
    assert admin.get(f"{V3}/users/{ada.id}").status == 404  # nobody could come in as this user again
    corp.ok(204, admin.delete(f"{FED}/identity_providers/corp"))
    assert corp.come(corp.provider.token()).status == 404


def test_with_a_domain_go_its_providers_and_their_users(corp: Corp) -> None:
    admin = corp.admin
    corp.map(rules(domain={"id": "default"}), version="2.0")
    ada = corp.enter()  # lives in another domain than the provider
    idp = admin.get(f"{FED}/identity_providers/corp").json["identity_provider"]
    corp.ok(200, admin.patch(f"{V3}/domains/{idp['domain_id']}", {"domain": {"enabled": False}}))
    corp.ok(204, admin.delete(f"{V3}/domains/{idp['domain_id']}"))
    assert admin.get(f"{FED}/identity_providers/corp").status == 404
    assert admin.get(f"{V3}/users/{ada.id}").status == 404


def test_remote_ids(corp: Corp) -> None:
    at = f"{FED}/identity_providers/corp/protocols/openid"
    corp.ok(
        200,
        corp.admin.patch(at, {"protocol": {"mapping_id": "corp", "remote_id_attribute": "HTTP_OIDC_ISS"}}),
    )
    corp.enter()
    corp.ok(
        200,
        corp.admin.patch(
            f"{FED}/identity_providers/corp", {"identity_provider": {"remote_ids": ["elsewhere"]}}
        ),
    )
    assert corp.come(corp.provider.token()).status == 403


def test_the_attribute_federated(corp: Corp) -> None:
    admin, cloud = corp.admin, corp.cloud
    mine = [{"idp_id": "corp", "protocols": [{"protocol_id": "openid", "unique_id": "77"}]}]
    made = admin.post(f"{V3}/users", {"user": {"name": "lovelace", "federated": mine}})
    assert made.status == 201, made
    user = made.json["user"]
    assert user["federated"] == mine
    assert corp.enter().id == user["id"]
    assert admin.get(f"{V3}/users/{user['id']}").json["user"]["name"] == "lovelace"
    for query, found in (
        ("unique_id=77", 1),
        ("idp_id=corp&protocol_id=openid", 1),
        ("idp_id=other", 0),
        ("unique_id=7", 0),
    ):
        assert len(admin.get(f"{V3}/users?{query}").json["users"]) == found, query
    assert "federated" not in admin.get(f"{V3}/users/{cloud.alice.id}").json["user"]
    at = f"{V3}/users/{cloud.alice.id}"
    assert admin.patch(at, {"user": {"federated": mine}}).status == 409
    for wrong in (
        5,
        [5],
        [{"idp_id": "corp"}],
        [{"idp_id": "none", "protocols": [{"protocol_id": "openid", "unique_id": "1"}]}],
    ):
        assert admin.patch(at, {"user": {"federated": wrong}}).status == 400, wrong
    assert admin.patch(f"{V3}/users/{user['id']}", {"user": {"federated": []}}).status == 200
    assert corp.enter().id != user["id"]
    # The provider goes, and with it only those who have no other way in.
    assert (
        admin.patch(
            at,
            {
                "user": {
                    "federated": [
                        {"idp_id": "corp", "protocols": [{"protocol_id": "openid", "unique_id": "78"}]}
                    ]
                }
            },
        ).status
        == 200
    )
    assert corp.enter(sub="78").id == cloud.alice.id
    corp.ok(204, admin.delete(f"{FED}/identity_providers/corp"))
    assert "federated" not in admin.get(at).json["user"]


def test_a_domains_manager_catches_nobodys_login(corp: Corp) -> None:
    cloud, admin = corp.cloud, corp.admin
    made = admin.post(f"{V3}/users", {"user": {"name": "mona", "password": "mona-pass-word"}}).json["user"]
    corp.ok(204, admin.put(f"{V3}/domains/default/users/{made['id']}/roles/{corp.roles['manager']}"))
    mona = cloud.login("mona", "mona-pass-word", scope={"domain": {"id": "default"}})
    plain = {"name": "trap", "password": "trap-pass-word", "domain_id": "default"}
    mine = [{"idp_id": "corp", "protocols": [{"protocol_id": "openid", "unique_id": "77"}]}]
    assert mona.post(f"{V3}/users", {"user": {**plain, "federated": mine}}).status == 403
    trap = mona.post(f"{V3}/users", {"user": plain})
    assert trap.status == 201, trap
    assert mona.patch(f"{V3}/users/{trap.json['user']['id']}", {"user": {"federated": mine}}).status == 403


def test_first_logins_at_once_make_one_user(corp: Corp) -> None:
    corp.enter(sub="warm")
    texts = [corp.provider.token() for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(corp.come, texts))
    assert {a.status for a in answers} == {201}
    assert len({a.json["token"]["user"]["id"] for a in answers}) == 1


def test_the_trusts_of_a_user_whose_provider_is_off(corp: Corp) -> None:
    cloud, ada = corp.cloud, corp.enter()
    scoped = User(cloud, corp.scoped(ada).headers["x-subject-token"], id=ada.id)
    trust = {
        "trustor_user_id": ada.id,
        "trustee_user_id": cloud.alice.id,
        "project_id": corp.project_id,
        "impersonation": False,
        "roles": [{"name": "member"}],
    }
    made = corp.ok(201, scoped.post(f"{V3}/OS-TRUST/trusts", {"trust": trust}))["trust"]

    def use() -> int:
        password = {"user": {"id": cloud.alice.id, "password": cloud.alice.password}}
        auth = {
            "identity": {"methods": ["password"], "password": password},
            "scope": {"OS-TRUST:trust": {"id": made["id"]}},
        }
        return cloud.nobody.post(f"{V3}/auth/tokens", {"auth": auth}).status

    assert use() == 201
    corp.ok(
        200, corp.admin.patch(f"{FED}/identity_providers/corp", {"identity_provider": {"enabled": False}})
    )
    assert use() in (401, 403)


# -- hostile tokens ----------------------------------------------------------------------------------------------------


def _segments(*parts: Any) -> str:
    return ".".join(
        base64.urlsafe_b64encode(p if isinstance(p, bytes) else json.dumps(p).encode()).rstrip(b"=").decode()
        for p in parts
    )


def test_hostile_tokens(corp: Corp) -> None:
    provider = corp.provider
    rsa = provider.keys[0]
    now = int(time.time())
    claims = {
        "iss": provider.issuer,
        "sub": "77",
        "aud": AUDIENCE,
        "exp": now + 300,
        "preferred_username": "ada",
    }
    unsigned = _segments({"alg": "none", "typ": "JWT"}, claims)
    public_pem = rsa.as_pem(private=False)
    confused = _segments({"alg": "HS256", "typ": "JWT", "kid": "rsa-1"}, claims)
    mac = hmac.new(public_pem, confused.encode(), hashlib.sha256).digest()
    stranger = RSAKey.generate_key(2048, {"kid": "rsa-1"})
    good = provider.token()
    head, body, signature = good.split(".")
    hostile = {
        "nothing": "",
        "nonsense": "x",
        "dots": "..",
        "many dots": "." * 50,
        "not base64": "!!!.???.###",
        "not ascii": "é.é.é".encode().decode("latin-1"),
        "none": unsigned + ".",
        "None": _segments({"alg": "None"}, claims) + ".",
        "none with a signature": unsigned + "." + signature,
        "no alg": _segments({"typ": "JWT"}, claims, b"x"),
        "alg is no text": _segments({"alg": ["RS256"]}, claims, b"x"),
        "header is no object": _segments([1], claims, b"x"),
        "key confusion": confused + "." + _segments(mac),
        "key confusion in a token of an oct key": provider.token(
            key=OctKey.import_key(public_pem.hex()), header={"kid": "rsa-1"}
        ),
        "RSA key with an EC algorithm": _segments({"alg": "ES256", "kid": "rsa-1"}, claims, b"x" * 64),
        "EC key with an RSA algorithm": _segments({"alg": "RS256", "kid": "ec-1"}, claims, b"x" * 256),
        "another key of that name": provider.token(key=stranger),
        "another kid": provider.token(header={"kid": "rsa-9"}),
        "the other key's kid": provider.token(header={"kid": "ec-1"}),
        "kid that is a path": provider.token(header={"kid": "../../../../dev/null"}),
        "own key in the header": provider.token(
            key=stranger, header={"jwk": stranger.as_dict(private=False)}
        ),
        "own keys by URL": provider.token(key=stranger, header={"jku": provider.issuer + "/keys"}),
        "critical extension": _segments(
            {"alg": "RS256", "kid": "rsa-1", "crit": ["b64"], "b64": False}, claims, b"x"
        ),
        "logout token": provider.token(header={"typ": "logout+jwt"}),
        "event": provider.token(events={"http://schemas.openid.net/event/backchannel-logout": {}}),
        "changed claims": f"{head}.{_segments({**claims, 'groups': ['admins']})}.{signature}",
        "cut": good[:-10],
        "no signature": f"{head}.{body}.",
        "encrypted": ".".join([head, "a", "b", "c", "d"]),
        "expired": provider.token(exp=now - 120),
        "never ends": provider.token(exp=None),
        "end is no number": provider.token(exp="tomorrow"),
        "end is true": provider.token(exp=True),
        "end is endless": provider.token(exp=1e300),
        "not yet": provider.token(nbf=now + 120),
        "issued tomorrow": provider.token(iat=now + 86400),
        "other issuer": provider.token(iss="https://evil.example"),
        "issuer with a slash": provider.token(iss=provider.issuer + "/"),
        "no issuer": provider.token(iss=None),
        "other audience": provider.token(aud="elsewhere"),
        "no audience": provider.token(aud=None),
        "audience among none": provider.token(aud=[]),
        "audience is an object": provider.token(aud={AUDIENCE: True}),
        "audience within another": provider.token(aud=f"x{AUDIENCE}"),
        "no subject": provider.token(sub=None),
        "subject is no text": provider.token(sub=5),
        "empty subject": provider.token(sub=""),
        "nothing that a rule matches": provider.token(preferred_username=None, groups=None),
        "huge": provider.token(padding="x" * 200_000),
        "large": "a" * 30_000 + ".b.c",
        "deep": _segments({"alg": "RS256", "kid": "rsa-1"}, b"[" * 20_000, b"x"),
        "deep header": _segments(b"[" * 20_000, claims, b"x"),
        "long name": provider.token(preferred_username="x" * 300),
        "blank name": provider.token(preferred_username="   "),
    }
    answers = {why: corp.come(text).status for why, text in hostile.items()}
    assert {why: status for why, status in answers.items() if status != 401} == {}
    for header in ("Basic YWRtaW46YWRtaW4=", "Bearer", "Bearer ", good, f"Token {good}"):
        assert corp.cloud.nobody.post(AUTH, headers={"Authorization": header}).status == 401
    assert corp.cloud.nobody.get(AUTH).status == 401
    assert corp.come(good).status == 201


def test_one_of_several_audiences_and_a_clock_a_little_off(corp: Corp) -> None:
    now = int(time.time())
    corp.enter(aud=["elsewhere", AUDIENCE])
    corp.enter(aud=CLIENT_ID)
    corp.enter(exp=now - 30, iat=now + 30, nbf=now + 30)


@pytest.mark.parametrize("alg", ["RS256", "RS512", "PS256", "PS384", "ES256", "EdDSA", "Ed25519"])
def test_algorithms(corp: Corp, alg: str, recwarn: pytest.WarningsRecorder) -> None:
    provider = corp.provider
    provider.keys.append(OKPKey.generate_key("Ed25519", {"kid": "okp-1"}))
    key = next(
        k
        for k in provider.keys
        if k.key_type == {"R": "RSA", "P": "RSA", "E": "OKP"}[alg[0]]
        or (alg == "ES256" and k.key_type == "EC")
    )
    if alg == "ES256":
        key = provider.keys[1]
    if alg == "EdDSA":
        with pytest.warns(match="deprecated"):
            text = provider.token(key=key, alg=alg)
    else:
        text = provider.token(key=key, alg=alg)
    assert corp.come(text).status == 201


def test_text_that_breaks_out(corp: Corp) -> None:
    """What a provider's users can choose stays text."""
    for number, name in enumerate(
        ("'; DROP TABLE identity_user; --", "{0}", "{1}", "../../admin", "<script>", "a;b", "a\nb", "𝕒")
    ):
        got = corp.come(corp.provider.token(sub=f"s{number}", preferred_username=name))
        assert got.status == 201, got
        assert got.json["token"]["user"]["name"] == name


# -- the provider's keys -----------------------------------------------------------------------------------------------


def test_keys_are_fetched_seldom_and_roll_over(corp: Corp, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, clock = corp.provider, corp.cloud.clock
    passed = [1000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: passed[0], raising=False)
    for _ in range(5):
        corp.enter()
    assert provider.asked["/realm/keys"] == 1
    fresh = ECKey.generate_key("P-256", {"kid": "ec-2"})
    provider.keys = [fresh]
    for _ in range(5):
        assert corp.come(provider.token(key=fresh)).status == 401  # asked a moment ago
    assert provider.asked["/realm/keys"] == 1
    passed[0] += oidc_provider.AGAIN + 1
    assert corp.come(provider.token(key=fresh)).status == 201
    for number in range(5):
        assert corp.come(provider.token(header={"kid": f"made-up-{number}"})).status == 401
    assert provider.asked["/realm/keys"] == 2
    passed[0] += oidc_provider.KEEP + 1
    provider.down = True
    assert corp.come(provider.token(key=fresh)).status == 201  # with the keys of before
    provider.down = False
    passed[0] += oidc_provider.PAUSE + 1
    old = provider.keys[0]
    provider.keys = [RSAKey.generate_key(2048, {"kid": "rsa-2"})]
    assert corp.come(provider.token(key=old)).status == 401  # withdrawn


def test_a_provider_that_is_away_or_lies(corp: Corp) -> None:
    provider = corp.provider
    provider.down = True
    assert corp.come(provider.token()).status == 503
    assert corp.come(provider.token()).status == 503
    assert corp.cloud.nobody.get(f"{WEBSSO}?origin=x").status == 401
    assert provider.asked["/realm/.well-known/openid-configuration"] == 1
    provider.down = False
    issuer = provider.issuer
    corp.oidc(issuer=issuer, audiences=[AUDIENCE], jwks_uri=f"{issuer}/away")
    assert corp.come(provider.token()).status == 503  # redirects are not followed
    corp.oidc(issuer=issuer, audiences=[AUDIENCE], jwks_uri=f"{issuer}/nothing")
    assert corp.come(provider.token()).status == 503
    corp.oidc(issuer=issuer, audiences=[AUDIENCE], jwks_uri=f"{issuer}/keys")
    assert corp.come(provider.token()).status == 201


def test_metadata_of_another_issuer(corp: Corp) -> None:
    corp.provider.claimed_issuer = "https://evil.example"
    assert corp.come(corp.provider.token()).status == 503


def test_weak_and_secret_keys_are_passed_over() -> None:
    with pytest.warns(match="Key size"):
        weak = RSAKey.generate_key(1024).as_dict(private=False)
    secret = {"kty": "oct", "k": base64.urlsafe_b64encode(b"x" * 32).decode(), "kid": "s"}
    fine = ECKey.generate_key("P-256", {"kid": "e"}).as_dict(private=False)
    strange: list[Any] = [
        weak,
        secret,
        {"kty": "AKP"},
        {"kty": "RSA"},
        {"kty": "EC", "crv": "P-1", "x": "", "y": ""},
        5,
        {**fine, "kid": 5},
        {**fine, "use": "enc"},
    ]
    assert [k.kid for k in oidc_provider.read_keys({"keys": [*strange, fine]})] == ["e"]
    for odd in ({}, {"keys": None}, {"keys": {}}, {"keys": 5}):
        assert oidc_provider.read_keys(odd) == []


# -- browsers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def trusting(corp: Corp) -> Corp:
    import msgspec

    config = corp.cloud.cloud.config
    identity = msgspec.structs.replace(config.identity, trusted_dashboards=[DASHBOARD])
    changed: Config = msgspec.structs.replace(config, identity=identity)
    corp.cloud.cloud.config = changed
    return corp


def begin(corp: Corp, at: str = WEBSSO) -> tuple[str, str]:
    """Where the browser is sent, and its cookie."""
    got = corp.cloud.nobody.get(f"{at}?origin={urllib.parse.quote(DASHBOARD, safe='')}")
    assert got.status == 302, got
    cookie = got.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    return got.headers["location"], cookie.split(";")[0]


def back(corp: Corp, cookie: str | None, **params: str) -> Answer:
    headers = {"Cookie": cookie} if cookie else {}
    return corp.cloud.nobody.get(f"{WEBSSO}?{urllib.parse.urlencode(params)}", headers=headers)


@pytest.mark.parametrize("at", [WEBSSO, f"{V3}/auth/OS-FEDERATION/websso/openid"])
def test_a_browser_logs_in(trusting: Corp, at: str) -> None:
    there, cookie = begin(trusting, at)
    got = back(trusting, cookie, **trusting.provider.authorize(there))
    assert got.status == 200, got
    assert got.headers["content-type"].startswith("text/html")
    found = re.search(r'name="token" value="([^"]+)"', got.text)
    assert found is not None
    assert f'action="{html.escape(DASHBOARD)}"' in got.text
    user = User(trusting.cloud, found.group(1))
    assert [p["id"] for p in user.get(f"{V3}/auth/projects").json["projects"]] == [trusting.project_id]
    assert trusting.scoped(user).status == 201


def test_only_the_browser_that_began_can_finish(trusting: Corp) -> None:
    provider = trusting.provider
    there, cookie = begin(trusting)
    other, its_cookie = begin(trusting)
    params = provider.authorize(there)
    assert back(trusting, None, **params).status == 401
    assert back(trusting, its_cookie, **params).status == 401
    assert back(trusting, cookie + "x", **params).status == 401
    assert back(trusting, f"stackling_websso={trusting.cloud.alice.token}", **params).status == 401
    assert back(trusting, cookie, **{**params, "state": "made-up"}).status == 401
    assert back(trusting, cookie, error="access_denied", state=params["state"]).status == 401
    # A code of another login fails the provider's PKCE check, as the verifier is in the cookie.
    assert back(trusting, cookie, state=params["state"], code=provider.authorize(other)["code"]).status == 503
    assert back(trusting, cookie, **params).status == 200
    assert back(trusting, cookie, **params).status == 503  # a code works once


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "elsewhere"},
        {"aud": AUDIENCE},
        {"azp": "another"},
        {"exp": 5},
    ],
)
def test_the_id_token_is_for_this_login(trusting: Corp, claims: dict[str, Any]) -> None:
    there, cookie = begin(trusting)
    trusting.provider.id_claims = claims
    assert back(trusting, cookie, **trusting.provider.authorize(there)).status == 401


def test_tokens_go_to_trusted_dashboards_only(trusting: Corp) -> None:
    nobody = trusting.cloud.nobody
    assert nobody.get(WEBSSO).status == 400
    for origin in ("https://evil.example/", DASHBOARD + "x", DASHBOARD.upper(), "javascript:alert(1)"):
        assert nobody.get(f"{WEBSSO}?origin={urllib.parse.quote(origin, safe='')}").status == 401
    at = f"{V3}/auth/OS-FEDERATION/websso/saml2?origin={urllib.parse.quote(DASHBOARD, safe='')}"
    assert nobody.get(at).status == 404


def test_client_secrets_survive_the_rotation_of_keys(trusting: Corp) -> None:
    for _ in range(4):
        key_rotation.rotate_credential_keys(trusting.cloud.cloud)
    there, cookie = begin(trusting)
    assert back(trusting, cookie, **trusting.provider.authorize(there)).status == 200
