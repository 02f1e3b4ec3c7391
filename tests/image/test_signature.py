"""Images signed by their makers."""

import base64
import functools
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.x509.oid import NameOID

from tests.image.test_image import PATCH, RAW, V2, create, files, upload
from tests.image.test_import import allow, bring_in, show, stage, tasks

ID = "6c2f6a54-0e3a-4d7c-9a4e-0a6d1b2f3c4d"
HASHES = {"SHA-224": hashes.SHA224(), "SHA-256": hashes.SHA256(), "SHA-384": hashes.SHA384()}
HASHES["SHA-512"] = hashes.SHA512()

KEYS: dict[str, Callable[[], Any]] = {
    "RSA-PSS": lambda: rsa.generate_private_key(65537, 2048),
    "DSA": lambda: dsa.generate_private_key(2048),
    "ECC_SECP384R1": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ECC_SECP521R1": lambda: ec.generate_private_key(ec.SECP521R1()),
}


@functools.cache
def key_of(kind: str) -> Any:
    """Made once: a DSA key takes seconds."""
    return KEYS[kind]()


def certificate(key: Any, begins: datetime, ends: datetime) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "maker of images")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begins, ends)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def sign(key: Any, key_type: str, method: str, data: bytes = RAW) -> str:
    algorithm = HASHES[method]
    if key_type == "RSA-PSS":
        pss = padding.PSS(mgf=padding.MGF1(algorithm), salt_length=padding.PSS.MAX_LENGTH)
        made = key.sign(data, pss, algorithm)
    elif key_type == "DSA":
        made = key.sign(data, algorithm)
    else:
        made = key.sign(data, ec.ECDSA(algorithm))
    return base64.b64encode(made).decode()


def signed(
    signature: str, method: str = "SHA-256", key_type: str = "RSA-PSS", id: str = ID
) -> dict[str, str]:
    return {
        "img_signature": signature,
        "img_signature_hash_method": method,
        "img_signature_key_type": key_type,
        "img_signature_certificate_uuid": id,
    }


@pytest.fixture
def known(cloud: Any, tmp_path: Path) -> Path:
    """The operator's directory of certificates."""
    allow(cloud, certificates=str(tmp_path))
    return tmp_path / f"{ID}.pem"


def valid(cloud: Any, key: Any) -> bytes:
    now = cloud.clock.now()
    return certificate(key, now - timedelta(days=1), now + timedelta(days=1))


@pytest.mark.parametrize("key_type", KEYS)
@pytest.mark.parametrize("method", HASHES)
def test_what_was_signed_is_taken_and_nothing_else(
    cloud: Any, alice: Any, known: Path, key_type: str, method: str
) -> None:
    key = key_of(key_type)
    known.write_bytes(valid(cloud, key))
    id = create(alice, **signed(sign(key, key_type, method), method, key_type))["id"]
    refused = upload(alice, id, RAW[::-1])
    assert refused.status == 400
    assert "not what was signed" in refused.text
    assert (show(alice, id)["status"], files(cloud)) == ("queued", [])
    assert upload(alice, id).status == 204


def test_imports_are_checked_too(cloud: Any, alice: Any, known: Path) -> None:
    key = key_of("RSA-PSS")
    known.write_bytes(valid(cloud, key))
    for data, status in ((RAW, "active"), (RAW + b"x", "queued")):
        id = create(alice, **signed(sign(key, "RSA-PSS", "SHA-256")))["id"]
        stage(alice, id, data)
        bring_in(alice, id, "glance-direct")
        cloud.settle()
        assert show(alice, id)["status"] == status
    assert "not what was signed" in tasks(alice, id)[0]["message"]


def test_a_certificate_of_the_projects_own(cloud: Any, alice: Any, bob: Any) -> None:
    """A credential of type cert, which a member of the image's project keeps in identity."""
    key = key_of("RSA-PSS")
    made = {}
    for user in (alice, bob):
        wanted = {
            "type": "cert",
            "blob": valid(cloud, key).decode(),
            "user_id": user.id,
            "project_id": user.project_id,
        }
        answer = cloud.admin.post("/identity/v3/credentials", {"credential": wanted})
        assert answer.status == 201, answer
        made[user.name] = answer.json["credential"]["id"]
    good = create(alice, **signed(sign(key, "RSA-PSS", "SHA-256"), id=made["alice"]))["id"]
    assert upload(alice, good).status == 204
    foreign = create(alice, **signed(sign(key, "RSA-PSS", "SHA-256"), id=made["bob"]))["id"]
    assert upload(alice, foreign).status == 400


def test_what_can_not_be_checked_is_refused(cloud: Any, alice: Any, known: Path) -> None:
    key, other = key_of("RSA-PSS"), key_of("ECC_SECP384R1")
    right = signed(sign(key, "RSA-PSS", "SHA-256"))
    now = cloud.clock.now()
    old = certificate(key, now - timedelta(days=9), now - timedelta(days=1))
    cases: list[tuple[dict[str, str], bytes | None, str]] = [
        (right, None, "no certificate"),
        (right, b"no certificate at all", "read as PEM"),
        (right, old, "not valid now"),
        (right, valid(cloud, other), "not of type RSA-PSS"),
        ({**right, "img_signature": "///"}, valid(cloud, key), "not base64"),
        ({**right, "img_signature_hash_method": "MD5"}, valid(cloud, key), "none of SHA-224"),
        ({**right, "img_signature_key_type": "XYZ"}, valid(cloud, key), "none of RSA-PSS"),
        ({**right, "img_signature_certificate_uuid": "../../x"}, valid(cloud, key), "no certificate"),
        ({"img_signature": right["img_signature"]}, valid(cloud, key), "lacks img_signature_hash_method"),
    ]
    for properties, pem, says in cases:
        known.unlink(missing_ok=True)
        if pem is not None:
            known.write_bytes(pem)
        id = create(alice, **properties)["id"]
        refused = upload(alice, id)
        assert (refused.status, says in refused.text) == (400, True), refused
        assert show(alice, id)["status"] == "queued"
    assert files(cloud) == []
    gone = [{"op": "remove", "path": f"/{name}"} for name in properties]
    assert alice.patch(f"{V2}/{id}", gone, headers=PATCH).status == 200
    assert upload(alice, id).status == 204
