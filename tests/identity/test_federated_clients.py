"""Federated logins by what users have: keystoneauth's plugins, as the `openstack` command runs them, and a browser."""

import html
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import msgspec
import pytest
import requests
from keystoneauth1 import exceptions, loading, session

from stackling.identity.actions import bootstrap
from tests.conftest import Bed
from tests.identity import test_federation, test_saml
from tests.identity.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider
from tests.identity.saml_provider import SamlProvider

DASHBOARD = test_federation.DASHBOARD


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def served(cloud: Bed) -> Iterator[Bed]:
    with serving(cloud):
        yield cloud


@contextmanager
def serving(cloud: Bed) -> Iterator[None]:
    """The cloud is at an address that clients reach; its configuration says so."""
    server = make_server("127.0.0.1", 0, cloud.client.app, _Server, _Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    api = msgspec.structs.replace(cloud.config.api, port=server.server_port)
    identity = msgspec.structs.replace(cloud.config.identity, trusted_dashboards=[DASHBOARD])
    cloud.config = msgspec.structs.replace(cloud.config, api=api, identity=identity)
    cloud.cloud.config = cloud.config
    with cloud.db.begin() as tx:
        bootstrap.bootstrap(tx, cloud.cloud)  # the catalog follows
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def oidc() -> Iterator[OidcProvider]:
    made = OidcProvider()
    yield made
    made.close()


@pytest.fixture
def idp(tmp_path: Path) -> Iterator[SamlProvider]:
    (tmp_path / "idp").mkdir()
    made = SamlProvider(tmp_path / "idp")
    yield made
    made.close()


def who(cloud: Bed, plugin: str, protocol: str, **options: Any) -> dict[str, Any]:
    """The token of who logs in with a plugin, scoped to the project where one is named."""
    auth = loading.get_plugin_loader(plugin).load_from_options(
        auth_url=f"{cloud.config.base_url}/identity/v3",
        identity_provider="corp",
        protocol=protocol,
        **options,
    )
    made = session.Session(auth=auth)
    text = auth.get_token(made)
    found: dict[str, Any] = cloud.admin.get(
        "/identity/v3/auth/tokens", headers={"X-Subject-Token": text}
    ).json["token"]
    return found


def test_openid_connect_plugins(served: Bed, oidc: OidcProvider) -> None:
    corp = test_federation.Corp(served, oidc)
    found = {"discovery_endpoint": f"{oidc.issuer}/.well-known/openid-configuration"}
    client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, **found}
    shop = {"project_id": corp.project_id}
    made = who(served, "v3oidcpassword", "openid", username="ada", password="ada-pw", **client, **shop)
    assert (made["user"]["name"], made["project"]["name"]) == ("ada", "shop")
    made = who(served, "v3oidcdeviceauthz", "openid", **client, **shop)
    assert (made["user"]["name"], oidc.polls) == ("ada", 2)
    made = who(served, "v3oidcclientcredentials", "openid", **client)
    assert made["user"]["name"] == "robot"
    assert "project" not in made
    made = who(served, "v3oidcaccesstoken", "openid", access_token=oidc.token(), **shop)
    assert made["user"]["name"] == "ada"
    with pytest.raises(exceptions.ClientException):
        who(served, "v3oidcpassword", "openid", username="ada", password="wrong", **client)
    with pytest.raises(exceptions.Unauthorized):
        who(served, "v3oidcaccesstoken", "openid", access_token=oidc.token(aud="another"))


def test_saml_plugin(served: Bed, idp: SamlProvider) -> None:
    corp = test_saml.Corp(served, idp)
    options = {"identity_provider_url": f"{idp.url}/ecp", "username": "ada", "project_id": corp.project_id}
    made = who(served, "v3samlpassword", "saml2", password="ada-pw", **options)
    assert (made["user"]["name"], made["project"]["name"]) == ("ada", "shop")
    with pytest.raises(Exception, match=r"parsing XML|401"):
        who(served, "v3samlpassword", "saml2", password="wrong", **options)


@pytest.mark.filterwarnings("ignore")  # of the provider's own libraries
def test_a_browser_at_a_provider_that_is_not_ours(served: Bed) -> None:
    """The authorization code flow at oidc-provider-mock, as it comes from PyPI."""
    import oidc_provider_mock

    with oidc_provider_mock.run_server_in_thread() as server:
        issuer = f"http://localhost:{server.server_port}"
        corp = test_federation.Corp(served, OidcProviderAt(issuer))
        corp.map([{"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "OIDC-email"}]}])
        browser = requests.Session()
        at = f"{served.config.base_url}{test_federation.WEBSSO}"
        there = browser.get(at, params={"origin": DASHBOARD}, allow_redirects=False, timeout=20)
        assert there.status_code == 302, there.text
        back = browser.post(
            there.headers["Location"], data={"sub": "ada@example.org"}, allow_redirects=False, timeout=20
        )
        assert back.status_code == 302, back.text
        page = browser.get(back.headers["Location"], timeout=20)
        assert page.status_code == 200, page.text
        token = re.search(r'name="token" value="([^"]+)"', page.text)
        assert token
        headers = {"X-Subject-Token": html.unescape(token[1])}
        shown = served.admin.get("/identity/v3/auth/tokens", headers=headers).json["token"]
        assert shown["user"]["name"] == "ada@example.org"
        # Its access tokens are opaque, and it has no introspection: whoever it gives one to is who userinfo says.
        form = {"client_id": CLIENT_ID, "redirect_uri": "http://localhost/", "response_type": "code"}
        asked = {**form, "scope": "openid email"}
        back = browser.post(
            f"{issuer}/oauth2/authorize",
            params=asked,
            data={"sub": "ada@example.org"},
            allow_redirects=False,
            timeout=20,
        )
        code = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(back.headers["Location"]).query))["code"]
        given = {"grant_type": "authorization_code", "code": code, "redirect_uri": "http://localhost/"}
        client = CLIENT_ID, CLIENT_SECRET
        got = browser.post(f"{issuer}/oauth2/token", data=given, auth=client, timeout=20).json()
        with pytest.raises(exceptions.Unauthorized):
            who(served, "v3oidcaccesstoken", "openid", access_token=got["access_token"])
        us = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        corp.oidc(issuer=issuer, userinfo=True, **us)
        made = who(served, "v3oidcaccesstoken", "openid", access_token=got["access_token"])
        assert made["user"]["id"] == shown["user"]["id"]


class OidcProviderAt:
    """What `Corp` needs to know of a provider."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
