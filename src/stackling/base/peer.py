"""Who is at the other end of a request: its address and its TLS client certificate.

Behind a reverse proxy both are what the proxy says, if the configuration names the proxy; anybody else who sends such
headers is not believed.
"""

import base64
import binascii
import hashlib
import ipaddress
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from falcon import Request

from stackling.base.config import Api

_LONGEST = 16 << 10  # characters of a certificate in a header


def address(req: Request, config: Api) -> str:
    """The address that the request came from."""
    near = str(req.remote_addr)
    if config.trusted_proxies and _trusted(near, config):
        for far in reversed((req.get_header("X-Forwarded-For") or "").split(",")):
            if far.strip() and not _trusted(near := far.strip(), config):
                break
    return near


def certificate(req: Request, config: Api) -> x509.Certificate | None:
    """The client certificate that the proxy checked. None without one, and for one that can't be read.

    The header holds it as PEM in URL encoding (nginx: `$ssl_client_escaped_cert`), or as RFC 9440 has it.
    """
    if not config.client_certificate_header or not _trusted(str(req.remote_addr), config):
        return None
    text = req.get_header(config.client_certificate_header) or ""
    if not text or len(text) > _LONGEST:
        return None
    try:
        if text.startswith(":"):
            return x509.load_der_x509_certificate(base64.b64decode(text.strip().strip(":"), validate=True))
        return x509.load_pem_x509_certificate(unquote_to_bytes(text))
    except (ValueError, binascii.Error):
        return None


def digest(found: x509.Certificate) -> bytes:
    """SHA-256 of a certificate, which is what `x5t#S256` (RFC 8705) encodes."""
    return hashlib.sha256(found.public_bytes(Encoding.DER)).digest()


def thumbprint(found: x509.Certificate | None) -> str:
    """`x5t#S256` of a certificate; empty for none."""
    return base64.urlsafe_b64encode(digest(found)).rstrip(b"=").decode() if found is not None else ""


def _trusted(near: str, config: Api) -> bool:
    try:
        ip = ipaddress.ip_address(near)
        return any(ip in ipaddress.ip_network(net, strict=False) for net in config.trusted_proxies)
    except ValueError:
        return False
