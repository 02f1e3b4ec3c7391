"""Key pairs of users. A private key is made, handed out once, and never kept."""

import base64
import hashlib
import re

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, NotFound, QuotaExceeded
from stackling.compute.actions import limits
from stackling.compute.state.keypair import keypair

_KINDS = re.compile(r"(ssh-(rsa|dss|ed25519)|ecdsa-sha2-nistp\d+|sk-[a-z0-9@.-]+)$")


def generate(comment: str) -> tuple[str, str]:
    """(private, public) of a new RSA key: PEM, which every client's library reads, and OpenSSH.

    Takes a tenth of a second: call it before the transaction.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), f"{public.decode()} {comment}"


def fingerprint(public_key: str, kind: str) -> str:
    """MD5 of an ssh key (SHA-1 of a certificate), hex with colons. Raises BadRequest for what is no key."""
    try:
        if kind == "x509":
            digest = x509.load_pem_x509_certificate(public_key.encode()).fingerprint(hashes.SHA1())
        else:
            words = public_key.split(" ")
            blob = base64.b64decode(words[1], validate=True)
            named = blob[4 : 4 + int.from_bytes(blob[:4], "big")].decode()
            if named != words[0] or not _KINDS.match(named):
                raise ValueError("the key does not say what it is")
            if not words[0].startswith("sk-"):
                serialization.load_ssh_public_key(f"{words[0]} {words[1]}".encode())
            digest = hashlib.md5(blob, usedforsecurity=False).digest()
    except Exception:  # noqa: BLE001 (parsers raise many kinds; all mean that it is no key)
        raise BadRequest("Keypair data is invalid: failed to generate fingerprint") from None
    return ":".join(f"{b:02x}" for b in digest)


def of(tx: Tx, user_id: str, name: str) -> Row:
    """Raises NotFound."""
    found = tx.execute(sa.select(keypair).where(keypair.c.user_id == user_id, keypair.c.name == name)).first()
    if found is None:
        raise NotFound(f"Keypair {name[:255]} not found for user {user_id}")
    return found


def create(
    tx: Tx, cloud: Cloud, caller: Caller, *, user_id: str, name: str, kind: str, public_key: str
) -> Row:
    """Keep a public key. Raises BadRequest for what is no key, Conflict for a name in use, QuotaExceeded."""
    caller.may("os_compute_api:os-keypairs:create", {"user_id": user_id})
    public_key = public_key.strip() if kind == "ssh" else public_key
    mark = fingerprint(public_key, kind)
    count = tx.execute(
        sa.select(sa.func.count()).select_from(keypair).where(keypair.c.user_id == user_id)
    ).scalar_one()
    most = limits.of(tx, cloud, caller.project_id)["key_pairs"]
    if 0 <= most <= count:
        raise QuotaExceeded("Quota exceeded, too many key pairs.")
    if tx.execute(
        sa.select(keypair.c.number).where(keypair.c.user_id == user_id, keypair.c.name == name)
    ).first():
        raise Conflict(f"Key pair '{name}' already exists.")
    values = {"user_id": user_id, "name": name, "type": kind, "public_key": public_key, "fingerprint": mark}
    return tx.execute(
        sa.insert(keypair).values(**values, created_at=cloud.clock.now()).returning(keypair)
    ).one()


def delete(tx: Tx, caller: Caller, *, user_id: str, name: str) -> None:
    caller.may("os_compute_api:os-keypairs:delete", {"user_id": user_id})
    row = of(tx, user_id, name)
    tx.execute(sa.delete(keypair).where(keypair.c.number == row.number))
