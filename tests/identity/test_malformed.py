"""Whatever is sent to identity is answered with a 4xx and changes nothing: no field may be taken for granted.

Each route that takes a body is asked with a right body in which one field at a time is replaced by something wrong.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from stackling.base import db
from stackling.boot import assembly
from tests.conftest import Bed, User

V3 = "/identity/v3"
_AUTH = {
    "identity": {
        "methods": ["password", "token", "totp", "application_credential", "mapped"],
        "password": {"user": {"id": "u", "name": "n", "password": "p", "domain": {"id": "d", "name": "n"}}},
        "token": {"id": "t"},
        "totp": {"user": {"id": "u", "passcode": "123456"}},
        "application_credential": {"id": "a", "name": "n", "secret": "s", "user": {"id": "u"}},
        "mapped": {"identity_provider": "i", "protocol": "p", "access_token": "t"},
    },
    "scope": {"project": {"id": "p", "name": "n", "domain": {"id": "d", "name": "n"}}},
}
_EC2 = {
    "access": "a", "secret": "s", "signature": "x", "host": "h", "verb": "GET", "path": "/", "body_hash": "b",
    "headers": {"authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/x/y/aws4_request"},
    "params": {"SignatureVersion": "2", "SignatureMethod": "HmacSHA256"},
}  # fmt: skip
_RULES = [
    {
        "local": [{"user": {"name": "{0}"}, "group": {"id": "g"}}],
        "remote": [{"type": "sub", "any_one_of": ["x"]}],
    }
]
_USER = {
    "name": "n", "domain_id": "default", "password": "pass-word", "enabled": True, "description": "d", "email": "e",
    "default_project_id": "p", "options": {"ignore_password_expiry": True, "multi_factor_auth_rules": [["password"]]},
    "federated": [{"idp_id": "i", "protocols": [{"protocol_id": "p", "unique_id": "u"}]}],
}  # fmt: skip
_PROJECT = {
    "name": "n", "domain_id": "default", "parent_id": "default", "is_domain": False, "enabled": True,
    "description": "d", "tags": ["a", "b"], "options": {"immutable": False},
}  # fmt: skip
_ENDPOINT = {
    "service_id": "s",
    "region_id": "RegionOne",
    "interface": "public",
    "url": "http://x",
    "enabled": True,
    "name": "n",
}
_TRUST = {
    "trustor_user_id": "u", "trustee_user_id": "u", "project_id": "p", "impersonation": True, "roles": [{"id": "r", "name": "n"}],
    "expires_at": "2030-01-01T00:00:00Z", "remaining_uses": 1, "allow_redelegation": True, "redelegation_count": 1,
}  # fmt: skip
_CREDENTIAL = {
    "name": "n", "secret": "s", "description": "d", "expires_at": "2030-01-01T00:00:00Z", "unrestricted": False,
    "roles": [{"id": "r"}], "access_rules": [{"path": "/v3/x", "method": "GET", "service": "identity"}],
}  # fmt: skip
_REGISTERED = {
    "service_id": "s",
    "region_id": "r",
    "resource_name": "n",
    "default_limit": 1,
    "description": "d",
}
_LIMIT = {"service_id": "s", "region_id": "r", "project_id": "p", "resource_name": "n", "resource_limit": 1}
# What a body holds, by a part of the path; the longest that is found counts.
BODIES: dict[str, Any] = {
    "/auth/tokens": {"auth": _AUTH},
    "/ec2tokens": {"credentials": _EC2},
    "/s3tokens": {"credentials": {"access": "a", "signature": "s", "token": "dA=="}},
    "/users": {"user": _USER},
    "/password": {"user": {"password": "p", "original_password": "o"}},
    "/groups": {"group": {"name": "n", "domain_id": "default", "description": "d"}},
    "/projects": {"project": _PROJECT},
    "/tags": {"tags": ["a", "b"]},
    "/domains": {"domain": {k: v for k, v in _PROJECT.items() if k not in ("domain_id", "parent_id", "is_domain")}},
    "/config": {"config": {"ldap": {"url": "ldap://x", "user_tree_dn": "ou=x"}, "identity": {"driver": "ldap"}}},
    "/roles": {"role": {"name": "n", "domain_id": "default", "description": "d", "options": {"immutable": False}}},
    "/regions": {"region": {"id": "r", "description": "d", "parent_region_id": "RegionOne"}},
    "/services": {"service": {"type": "t", "name": "n", "description": "d", "enabled": True}},
    "/endpoints": {"endpoint": _ENDPOINT},
    "/endpoint_groups": {"endpoint_group": {"name": "n", "description": "d", "filters": {"interface": "public"}}},
    "/policies": {"policy": {"type": "t", "blob": "{}"}},
    "/credentials": {"credential": {"type": "cert", "blob": "{}", "user_id": "u", "project_id": "p"}},
    "/credentials/OS-EC2": {"tenant_id": "t"},
    "/application_credentials": {"application_credential": _CREDENTIAL},
    "/trusts": {"trust": _TRUST},
    "/consumers": {"consumer": {"description": "d"}},
    "/authorize": {"roles": [{"id": "r", "name": "n"}]},
    "/registered_limits": {"registered_limits": [_REGISTERED]},
    "/registered_limits/": {"registered_limit": _REGISTERED},
    "/limits": {"limits": [_LIMIT]},
    "/limits/": {"limit": {"resource_limit": 1, "description": "d"}},
    "/identity_providers": {
        "identity_provider": {"enabled": True, "description": "d", "remote_ids": ["r"], "domain_id": "default", "authorization_ttl": 5}
    },
    "/protocols": {"protocol": {"mapping_id": "m", "remote_id_attribute": "a"}},
    "/oidc": {"oidc": {"issuer": "https://x", "audiences": ["a"], "client_id": "c", "client_secret": "s", "scopes": ["openid"]}},
    "/mappings": {"mapping": {"rules": _RULES, "schema_version": "1.0"}},
    "/service_providers": {"service_provider": {"auth_url": "http://x", "sp_url": "http://x", "enabled": True}},
}  # fmt: skip
DEEP: Any = []
for _ in range(200):
    DEEP = [DEEP]
WRONG: list[Any] = [
    None, True, -1, 2**63, 10**400, 1.5, "", "\0", "\ud800", "💩" * 300, "x" * 70_000, "2030-99-99T00:00:00Z", "*" * 64,
    [], {}, [None], [[]], {"\0": 1}, {"id": {}}, {"": ""}, [{"id": []}], DEEP,
]  # fmt: skip


def body_of(path: str) -> Any:
    found = [part for part in BODIES if part in path]
    return (
        BODIES[max(found, key=lambda part: (path.rindex(part) + len(part), len(part)))]
        if found
        else {"x": {"y": 1}}
    )


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from places(one, (*path, key))


def put(value: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    if not path:
        return wrong
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], wrong)
    return copy


def routes(bed: Bed) -> list[tuple[str, str]]:
    """Every (method, path) of identity, with ids that there are where that leads further."""
    known = {
        "domain_id": "default", "user_id": bed.alice.id, "trustor_id": bed.alice.id, "project_id": bed.alice.project_id,
        "region_id": "RegionOne",
    }  # fmt: skip
    service = next(s for s in assembly.services() if s.name == "identity")
    found = []
    for path, resource in service.routes(bed.cloud):
        filled = re.sub(
            r"\{(\w+)[^}]*\}", lambda m: known.get(m[1], "0123456789abcdef0123456789abcdef"), path
        )
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"):
            if hasattr(resource, f"on_{method.lower()}"):
                found.append((method, service.prefix + filled))
    return sorted(set(found))


def counts(bed: Bed) -> dict[str, int]:
    with bed.db.read() as tx:
        tables = [t for t in db.metadata.sorted_tables if t.name.startswith("identity_")]
        return {t.name: tx.execute(sa.select(sa.func.count()).select_from(t)).scalar_one() for t in tables}


def bad(answer: Any) -> bool:
    return bool(answer.status >= 500 and answer.status != 501)


@pytest.mark.parametrize("who", ["admin", "nobody"])
def test_a_wrong_field_is_refused_and_changes_nothing(
    cloud: Bed, who: str, request: pytest.FixtureRequest
) -> None:
    """On PostgreSQL with what databases see differently only: it takes as long as all that falls to the first."""
    user: User = getattr(cloud, who)
    wrongs = (
        WRONG
        if request.node.callspec.params["cloud"] == "sqlite"
        else ["\0", "\ud800", 2**63, 10**400, "💩" * 300]
    )
    # A tag is its path: such a PUT reads no body, so nothing in it can be wrong.
    asked = [
        (m, p)
        for m, p in routes(cloud)
        if m in ("POST", "PUT", "PATCH") and not (m == "PUT" and "/tags/" in p)
    ]
    before = counts(cloud)
    failed, changed = [], []
    for method, path in asked:
        right = body_of(path)
        for place in places(right):
            for wrong in wrongs:
                try:
                    sent = put(right, place, wrong)
                    answer = user.call(method, path, sent)
                except UnicodeEncodeError:
                    continue
                if bad(answer):
                    failed.append((method, path, place, repr(wrong)[:40], answer.status))
                if answer.status < 300 and answer.status != 204:
                    changed.append((method, path, place, repr(wrong)[:40]))
    assert failed == []
    after = counts(cloud)
    # What is left out of a body may be right: those rows are the only ones that were made.
    made = {name for name in after if after[name] != before[name]}
    assert made <= ({"identity_revision"} if who == "nobody" else set(after)), made
    if who == "nobody":
        assert changed == []
    else:
        unlike = [c for c in changed if c[3] in [repr(w)[:40] for w in (2**63, 10**400, "\0", DEEP)]]
        assert unlike == []


RAW = [
    b"", b"{", b"[]", b"null", b"1e999999", b'"\\ud800"', b"\xff\xfe", b"\0" * 100, b"{" * 100_000, b"[" * 100_000,
    b'{"auth": ' * 5000, b'{"user": {"name": "a", "name": 5}}', b'{"\\u0000": 1}', b"1" * 100_000,
]  # fmt: skip


def test_bytes_that_are_no_body(cloud: Bed) -> None:
    asked = routes(cloud)
    before = counts(cloud)
    failed = []
    for method, path in asked:
        for raw in RAW:
            answer = (
                cloud.admin.call(method, path, data=raw) if method not in ("GET", "HEAD", "DELETE") else None
            )
            if answer is not None and (bad(answer) or (answer.status < 300 and answer.status != 204 and raw)):
                failed.append((method, path, raw[:20], answer.status))
    assert [f for f in failed if f[3] >= 500] == []
    assert {n for n, c in counts(cloud).items() if c != before[n]} <= {
        "identity_assignment",
        "identity_project_tag",
        "identity_revision",
    }


def test_too_much_is_refused_before_it_is_read(cloud: Bed) -> None:
    for path in ("/auth/tokens", "/users"):
        assert cloud.nobody.call("POST", f"{V3}{path}", data=b" " * ((1 << 20) + 1)).status in (401, 413)
        assert cloud.admin.call("POST", f"{V3}{path}", data=b" " * ((1 << 20) + 1)).status == 413


@pytest.mark.parametrize("id", ["x" * 3000, "%00", "%F0%9F%92%A9", "%C3%28", "..%2f..", "'--", "0", "a%0Ab"])
def test_wrong_ids_in_paths_and_queries(cloud: Bed, id: str) -> None:
    service = next(s for s in assembly.services() if s.name == "identity")
    before = counts(cloud)
    failed = []
    for path, resource in service.routes(cloud.cloud):
        at = service.prefix + re.sub(r"\{[^}]*\}", id, path)
        for method in ("GET", "DELETE", "PATCH", "PUT", "POST"):
            if hasattr(resource, f"on_{method.lower()}") and ("{" in path or method == "GET"):
                query = f"?name={id}&domain_id={id}&user.id={id}&scope.project.id={id}&limit={id}&marker={id}"
                answer = cloud.admin.call(
                    method, at + (query if method == "GET" else ""), {} if method[0] == "P" else None
                )
                if bad(answer):
                    failed.append((method, path, answer.status, answer.text[:100]))
    assert failed == []
    after = counts(cloud)
    assert {n for n in after if after[n] < before[n]} == set()


def test_wrong_tokens(cloud: Bed) -> None:
    for word in ("x" * 5000, "gAAAAA", "\xff", "a b", "null", "é", "=" * 40):
        for header in ("X-Auth-Token", "X-Subject-Token"):
            headers = {"X-Auth-Token": cloud.admin.token, header: word}
            for method in ("GET", "HEAD", "DELETE"):
                assert cloud.nobody.call(method, f"{V3}/auth/tokens", headers=headers).status in (
                    400,
                    401,
                    404,
                )
