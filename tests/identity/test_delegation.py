"""What is logged in with besides passwords never gives more than its maker had, and ends with what it rests on."""

import base64
import hashlib
import hmac

import pytest

from stackling.base import access_rule
from stackling.identity.actions import key_rotation, oauth1, totp
from stackling.identity.state.credential import credential
from tests.conftest import Answer, Bed, User

V3 = "/identity/v3"


def role_id(admin: User, name: str) -> str:
    return str(next(r["id"] for r in admin.get(f"{V3}/roles").json["roles"] if r["name"] == name))


def app_cred(user: User, **wants: object) -> dict[str, str]:
    made = user.post(
        f"{V3}/users/{user.id}/application_credentials", {"application_credential": {"name": "ci", **wants}}
    )
    assert made.status == 201, made
    return dict(made.json["application_credential"])


def login(bed: Bed, method: str, part: object, scope: object = None) -> Answer:
    auth: dict[str, object] = {"identity": {"methods": [method], method: part}}
    return bed.nobody.post(f"{V3}/auth/tokens", {"auth": auth if scope is None else {**auth, "scope": scope}})


def bearer(bed: Bed, answer: Answer) -> User:
    assert answer.status == 201, answer
    token = answer.json["token"]
    return User(
        bed, answer.headers["x-subject-token"], id=token["user"]["id"], project_id=token["project"]["id"]
    )


# -- application credentials -------------------------------------------------------------------------------------------


def test_application_credential_by_id_and_by_name(cloud: Bed, alice: User) -> None:
    made = app_cred(alice, roles=[{"name": "reader"}])
    by_id = login(cloud, "application_credential", {"id": made["id"], "secret": made["secret"]})
    assert [r["name"] for r in by_id.json["token"]["roles"]] == ["reader"]
    assert by_id.json["token"]["application_credential"] == {
        "id": made["id"],
        "name": "ci",
        "restricted": True,
    }
    who = {"name": "alice", "domain": {"id": "default"}}
    assert (
        login(cloud, "application_credential", {"name": "ci", "user": who, "secret": made["secret"]}).status
        == 201
    )
    assert login(cloud, "application_credential", {"id": made["id"], "secret": "wrong"}).status == 401
    assert login(cloud, "application_credential", {"id": "nothing", "secret": "wrong"}).status == 401
    assert "secret" not in alice.get(f"{V3}/users/{alice.id}/application_credentials/{made['id']}").text


def test_application_credential_makes_nothing_more_than_it_is(cloud: Bed, admin: User, alice: User) -> None:
    made = app_cred(alice, roles=[{"name": "reader"}])
    user = bearer(cloud, login(cloud, "application_credential", {"id": made["id"], "secret": made["secret"]}))
    url = f"{V3}/users/{alice.id}/application_credentials"
    assert user.post(url, {"application_credential": {"name": "more"}}).status == 403
    assert user.delete(f"{url}/{made['id']}").status == 403
    trust = {
        "trustor_user_id": alice.id,
        "trustee_user_id": admin.id,
        "impersonation": True,
        "project_id": alice.project_id,
    }
    assert (
        user.post(f"{V3}/OS-TRUST/trusts", {"trust": {**trust, "roles": [{"name": "reader"}]}}).status == 403
    )
    assert (
        user.post(f"{V3}/users/{alice.id}/credentials/OS-EC2", {"tenant_id": alice.project_id}).status == 403
    )
    free = alice.post(
        url, {"application_credential": {"name": "free", "unrestricted": True, "roles": [{"name": "reader"}]}}
    )
    free_token = login(
        cloud,
        "application_credential",
        {
            "id": free.json["application_credential"]["id"],
            "secret": free.json["application_credential"]["secret"],
        },
    )
    member = {"application_credential": {"name": "x", "roles": [{"name": "member"}]}}
    assert bearer(cloud, free_token).post(url, member).status == 400
    elsewhere = {"project": {"name": "green", "domain": {"id": "default"}}}
    assert (
        login(cloud, "application_credential", {"id": made["id"], "secret": made["secret"]}, elsewhere).status
        == 401
    )


def test_application_credential_ends_with_its_role_and_its_time(cloud: Bed, admin: User, alice: User) -> None:
    ends = (cloud.clock.now().replace(microsecond=0)).isoformat()
    past = {"application_credential": {"name": "old", "expires_at": ends}}
    assert alice.post(f"{V3}/users/{alice.id}/application_credentials", past).status == 400
    made = app_cred(alice)
    user = bearer(cloud, login(cloud, "application_credential", {"id": made["id"], "secret": made["secret"]}))
    grant = f"{V3}/projects/{alice.project_id}/users/{alice.id}/roles/{role_id(admin, 'member')}"
    assert admin.delete(grant).status == 204
    assert user.get(f"{V3}/auth/projects").status == 401
    assert login(cloud, "application_credential", {"id": made["id"], "secret": made["secret"]}).status == 401


def test_access_rules_allow_what_they_name_and_nothing_else(cloud: Bed, alice: User) -> None:
    rules = [{"service": "identity", "method": "GET", "path": "/v3/users/{user_id}/projects"}]
    made = app_cred(alice, access_rules=rules)
    user = bearer(cloud, login(cloud, "application_credential", {"id": made["id"], "secret": made["secret"]}))
    assert user.get(f"{V3}/users/{alice.id}/projects").status == 200
    assert user.get(f"{V3}/users/{alice.id}").status == 401
    listed = alice.get(f"{V3}/users/{alice.id}/access_rules").json["access_rules"]
    assert [r["path"] for r in listed] == [rules[0]["path"]]
    assert alice.delete(f"{V3}/users/{alice.id}/access_rules/{listed[0]['id']}").status == 403


@pytest.mark.parametrize(
    "rule, method, path, allowed",
    [
        ("/v2.1/servers/*/ips", "GET", "/v2.1/servers/a/ips", True),
        ("/v2.1/servers/*/ips", "HEAD", "/v2.1/servers/a/ips", True),
        ("/v2.1/servers/*/ips", "POST", "/v2.1/servers/a/ips", False),
        ("/v2.1/servers/*/ips", "GET", "/v2.1/servers/a/b/ips", False),
        ("/v2.1/**", "GET", "/v2.1/servers/a/b", True),
        ("/v2.1/servers", "GET", "/v2.1/servers/", True),
        ("/v2.1/servers", "GET", "/v2.1/serversX", False),
    ],
)
def test_access_rule_paths(rule: str, method: str, path: str, allowed: bool) -> None:
    assert access_rule.permits([("compute", "GET", rule)], "compute", method, path) is allowed
    assert not access_rule.permits([("image", "GET", rule)], "compute", method, path)


# -- trusts ------------------------------------------------------------------------------------------------------------


def trust(alice: User, bob: User, **more: object) -> Answer:
    wants = {
        "trustor_user_id": alice.id,
        "trustee_user_id": bob.id,
        "project_id": alice.project_id,
        "impersonation": True,
    }
    return alice.post(f"{V3}/OS-TRUST/trusts", {"trust": {**wants, "roles": [{"name": "reader"}], **more}})


def act(bed: Bed, bob: User, trust_id: str) -> Answer:
    who = {"id": bob.id, "password": bob.password}
    return login(bed, "password", {"user": who}, {"OS-TRUST:trust": {"id": trust_id}})


def test_a_trustee_acts_with_the_trusted_roles_only(cloud: Bed, admin: User, alice: User, bob: User) -> None:
    made = trust(alice, bob).json["trust"]
    got = act(cloud, bob, made["id"])
    token = got.json["token"]
    assert (token["user"]["id"], token["project"]["id"]) == (alice.id, alice.project_id)
    assert [r["name"] for r in token["roles"]] == ["reader"]
    assert token["OS-TRUST:trust"]["trustee_user"] == {"id": bob.id}
    user = bearer(cloud, got)
    again = {"auth": {"identity": {"methods": ["token"], "token": {"id": user.token}}}}
    assert cloud.nobody.post(f"{V3}/auth/tokens", again).status == 403
    assert act(cloud, alice, made["id"]).status == 403
    assert alice.delete(f"{V3}/OS-TRUST/trusts/{made['id']}").status == 204
    assert user.get(f"{V3}/auth/projects").status == 401
    assert act(cloud, bob, made["id"]).status == 401


def test_trusts_give_no_role_that_the_trustor_lacks(cloud: Bed, admin: User, alice: User, bob: User) -> None:
    assert trust(alice, bob, roles=[{"name": "admin"}]).status == 403
    assert trust(alice, bob, roles=[{"name": "nonsense"}]).status == 404
    assert trust(alice, bob, roles=[]).status == 403
    assert trust(alice, bob, project_id=bob.project_id).status == 403
    assert trust(alice, bob, trustor_user_id=bob.id).status == 403
    made = trust(alice, bob).json["trust"]
    grant = f"{V3}/projects/{alice.project_id}/users/{alice.id}/roles/{role_id(admin, 'member')}"
    assert admin.delete(grant).status == 204
    assert act(cloud, bob, made["id"]).status == 403


def test_trusts_are_used_up_and_expire(cloud: Bed, alice: User, bob: User) -> None:
    once = trust(alice, bob, remaining_uses=1).json["trust"]["id"]
    assert act(cloud, bob, once).status == 201
    assert act(cloud, bob, once).status == 401
    ends = cloud.clock.now().replace(microsecond=0).isoformat()
    assert trust(alice, bob, expires_at=ends).status == 400


def test_redelegation_goes_as_deep_as_allowed(cloud: Bed, admin: User, alice: User, bob: User) -> None:
    first = trust(alice, bob, allow_redelegation=True, redelegation_count=1).json["trust"]["id"]
    user = bearer(cloud, act(cloud, bob, first))
    second = trust(user, admin, trustor_user_id=alice.id, project_id=alice.project_id)
    assert second.status == 201, second
    assert second.json["trust"]["redelegated_trust_id"] == first
    more = trust(
        user, admin, trustor_user_id=alice.id, project_id=alice.project_id, roles=[{"name": "member"}]
    )
    assert more.status == 403
    assert alice.delete(f"{V3}/OS-TRUST/trusts/{first}").status == 204
    assert alice.get(f"{V3}/OS-TRUST/trusts/{second.json['trust']['id']}").status == 404


# -- credentials, EC2, TOTP, OAuth -------------------------------------------------------------------------------------


def test_credentials_are_encrypted_and_private(cloud: Bed, alice: User, bob: User) -> None:
    made = alice.post(
        f"{V3}/credentials", {"credential": {"type": "cert", "blob": "very secret", "user_id": alice.id}}
    )
    assert made.status == 201
    id = made.json["credential"]["id"]
    with cloud.db.read() as tx:
        assert b"very secret" not in tx.execute(credential.select()).one().blob.encode()
    assert bob.get(f"{V3}/credentials/{id}").status == 403
    assert bob.get(f"{V3}/credentials").json["credentials"] == []
    key_rotation.rotate_credential_keys(cloud.cloud)
    key_rotation.rotate_credential_keys(cloud.cloud)
    assert alice.get(f"{V3}/credentials/{id}").json["credential"]["blob"] == "very secret"
    for user_id in (bob.id, "nobody"):
        theirs = {"type": "cert", "blob": "x", "user_id": user_id}
        assert alice.post(f"{V3}/credentials", {"credential": theirs}).status == 403


def test_ec2_signatures_log_in(cloud: Bed, admin: User, alice: User) -> None:
    key = alice.post(f"{V3}/users/{alice.id}/credentials/OS-EC2", {"tenant_id": alice.project_id}).json[
        "credential"
    ]
    params = {
        "Action": "Test",
        "SignatureVersion": "2",
        "SignatureMethod": "HmacSHA256",
        "AWSAccessKeyId": key["access"],
    }
    flat = "&".join(f"{k}={params[k]}" for k in sorted(params))
    text = f"GET\nec2.example\n/\n{flat}"
    signature = base64.b64encode(
        hmac.new(key["secret"].encode(), text.encode(), hashlib.sha256).digest()
    ).decode()
    sent = {
        "access": key["access"],
        "signature": signature,
        "host": "ec2.example",
        "verb": "GET",
        "path": "/",
        "params": params,
    }
    got = admin.post(f"{V3}/ec2tokens", {"credentials": sent})
    assert got.status == 200, got
    assert got.json["token"]["user"]["id"] == alice.id
    assert got.json["token"]["project"]["id"] == alice.project_id
    assert admin.post(f"{V3}/ec2tokens", {"credentials": {**sent, "path": "/other"}}).status == 401
    assert alice.post(f"{V3}/ec2tokens", {"credentials": sent}).status == 403
    assert cloud.nobody.post(f"{V3}/ec2tokens", {"credentials": sent}).status == 401


def test_s3_signatures_log_in(admin: User, alice: User) -> None:
    key = alice.post(f"{V3}/users/{alice.id}/credentials/OS-EC2", {"tenant_id": alice.project_id}).json[
        "credential"
    ]
    text = b"GET\n\n\nFri, 01 Jan 2027 00:00:00 GMT\n/bucket"
    signature = base64.b64encode(hmac.new(key["secret"].encode(), text, hashlib.sha1).digest()).decode()
    sent = {"access": key["access"], "signature": signature, "token": base64.b64encode(text).decode()}
    assert admin.post(f"{V3}/s3tokens", {"credentials": sent}).json["token"]["user"]["id"] == alice.id
    assert admin.post(f"{V3}/s3tokens", {"credentials": {**sent, "signature": "x"}}).status == 401


def test_users_with_rules_need_all_factors(cloud: Bed, admin: User, alice: User) -> None:
    seed = base64.b32encode(b"a seed of 20 bytes..").decode()
    assert (
        alice.post(
            f"{V3}/credentials", {"credential": {"type": "totp", "blob": seed, "user_id": alice.id}}
        ).status
        == 201
    )
    rules = {"multi_factor_auth_enabled": True, "multi_factor_auth_rules": [["password", "totp"]]}
    assert admin.patch(f"{V3}/users/{alice.id}", {"user": {"options": rules}}).status == 200
    word, code = alice.password, totp.passcode(seed, totp._step(cloud.clock))
    first = login(cloud, "password", {"user": {"id": alice.id, "password": word}})
    assert first.status == 401
    assert first.json["required_auth_methods"] == [["password", "totp"]]
    receipt = {"OpenStack-Auth-Receipt": first.headers["openstack-auth-receipt"]}
    body = {"auth": {"identity": {"methods": ["totp"], "totp": {"user": {"id": alice.id, "passcode": code}}}}}
    second = cloud.nobody.post(f"{V3}/auth/tokens", body, headers=receipt)
    assert second.status == 201, second
    assert sorted(second.json["token"]["methods"]) == ["password", "totp"]
    both = {
        "methods": ["password", "totp"],
        "password": {"user": {"id": alice.id, "password": word}},
        "totp": {"user": {"id": alice.id, "passcode": code}},
    }
    assert cloud.nobody.post(f"{V3}/auth/tokens", {"auth": {"identity": both}}).status == 201
    assert cloud.nobody.post(f"{V3}/auth/tokens", body).status == 401
    assert User(cloud, first.headers["openstack-auth-receipt"]).get(f"{V3}/auth/projects").status == 401


def test_oauth1_from_consumer_to_token(cloud: Bed, admin: User) -> None:
    consumer = admin.post(f"{V3}/OS-OAUTH1/consumers", {"consumer": {"description": "c"}}).json["consumer"]

    def call(path: str, token: str = "", secret: str = "", **more: str) -> Answer:
        params = {
            "oauth_consumer_key": consumer["id"],
            "oauth_signature_method": "HMAC-SHA1",
            "oauth_nonce": "1",
            "oauth_timestamp": "1",
            **({"oauth_token": token} if token else {}),
            **more,
        }
        signed = oauth1.Signed("POST", f"http://falconframework.org{path}", params)
        params["oauth_signature"] = oauth1.signature(signed, consumer["secret"], secret)
        header = "OAuth " + ", ".join(f'{k}="{oauth1._escape(v)}"' for k, v in params.items())
        headers = {"Authorization": header, "Requested-Project-Id": admin.project_id}
        body = (
            {"auth": {"identity": {"methods": ["oauth1"], "oauth1": {}}}}
            if path.endswith("/auth/tokens")
            else None
        )
        return cloud.nobody.post(path, body, headers=headers)

    def pair(answer: Answer) -> tuple[str, str]:
        assert answer.status == 201, answer
        fields = dict(p.split("=") for p in answer.text.split("&"))
        return fields["oauth_token"], fields["oauth_token_secret"]

    request = pair(call(f"{V3}/OS-OAUTH1/request_token", oauth_callback="oob"))
    assert call(f"{V3}/OS-OAUTH1/access_token", *request, oauth_verifier="x").status == 401
    roles = {"roles": [{"id": role_id(admin, "member")}]}
    verifier = admin.put(f"{V3}/OS-OAUTH1/authorize/{request[0]}", roles).json["token"]["oauth_verifier"]
    access = pair(call(f"{V3}/OS-OAUTH1/access_token", *request, oauth_verifier=verifier))
    token = call(f"{V3}/auth/tokens", *access)
    assert token.status == 201, token
    assert [r["name"] for r in token.json["token"]["roles"]] == ["member", "reader"]
    assert token.json["token"]["OS-OAUTH1"]["consumer_id"] == consumer["id"]
    assert admin.delete(f"{V3}/users/{admin.id}/OS-OAUTH1/access_tokens/{access[0]}").status == 204
    assert User(cloud, token.headers["x-subject-token"]).get(f"{V3}/auth/projects").status == 401
