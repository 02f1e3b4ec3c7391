"""The cloud's own certificate authority: certificates for nodes, the control plane and the API's TLS.

    <directory>/ca.pem  ca.key                        the authority; keys are 0600
    <directory>/issued/<name>/cert.pem  key.pem  ca.pem

What the holder of a certificate may do is in the certificate: a URI `urn:stackling:role:<role>` per role among
its alternative names.
"""

from __future__ import annotations

import datetime
import fcntl
import ipaddress
import os
import re
import ssl
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

ROLE_URN = "urn:stackling:role:"
CA_DAYS, LEAF_DAYS, RENEW_DAYS = 3650, 397, 30
# Clocks of hosts differ, so a certificate is valid a little before it is made.
SKEW = datetime.timedelta(hours=1)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Identity(Struct, frozen=True):
    """Files that a process shows to prove who it is, and the authority that it trusts."""

    cert: Path
    key: Path
    ca: Path


class CertificateAuthority:
    """The authority in one directory. Made at first use; calls may be repeated, by several processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def certificate(self) -> Path:
        """The authority's certificate, for those who are to trust it."""
        self._load()
        return self._directory / "ca.pem"

    def issue(self, name: str, sans: Iterable[str], roles: Iterable[str] = ()) -> Identity:
        """A certificate for `name`, valid for these DNS names and IP addresses, with these roles.

        The one issued before is given again while it fits and has a month left. ValueError: a bad name.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name[:64]!r} cannot be a certificate's name: use letters, digits, '.', '_' and '-'"
            )
        alternatives = [_general_name(san) for san in dict.fromkeys(sans)]
        alternatives += [x509.UniformResourceIdentifier(ROLE_URN + role) for role in sorted(set(roles))]
        here = self._directory / "issued" / name
        identity = Identity(here / "cert.pem", here / "key.pem", here / "ca.pem")
        ca_key, ca_cert = self._load()
        with self._alone():
            if _fits(identity, alternatives, ca_cert):
                return identity
            key = ec.generate_private_key(ec.SECP256R1())
            builder = _builder(name, ca_cert.subject, key.public_key(), LEAF_DAYS)
            if alternatives:
                builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            cert = (
                builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(_key_usage(signs=False), critical=True)
                .add_extension(
                    x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                    critical=False,
                )
                .add_extension(
                    x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
                )
                .sign(ca_key, hashes.SHA256())
            )
            # The certificate goes last: it is what `_fits` looks at.
            _write(identity.key, _private(key))
            _write(identity.ca, ca_cert.public_bytes(serialization.Encoding.PEM), 0o644)
            _write(identity.cert, cert.public_bytes(serialization.Encoding.PEM), 0o644)
        return identity

    def _load(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key_file, cert_file = self._directory / "ca.key", self._directory / "ca.pem"
        with self._alone():
            if not cert_file.exists():
                key = ec.generate_private_key(ec.SECP256R1())
                subject = x509.Name(
                    [x509.NameAttribute(NameOID.COMMON_NAME, f"Stackling CA {uuid.uuid4().hex[:8]}")]
                )
                cert = (
                    _builder(None, subject, key.public_key(), CA_DAYS)
                    .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                    .add_extension(_key_usage(signs=True), critical=True)
                    .sign(key, hashes.SHA256())
                )
                _write(key_file, _private(key))
                _write(cert_file, cert.public_bytes(serialization.Encoding.PEM), 0o644)
            loaded = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
            if not isinstance(loaded, ec.EllipticCurvePrivateKey):
                raise ValueError(f"{key_file} does not hold an elliptic curve key")
            return loaded, x509.load_pem_x509_certificate(cert_file.read_bytes())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self._directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def server_context(identity: Identity, mutual: bool = True) -> ssl.SSLContext:
    """TLS for a server; `mutual`: only clients with a certificate of the same authority get through."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(identity.cert, identity.key)
    if mutual:
        context.load_verify_locations(identity.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(identity: Identity) -> ssl.SSLContext:
    """TLS for a client that shows its certificate and trusts only the same authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(identity.cert, identity.key)
    context.load_verify_locations(identity.ca)
    return context


def roles_of(peer: Mapping[str, Any] | None) -> frozenset[str]:
    """The roles in a verified peer certificate, as `SSLSocket.getpeercert()` gives it."""
    names = (peer or {}).get("subjectAltName", ())
    return frozenset(
        value.removeprefix(ROLE_URN) for kind, value in names if kind == "URI" and value.startswith(ROLE_URN)
    )


def _builder(
    name: str | None, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    subject = issuer if name is None else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _key_usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(san: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(san))
    except ValueError:
        return x509.DNSName(san)


def _fits(identity: Identity, alternatives: list[x509.GeneralName], ca_cert: x509.Certificate) -> bool:
    try:
        cert = x509.load_pem_x509_certificate(identity.cert.read_bytes())
        cert.verify_directly_issued_by(ca_cert)
        have = list(cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        have = []
    except Exception:  # noqa: BLE001 - whatever is wrong with it, a new one is made
        return False
    left = cert.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return have == alternatives and left > datetime.timedelta(days=RENEW_DAYS) and identity.key.exists()


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(file: Path, content: bytes, mode: int = 0o600) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as opened:
        opened.write(content)
    part.rename(file)
