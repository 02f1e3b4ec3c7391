"""What an identity provider says of itself: its metadata, of which one entity counts."""

import base64
import binascii
from typing import Any

import msgspec
from cryptography import x509
from msgspec import Struct

from stackling.identity.oidc.provider import is_safe
from stackling.identity.saml import document
from stackling.identity.saml.document import METADATA, SIGNATURE, Refused

REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
LARGEST = 1 << 20
_SHORTEST_KEY = 2048  # bits of RSA


class Invalid(ValueError):
    """An option can't be used; the text names it."""


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an identity provider speaks SAML2.

    `metadata` is its XML; `entity_id` says which of several entities is meant; `allow_unsolicited` lets command lines
    bring an assertion that nobody here asked for, as Keystone to Keystone does; `allow_sha1` believes signatures with
    SHA-1, which Keystone makes and nobody else should.
    """

    metadata: str
    entity_id: str | None = None
    allow_unsolicited: bool = False
    allow_sha1: bool = False


def chosen(want: Options) -> Options:
    """The options with the metadata of the one entity only, checked. Raises Invalid."""
    from lxml import etree

    try:
        root = document.parse(want.metadata.encode(), largest=LARGEST)
    except Refused as e:
        raise Invalid(f"metadata: {e}") from None
    tag = f"{{{METADATA}}}EntityDescriptor"
    every = [root] if root.tag == tag else list(root.iter(tag))
    speakers = [one for one in every if one.find(f"{{{METADATA}}}IDPSSODescriptor") is not None]
    found = [one for one in speakers if want.entity_id in (None, one.get("entityID"))]
    if len(found) != 1:
        raise Invalid(
            f"entity_id: the metadata has {len(found)} identity providers that it fits; it must be one"
        )
    entity = found[0]
    entity_id = entity.get("entityID")
    if not entity_id or len(entity_id) > 1024:
        raise Invalid("metadata: the identity provider has no entityID of 1 to 1024 characters")
    says = entity.find(f"{{{METADATA}}}IDPSSODescriptor")
    keys = [k for k in says.findall(f"{{{METADATA}}}KeyDescriptor") if k.get("use", "signing") == "signing"]
    certificates = [c.text for k in keys for c in k.iter(f"{{{SIGNATURE}}}X509Certificate")]
    if not certificates:
        raise Invalid("metadata: the identity provider has no certificate for signing")
    for text in certificates:
        _check_certificate(text or "")
    for one in says.findall(f"{{{METADATA}}}SingleSignOnService"):
        if one.get("Binding") == REDIRECT and not is_safe(one.get("Location") or ""):
            raise Invalid(
                "metadata: SingleSignOnService is not at an HTTPS URL (plain HTTP on loopback only)"
            )
    text = etree.tostring(entity, encoding="unicode")
    return msgspec.structs.replace(want, metadata=text, entity_id=entity_id)


def _check_certificate(text: str) -> None:
    try:
        found = x509.load_der_x509_certificate(base64.b64decode("".join(text.split()), validate=True))
        size: Any = getattr(found.public_key(), "key_size", 0)
    except (ValueError, binascii.Error):
        raise Invalid("metadata: a certificate can't be read") from None
    if type(found.public_key()).__name__.endswith("RSAPublicKey") and size < _SHORTEST_KEY:
        raise Invalid(f"metadata: a certificate's key has {size} bits; {_SHORTEST_KEY} are needed")
