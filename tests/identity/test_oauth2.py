"""OAuth2 clients: by the secret of an application credential, and by a TLS certificate that the token is bound to."""

import base64
import datetime
import hashlib
import itertools
import os
import subprocess
import sys
import threading
import wsgiref.simple_server
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from stackling.boot import assembly
from stackling.identity.actions import bootstrap, totp
from tests.conftest import Answer, Bed, User
from tests.identity.process import another, configure

V3 = "/identity/v3"
URL = f"{V3}/OS-OAUTH2/token"
HEADER = "X-Client-Cert"


def ask(bed: Any, form: Any, **headers: str) -> Answer:
    sent = {"Content-Type": "application/x-www-form-urlencoded"} | {
        k.replace("_", "-"): v for k, v in headers.items()
    }
    return User(bed, "").post(
        URL, data=form if isinstance(form, bytes) else urlencode(form).encode(), headers=sent
    )


def basic(id: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{id}:{secret}".encode()).decode()


GRANT = {"grant_type": "client_credentials"}


@pytest.fixture
def client(alice: User) -> dict[str, Any]:
    new = {"application_credential": {"name": "ci", "roles": [{"name": "reader"}]}}
    got = alice.post(f"{V3}/users/{alice.id}/application_credentials", new)
    return dict(got.json["application_credential"])


# -- by secret ---------------------------------------------------------------------------------------------------------


def test_a_client_gets_a_token_by_its_secret(cloud: Bed, alice: User, client: dict[str, Any]) -> None:
    got = ask(cloud, GRANT, Authorization=basic(client["id"], client["secret"]))
    assert got.status == 200, got
    assert (got.json["token_type"], got.headers["cache-control"]) == ("Bearer", "no-store")
    assert 3590 <= got.json["expires_in"] <= 3600
    text = got.json["access_token"]
    bearer = {"Authorization": f"Bearer {text}"}
    shown = cloud.nobody.get(f"{V3}/auth/tokens", headers={**bearer, "X-Subject-Token": text}).json["token"]
    assert (shown["user"]["id"], shown["project"]["id"]) == (alice.id, alice.project_id)
    assert [r["name"] for r in shown["roles"]] == ["reader"]
    for path in ("/compute/v2.1/servers", f"{V3}/auth/catalog", f"{V3}/auth/projects"):
        assert cloud.nobody.get(path, headers=bearer).status == 200
    assert cloud.nobody.get("/compute/v2.1/servers", headers={"Authorization": "Bearer x"}).status == 401
    in_body = {**GRANT, "client_id": client["id"], "client_secret": client["secret"]}
    assert ask(cloud, in_body).status == 200


@pytest.mark.parametrize(
    "form, status, word",
    [
        ({}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": ""}, 400, "unsupported_grant_type"),
        (GRANT, 401, "invalid_client"),
        ({**GRANT, "client_id": "nobody"}, 401, "invalid_client"),
        ({**GRANT, "client_id": "nobody", "client_secret": "x"}, 401, "invalid_client"),
        (b"grant_type=client_credentials&grant_type=password", 400, "invalid_request"),
        (b"\xff\xfe=1", 400, "invalid_request"),
    ],
)
def test_errors_are_those_of_oauth2(cloud: Bed, form: Any, status: int, word: str) -> None:
    got = ask(cloud, form)
    assert (got.status, got.json["error"]) == (status, word), got
    assert got.json["error_description"]
    assert ("www-authenticate" in got.headers) == (status == 401)


def test_wrong_secrets_and_bad_headers(cloud: Bed, client: dict[str, Any]) -> None:
    for authorization in (basic(client["id"], "wrong"), basic("", ""), "Basic ?", "Basic", "Digest x"):
        got = ask(cloud, GRANT, Authorization=authorization)
        assert got.status in (400, 401), (authorization, got)
    json_body = cloud.nobody.post(URL, {"grant_type": "client_credentials"})
    assert (json_body.status, json_body.json["error"]) == (400, "invalid_request")
    assert cloud.nobody.get(URL).status == 405
    configure(cloud, "identity", oauth2_methods=["tls_client_auth"])
    assert ask(cloud, GRANT, Authorization=basic(client["id"], client["secret"])).status == 401


# -- by certificate ----------------------------------------------------------------------------------------------------


class Certificate:
    """A client certificate as a proxy passes it on."""

    def __init__(self, *, issuer: str = "root.example", **names: str) -> None:
        oids = {
            "CN": NameOID.COMMON_NAME,
            "UID": NameOID.USER_ID,
            "O": NameOID.ORGANIZATION_NAME,
            "DC": NameOID.DOMAIN_COMPONENT,
            "EMAILADDRESS": NameOID.EMAIL_ADDRESS,
        }
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        self.made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(oids[n], v) for n, v in names.items()]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        self.der = self.made.public_bytes(Encoding.DER)

    @property
    def header(self) -> str:
        return quote(self.made.public_bytes(Encoding.PEM).decode())

    @property
    def thumbprint(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.der).digest()).rstrip(b"=").decode()


RULES = [
    {
        "local": [
            {
                "user": {
                    "name": "{0}",
                    "id": "{1}",
                    "email": "{2}",
                    "domain": {"name": "{3}", "id": "{4}"},
                }
            }
        ],
        "remote": [
            {"type": "SSL_CLIENT_SUBJECT_DN_CN"},
            {"type": "SSL_CLIENT_SUBJECT_DN_UID"},
            {"type": "SSL_CLIENT_SUBJECT_DN_EMAILADDRESS"},
            {"type": "SSL_CLIENT_SUBJECT_DN_O"},
            {"type": "SSL_CLIENT_SUBJECT_DN_DC"},
            {"type": "SSL_CLIENT_ISSUER_DN_CN", "any_one_of": ["root.example"]},
        ],
    }
]


@pytest.fixture
def names(cloud: Bed, admin: User, alice: User) -> dict[str, str]:
    """What alice's certificate says; the cloud is behind a proxy, and has the mapping."""
    configure(cloud, "api", trusted_proxies=["127.0.0.1"], client_certificate_header=HEADER)
    mapping = {"mapping": {"rules": RULES}}
    assert admin.put(f"{V3}/OS-FEDERATION/mappings/oauth2_mapping", mapping).status == 201
    change = {"user": {"email": "alice@example.org", "default_project_id": alice.project_id}}
    assert admin.patch(f"{V3}/users/{alice.id}", change).status == 200
    return {
        "CN": "alice",
        "UID": alice.id,
        "EMAILADDRESS": "alice@example.org",
        "O": "Default",
        "DC": "default",
    }


def by_certificate(bed: Any, id: str, certificate: Certificate) -> Answer:
    return ask(bed, {**GRANT, "client_id": id}, **{HEADER: certificate.header})


def test_a_token_is_bound_to_the_clients_certificate_in_every_service(
    cloud: Bed, admin: User, alice: User, names: dict[str, str]
) -> None:
    mine, other = Certificate(**names), Certificate(**names)
    got = by_certificate(cloud, alice.id, mine)
    assert got.status == 200, got
    text = got.json["access_token"]
    shown = admin.get(f"{V3}/auth/tokens", headers={"X-Subject-Token": text}).json["token"]
    assert shown["oauth2_credential"] == {"x5t#S256": mine.thumbprint}
    assert shown["methods"] == ["oauth2_credential"]
    assert (shown["user"]["id"], shown["project"]["id"]) == (alice.id, alice.project_id)
    rfc9440 = f":{base64.b64encode(mine.der).decode()}:"
    paths = ("/compute/v2.1/servers", "/network/v2.0/networks", "/image/v2/images", f"{V3}/auth/projects")
    tokens = ({"X-Auth-Token": text}, {"Authorization": f"Bearer {text}"})
    shows = {mine.header: 200, rfc9440: 200, "": 401, other.header: 401, "nonsense": 401}
    with another(cloud) as process:
        for here, path, token in itertools.product((cloud, process), paths, tokens):
            got_by = {s: User(here, "").get(path, headers={**token, HEADER: s}).status for s in shows}
            assert got_by == shows, (path, token)
    rescope = {"methods": ["token"], "token": {"id": text}}
    again = cloud.nobody.post(
        f"{V3}/auth/tokens", {"auth": {"identity": rescope}}, headers={HEADER: mine.header}
    )
    assert again.status == 403, "it can't be exchanged for one that is not bound"
    configure(cloud, "identity", token_provider="jws")
    signed = by_certificate(cloud, alice.id, mine).json["access_token"]
    assert User(cloud, signed).get(f"{V3}/auth/projects").status == 401
    assert User(cloud, signed).get(f"{V3}/auth/projects", headers={HEADER: mine.header}).status == 200


@pytest.mark.parametrize(
    "change",
    [
        {"CN": "bob"},
        {"UID": "other"},
        {"EMAILADDRESS": "bob@example.org"},
        {"O": "Other"},
        {"DC": "other"},
        {"issuer": "evil.example"},
    ],
)
def test_a_certificate_must_be_its_users(
    cloud: Bed, alice: User, names: dict[str, str], change: dict[str, str]
) -> None:
    got = by_certificate(cloud, alice.id, Certificate(**{**names, **change}))
    assert (got.status, got.json["error"]) == (401, "invalid_client"), got


def test_what_else_a_client_certificate_needs(
    cloud: Bed, admin: User, alice: User, bob: User, names: dict[str, str]
) -> None:
    mine = Certificate(**names)
    assert by_certificate(cloud, "nobody", mine).status == 401
    assert by_certificate(cloud, bob.id, mine).status == 401
    partly = {k: v for k, v in names.items() if k != "UID"}
    assert by_certificate(cloud, alice.id, Certificate(**partly)).status == 401
    configure(cloud, "identity", oauth2_methods=["client_secret_basic"])
    assert by_certificate(cloud, alice.id, mine).status == 401
    configure(cloud, "identity", oauth2_methods=["tls_client_auth"], oauth2_mapping="other")
    assert by_certificate(cloud, alice.id, mine).status == 401
    configure(cloud, "identity", oauth2_mapping="oauth2_mapping")
    assert by_certificate(cloud, alice.id, mine).status == 200
    assert admin.patch(f"{V3}/users/{alice.id}", {"user": {"default_project_id": None}}).status == 200
    assert by_certificate(cloud, alice.id, mine).status == 401


def test_only_the_configured_proxy_is_believed(cloud: Bed, alice: User, names: dict[str, str]) -> None:
    mine = Certificate(**names)
    text = by_certificate(cloud, alice.id, mine).json["access_token"]
    for trusted, header in ((["10.0.0.1"], HEADER), ([], HEADER), (["127.0.0.1"], "")):
        configure(cloud, "api", trusted_proxies=trusted, client_certificate_header=header)
        assert by_certificate(cloud, alice.id, mine).status == 401
        assert User(cloud, text).get(f"{V3}/auth/projects", headers={HEADER: mine.header}).status == 401


# -- with the real clients ---------------------------------------------------------------------------------------------


class _Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


class Served:
    """The cloud on a port; `certificate` is put into each request, as the proxy does for a client that has one."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.certificate: Certificate | None = None
        app = assembly.application(bed.cloud)

        def behind_proxy(environ: dict[str, Any], start: Any) -> Any:
            if self.certificate is not None:
                environ["HTTP_X_CLIENT_CERT"] = self.certificate.header
            return app(environ, start)

        self.server = wsgiref.simple_server.make_server("127.0.0.1", 0, behind_proxy, handler_class=_Quiet)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        configure(bed, "api", public_url=self.url)
        with bed.db.begin() as tx:
            bootstrap.bootstrap(tx, bed.cloud)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def openstack(self, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        command = str(Path(sys.executable).parent / "openstack")
        environ = {k: v for k, v in os.environ.items() if not k.startswith("OS_")}
        return subprocess.run(
            [command, *(() if more else ("--os-auth-url", f"{self.url}{V3}")), *arguments],
            capture_output=True,
            text=True,
            env=environ | more,
            timeout=120,
            check=False,
        )

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def served(cloud: Bed) -> Iterator[Served]:
    made = Served(cloud)
    yield made
    made.stop()


def test_the_openstack_client_logs_in_as_an_oauth2_client(
    cloud: Bed, alice: User, client: dict[str, Any], served: Served
) -> None:
    kind = ("--os-auth-type", "v3oauth2clientcredential", "--os-oauth2-endpoint", served.url + URL)
    who = ("--os-oauth2-client-id", client["id"], f"--os-oauth2-client-secret={client['secret']}")
    shown = served.openstack(*kind, *who, "token", "issue", "-f", "value", "-c", "project_id")
    assert shown.stdout.strip() == alice.project_id, shown
    listed = served.openstack(*kind, *who, "server", "list", "-f", "json")
    assert listed.stdout.strip() == "[]", listed
    wrong = served.openstack(*kind, *who[:3], "wrong", "token", "issue")
    assert wrong.returncode != 0


def test_the_openstack_client_logs_in_by_certificate(
    cloud: Bed, alice: User, names: dict[str, str], served: Served
) -> None:
    kind = ("--os-auth-type", "v3oauth2mtlsclientcredential", "--os-oauth2-endpoint", served.url + URL)
    who = ("--os-oauth2-client-id", alice.id)
    served.certificate = Certificate(**names)
    listed = served.openstack(*kind, *who, "server", "list", "-f", "json")
    assert listed.stdout.strip() == "[]", listed
    served.certificate = Certificate(**{**names, "CN": "bob"})
    assert served.openstack(*kind, *who, "token", "issue").returncode != 0


def test_the_openstack_client_logs_in_with_two_factors(
    cloud: Bed, admin: User, alice: User, served: Served, tmp_path: Path
) -> None:
    seed = base64.b32encode(b"a seed of 20 bytes..").decode()
    kept = {"credential": {"type": "totp", "blob": seed, "user_id": alice.id}}
    assert alice.post(f"{V3}/credentials", kept).status == 201
    rules = {"multi_factor_auth_enabled": True, "multi_factor_auth_rules": [["password", "totp"]]}
    assert admin.patch(f"{V3}/users/{alice.id}", {"user": {"options": rules}}).status == 200
    auth = {
        "auth_url": served.url + V3,
        "username": "alice",
        "user_domain_id": "default",
        "password": "alice-pass-word",
        "project_name": "blue",
        "project_domain_id": "default",
    }
    both = {"auth_type": "v3multifactor", "auth_methods": ["v3password", "v3totp"], "auth": auth}
    config = tmp_path / "clouds.yaml"
    config.write_text(yaml.safe_dump({"clouds": {"both": both, "one": {"auth": auth}}}))

    def asks(cloud: str, *more: str) -> "subprocess.CompletedProcess[str]":
        show = ("token", "issue", "-f", "value", "-c", "user_id")
        return served.openstack("--os-cloud", cloud, *more, *show, OS_CLIENT_CONFIG_FILE=str(config))

    code = totp.passcode(seed, totp._step(cloud.clock))
    shown = asks("both", "--os-passcode", code)
    assert shown.stdout.strip() == alice.id, shown
    assert asks("both", "--os-passcode", "000000").returncode != 0
    refused = asks("one")
    assert "Not all required auth rules were satisfied" in refused.stderr, refused
