"""The cloud's own key pairs for SAML2: one signs requests and assertions, the other is what assertions are encrypted for.

They stay as they are: whoever has our metadata believes their certificates.
"""

import os
import secrets
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from stackling.base.cloud import Cloud
from stackling.identity.saml import KeyPair

SIGNING, ENCRYPTION = "saml2", "saml2-encryption"


def key_pair(cloud: Cloud, name: str = SIGNING) -> KeyPair:
    """The pair `name`, made at first need; several processes may do so at once, and one wins."""
    there = Path(cloud.config.paths.state_dir) / "keys" / name
    if not (there / "cert.pem").exists():
        _make(there)
    return KeyPair(key=there / "key.pem", certificate=there / "cert.pem")


def _make(there: Path) -> None:
    there.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{there.name}-", dir=there.parent))
    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Stackling")])
    now = datetime.now(UTC)
    builder: Any = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(int.from_bytes(secrets.token_bytes(16), "big") >> 1)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=3650))
    pem = serialization.Encoding.PEM
    text = key.private_bytes(
        pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    with open(os.open(made / "key.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
        f.write(text)
    (made / "cert.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    try:
        os.rename(made, there)
    except OSError:
        shutil.rmtree(made)  # another process was first
