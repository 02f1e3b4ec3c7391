"""A real SAML2 identity provider on loopback: pysaml2's own, with web browser SSO and ECP."""

import base64
import threading
import urllib.parse
import warnings
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from lxml import etree

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import saml2
    from saml2.authn_context import PASSWORDPROTECTEDTRANSPORT
    from saml2.config import IdPConfig
    from saml2.metadata import entity_descriptor
    from saml2.saml import NAMEID_FORMAT_PERSISTENT, NameID
    from saml2.server import Server
    from saml2.sigver import CryptoBackendXmlSec1, pre_encryption_part
    from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA256

SAML = "urn:oasis:names:tc:SAML:2.0:assertion"


class SamlProvider:
    """Serves from construction to `close`. `person` is who is logged in at it: name and attributes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.name_id = "77"
        self.attributes: dict[str, Any] = {"uid": "ada", "groups": ["dev"]}
        self.password = "ada-pw"
        self.lifetime = {"minutes": 5}
        self.signs: dict[str, Any] = {"sign_assertion": True, "sign_response": False}
        self.algorithm, self.digest = SIG_RSA_SHA256, DIGEST_SHA256
        # Its cipher, how the key of that travels, and what xmlsec1 calls such a key; None: in the clear.
        self.encrypts: tuple[str, str, str] | None = None
        self._key()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.entity_id = f"{self.url}/metadata"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.sp_metadata: list[str] = []

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _key(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp")]), datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        pem = serialization.Encoding.PEM
        (self.home / "cert.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
        form = serialization.PrivateFormat.TraditionalOpenSSL
        (self.home / "key.pem").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))

    def _config(self) -> Any:
        endpoints = {"single_sign_on_service": [(f"{self.url}/sso", saml2.BINDING_HTTP_REDIRECT)]}
        endpoints["single_sign_on_service"] += [(f"{self.url}/ecp", saml2.BINDING_SOAP)]
        policy = {"default": {"lifetime": self.lifetime, "attribute_restrictions": None}}
        settings = {
            "entityid": self.entity_id,
            "key_file": str(self.home / "key.pem"),
            "cert_file": str(self.home / "cert.pem"),
            "metadata": {"inline": self.sp_metadata} if self.sp_metadata else {},
            "xmlsec_binary": "/usr/bin/xmlsec1",
            "service": {
                "idp": {"endpoints": endpoints, "policy": policy, "want_authn_requests_signed": False}
            },
        }
        return IdPConfig().load(settings)

    def metadata(self) -> str:
        return str(entity_descriptor(self._config()))

    def answer(self, request: str, binding: str, change: Callable[[str], str] = str) -> tuple[str, str]:
        """Where the response to a request goes, and the response, signed, then changed as a test wants it."""
        server = Server(config=self._config())
        asked = server.parse_authn_request(request, binding)
        where = server.response_args(asked.message, [saml2.BINDING_HTTP_POST])
        names = ("in_response_to", "sp_entity_id", "destination")
        return where["destination"], change(self._made(server, **{n: where[n] for n in names}))

    def unasked(self, destination: str, sp_entity_id: str) -> str:
        """A response that nobody asked for, in an envelope, as Keystone to Keystone sends it."""
        server = Server(config=self._config())
        made = self._made(server, in_response_to=None, sp_entity_id=sp_entity_id, destination=destination)
        body = made.partition("?>")[2] if made.startswith("<?") else made
        soap = "http://schemas.xmlsoap.org/soap/envelope/"
        return f'<S:Envelope xmlns:S="{soap}"><S:Body>{body}</S:Body></S:Envelope>'

    def encrypted(self, text: str, *, cert_file: Path | None = None) -> str:
        """The response with its assertion encrypted for the service provider, by xmlsec1."""
        assert self.encrypts is not None
        cipher, transport, session_key = self.encrypts
        if cert_file is None:
            found = etree.fromstring(self.sp_metadata[0].encode()).find(
                ".//{*}KeyDescriptor[@use='encryption']//{*}X509Certificate"
            )
            cert_file = self.home / "sp.pem"
            lines = "\n".join(
                ["-----BEGIN CERTIFICATE-----", *found.text.split(), "-----END CERTIFICATE-----"]
            )
            cert_file.write_text(lines + "\n")
        root = etree.fromstring(text.encode())
        clear = root.find(f"{{{SAML}}}Assertion")
        held = etree.Element(f"{{{SAML}}}EncryptedAssertion")
        root.replace(clear, held)
        held.append(clear)
        template = str(pre_encryption_part(msg_enc=cipher, key_enc=transport))
        backend = CryptoBackendXmlSec1("/usr/bin/xmlsec1")
        made = backend.encrypt_assertion(etree.tostring(root).decode(), str(cert_file), template, session_key)
        return made if isinstance(made, str) else made.decode()

    def _made(self, server: Any, **where: Any) -> str:
        made = str(
            server.create_authn_response(
                self.attributes,
                name_id=NameID(format=NAMEID_FORMAT_PERSISTENT, text=self.name_id),
                authn={"class_ref": PASSWORDPROTECTEDTRANSPORT, "authn_auth": self.url},
                sign_alg=self.algorithm,
                digest_alg=self.digest,
                **self.signs,
                **where,
            )
        )
        return made if self.encrypts is None else self.encrypted(made)

    def answer_to(self, query: str, change: Callable[[str], str]) -> tuple[str, str]:
        """The answer to a request that somebody changed on its way, its signature aside."""
        text = zlib.decompress(
            base64.b64decode(dict(urllib.parse.parse_qsl(query))["SAMLRequest"]), -15
        ).decode()
        packer = zlib.compressobj(wbits=-15)
        packed = packer.compress(change(text).encode()) + packer.flush()
        return self.answer(base64.b64encode(packed).decode(), saml2.BINDING_HTTP_REDIRECT)

    def browser(self, location: str, change: Callable[[str], str] = str) -> tuple[str, dict[str, str]]:
        """What a browser that is sent to `location` sends on, once its user has logged in: URL and form."""
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(location).query))
        assert "Signature" in asked
        assert location.startswith(f"{self.url}/sso?")
        there, text = self.answer(asked["SAMLRequest"], saml2.BINDING_HTTP_REDIRECT, change)
        return there, {"SAMLResponse": base64.b64encode(text.encode()).decode()}

    def _handler(provider) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                data = provider.metadata().encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["Content-Length"])).decode()
                pair = base64.b64decode((self.headers.get("Authorization") or "").removeprefix("Basic "))
                if pair.decode() != f"ada:{provider.password}":
                    self.send_response(401)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                there, made = provider.answer(text, saml2.BINDING_SOAP)
                data = (
                    '<S:Envelope xmlns:S="http://schemas.xmlsoap.org/soap/envelope/"'
                    ' xmlns:ecp="urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp"><S:Header>'
                    '<ecp:Response S:mustUnderstand="1" S:actor="http://schemas.xmlsoap.org/soap/actor/next"'
                    f' AssertionConsumerServiceURL="{there}"/></S:Header><S:Body>'
                    f"{made[made.index('?>') + 2 :] if made.startswith('<?') else made}</S:Body></S:Envelope>"
                ).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler
