"""Images signed by their makers: four properties name a signature, how it was made, and the certificate it goes by.

img_signature                    base64 of the signature over the image's data
img_signature_hash_method        SHA-224, SHA-256, SHA-384 or SHA-512
img_signature_key_type           RSA-PSS, DSA or ECC_… with a curve's name
img_signature_certificate_uuid   the certificate, X.509 in PEM
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from msgspec import Struct

NAMES = (
    "img_signature",
    "img_signature_hash_method",
    "img_signature_key_type",
    "img_signature_certificate_uuid",
)
_HASHES: dict[str, tuple[str, hashes.HashAlgorithm]] = {
    "SHA-224": ("sha224", hashes.SHA224()),
    "SHA-256": ("sha256", hashes.SHA256()),
    "SHA-384": ("sha384", hashes.SHA384()),
    "SHA-512": ("sha512", hashes.SHA512()),
}
_CURVES = (
    "ECC_SECT571K1",
    "ECC_SECT409K1",
    "ECC_SECT571R1",
    "ECC_SECT409R1",
    "ECC_SECP521R1",
    "ECC_SECP384R1",
)
KEY_TYPES = ("RSA-PSS", "DSA", *_CURVES)


class SignatureError(Exception):
    """The image is not what its signer signed, or can't be checked; the sentence says why."""


class Signed(Struct, frozen=True):
    """A signature that the data must match. `hash` is hashlib's name of its hash."""

    signature: bytes
    method: str
    key_type: str
    certificate_id: str

    @property
    def hash(self) -> str:
        return _HASHES[self.method][0]


def of(properties: Mapping[str, str | None]) -> Signed | None:
    """What an image's properties say of its signature; None: it is not signed. Raises SignatureError."""
    given = [properties.get(name) for name in NAMES]
    if not any(given):
        return None
    if not all(given):
        missing = ", ".join(name for name, value in zip(NAMES, given, strict=True) if not value)
        raise SignatureError(f"Signature verification failed: the image lacks {missing}")
    text, method, key_type, id = (str(value) for value in given)
    try:
        signature = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError("Signature verification failed: img_signature is not base64") from None
    if method not in _HASHES:
        raise SignatureError(
            f"Signature verification failed: img_signature_hash_method is none of {', '.join(_HASHES)}"
        )
    if key_type not in KEY_TYPES:
        raise SignatureError(
            f"Signature verification failed: img_signature_key_type is none of {', '.join(KEY_TYPES)}"
        )
    return Signed(signature, method, key_type, id)


def verify(signed: Signed, digest: bytes, certificate: bytes, now: datetime) -> None:
    """`certificate` (PEM, valid at `now`, naive UTC) signed data of this `digest`. Raises SignatureError."""
    try:
        read = x509.load_pem_x509_certificate(certificate)
        key: Any = read.public_key()
    except ValueError:
        raise SignatureError("Signature verification failed: the certificate can't be read as PEM") from None
    begins = read.not_valid_before_utc.replace(tzinfo=None)
    ends = read.not_valid_after_utc.replace(tzinfo=None)
    if not begins <= now <= ends:
        raise SignatureError("Signature verification failed: the certificate is not valid now")
    algorithm = _HASHES[signed.method][1]
    try:
        if signed.key_type == "RSA-PSS" and isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(mgf=padding.MGF1(algorithm), salt_length=padding.PSS.AUTO)
            key.verify(signed.signature, digest, pss, Prehashed(algorithm))
        elif signed.key_type == "DSA" and isinstance(key, dsa.DSAPublicKey):
            key.verify(signed.signature, digest, Prehashed(algorithm))
        elif _curve(signed.key_type, key):
            key.verify(signed.signature, digest, ec.ECDSA(Prehashed(algorithm)))
        else:
            raise SignatureError(
                f"Signature verification failed: the certificate's key is not of type {signed.key_type}"
            )
    except InvalidSignature:
        raise SignatureError("Signature verification failed: the data is not what was signed") from None


def _curve(key_type: str, key: Any) -> bool:
    return (
        isinstance(key, ec.EllipticCurvePublicKey)
        and key_type in _CURVES
        and key.curve.name.lower() == key_type.removeprefix("ECC_").lower()
    )
