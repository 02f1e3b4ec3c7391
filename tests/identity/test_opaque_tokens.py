"""Access tokens that only their provider can read: it is asked about them, by introspection (RFC 7662) or userinfo."""

import time
from typing import Any

import pytest

from stackling.identity.oidc import provider as oidc_provider
from tests.identity.oidc_provider import AUDIENCE, CLIENT_ID, CLIENT_SECRET
from tests.identity.test_federation import Corp, back, begin, corp, provider, trusting

__all__ = ["corp", "provider", "trusting"]  # fixtures
OPAQUE = "ory_at_Zm9v.YmFy-_~+/="


def introspected(corp: Corp, **more: Any) -> None:
    """The provider has given out a token, and says what it is to whoever is its client; what is None it leaves out."""
    provider = corp.provider
    provider.publishes = ("introspection",)
    said = {"active": True, "iss": provider.issuer, "sub": "77", "aud": AUDIENCE, "exp": time.time() + 300}
    made = {**said, **provider.claims, **more}
    provider.opaque[OPAQUE] = {k: v for k, v in made.items() if v is not None}


def test_what_the_provider_says_of_a_token(corp: Corp) -> None:
    introspected(corp)
    got = corp.come(OPAQUE)
    assert got.status == 201, got
    shown = got.json["token"]["user"]
    assert (shown["name"], shown["OS-FEDERATION"]["groups"]) == ("ada", [{"id": corp.group_id}])
    assert corp.enter().id == shown["id"]  # the same with a token that can be read here
    part = {"identity_provider": "corp", "protocol": "openid", "access_token": OPAQUE}
    auth = {
        "identity": {"methods": ["mapped"], "mapped": part},
        "scope": {"project": {"id": corp.project_id}},
    }
    assert corp.cloud.nobody.post("/identity/v3/auth/tokens", {"auth": auth}).status == 201
    introspected(corp, active=False)
    assert corp.come(OPAQUE).status == 401
    assert corp.come("unknown").status == 401


def test_what_may_be_left_out(corp: Corp) -> None:
    for said in (
        {"iss": None, "exp": None},
        {"aud": None, "client_id": CLIENT_ID},
        {"aud": [], "client_id": AUDIENCE},
        {"aud": ["another", AUDIENCE]},
        {"token_use": "access_token"},
    ):
        introspected(corp, **said)
        assert corp.come(OPAQUE).status == 201, said


def test_what_does_not_let_in(corp: Corp) -> None:
    now = time.time()
    for said in (
        {"active": None},
        {"active": "true"},
        {"active": 1},
        {"iss": "https://evil.example"},
        {"sub": None},
        {"sub": ""},
        {"sub": 77},
        {"aud": "another"},
        {"aud": "another", "client_id": CLIENT_ID},
        {"aud": None},
        {"aud": None, "client_id": "another"},
        {"exp": now - 120},
        {"exp": "tomorrow"},
        {"nbf": now + 120},
        {"token_use": "refresh_token"},
    ):
        introspected(corp, **said)
        got = corp.come(OPAQUE)
        assert got.status == 401, said
        assert got.json["error"]["message"] == "The request you have made requires authentication."
    introspected(corp)
    for text in ("\x7f", "é", "x" * 40_000, " "):
        assert corp.come(text).status == 401, text[:8]


def test_where_nobody_can_be_asked(corp: Corp) -> None:
    assert corp.come(OPAQUE).status == 401  # no such endpoint
    introspected(corp)
    issuer = corp.provider.issuer
    corp.oidc(issuer=issuer, audiences=[AUDIENCE], jwks_uri=f"{issuer}/keys")
    assert corp.come(OPAQUE).status == 401  # nothing is published
    us = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    at = f"{issuer}/introspection"
    asked = corp.provider.asked.get("/realm/.well-known/openid-configuration", 0)
    corp.oidc(issuer=issuer, audiences=[AUDIENCE], jwks_uri=f"{issuer}/keys", introspection_endpoint=at, **us)
    assert corp.come(OPAQUE).status == 201
    assert corp.provider.asked.get("/realm/.well-known/openid-configuration", 0) == asked
    us["client_secret"] = "wrong"
    corp.oidc(issuer=issuer, audiences=[AUDIENCE], introspection_endpoint=at, **us)
    assert corp.come(OPAQUE).status == 503


def test_an_endpoint_that_is_away(corp: Corp, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = [1000.0]
    monkeypatch.setattr(corp.cloud.clock, "monotonic", lambda: passed[0], raising=False)
    provider, at = corp.provider, "/realm/introspection"
    introspected(corp)
    assert corp.come(OPAQUE).status == 201
    provider.down = True
    got = corp.come(OPAQUE)
    assert got.status == 503
    assert "identity provider" in got.json["error"]["message"]
    provider.slow, provider.asked = 0.05, {}
    monkeypatch.setattr(oidc_provider, "PATIENCE", 1.0)
    began = time.monotonic()
    assert corp.come(OPAQUE).status == 503
    assert time.monotonic() - began < 10  # all of the answer would take minutes
    assert corp.come(OPAQUE).status == 503
    assert provider.asked[at] == 1  # nobody else waits for it
    assert corp.come(provider.token()).status == 503  # its keys were never fetched, and it is down
    provider.down, provider.slow = False, 0.0
    passed[0] += oidc_provider.PAUSE + 1
    assert corp.come(OPAQUE).status == 201
    assert corp.come(provider.token()).status == 201


def test_userinfo(corp: Corp) -> None:
    """Its claims are added to a token's, which come first; it vouches for tokens only where an operator wants it so."""
    provider = corp.provider
    provider.publishes = ("userinfo",)
    provider.claims = {"preferred_username": "ada"}
    provider.told = {"groups": ["dev"], "preferred_username": "eve", "iss": "https://evil.example"}
    provider.opaque[OPAQUE] = {"sub": "77"}
    assert corp.come(OPAQUE).status == 401
    assert corp.come(provider.token()).json["token"]["user"]["OS-FEDERATION"]["groups"] == []
    us = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    corp.oidc(issuer=provider.issuer, audiences=[AUDIENCE], userinfo=True, **us)
    got = corp.come(provider.token())
    assert got.status == 201, got
    shown = got.json["token"]["user"]
    assert (shown["name"], shown["OS-FEDERATION"]["groups"]) == ("ada", [{"id": corp.group_id}])
    assert corp.come(provider.token(sub="78")).status == 401  # it tells of 77
    got = corp.come(OPAQUE)
    assert (got.status, got.json["token"]["user"]["name"]) == (201, "eve")
    for told in ({"active": False}, {"sub": ""}, {"sub": 7}):
        provider.opaque[OPAQUE] = told
        assert corp.come(OPAQUE).status == 401, told
    assert corp.come("unknown").status == 401


def test_userinfo_of_browsers(trusting: Corp) -> None:
    provider = trusting.provider
    provider.publishes, provider.claims = ("userinfo",), {}
    us = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    trusting.oidc(issuer=provider.issuer, userinfo=True, **us)
    there, cookie = begin(trusting)
    assert back(trusting, cookie, **provider.authorize(there)).status == 401  # nobody says what she is called
    provider.told = {"preferred_username": "ada"}
    there, cookie = begin(trusting)
    got = back(trusting, cookie, **provider.authorize(there))
    assert got.status == 200, got
