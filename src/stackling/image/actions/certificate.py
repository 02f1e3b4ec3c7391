"""Certificates by which images are signed: an operator's directory, and credentials of type cert of the owner's members."""

from pathlib import Path

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.identity.actions import credential
from stackling.image.signature import SignatureError


def read(cloud: Cloud, id: str, project_id: str) -> bytes:
    """The certificate `id`, in PEM, for images of a project. Raises SignatureError."""
    if ids.is_uuid(id):
        plain = id.replace("-", "").lower()
        dashed = "-".join((plain[:8], plain[8:12], plain[12:16], plain[16:20], plain[20:]))
        if cloud.config.image.certificates:
            for name in (dashed, plain):
                file = Path(cloud.config.image.certificates) / f"{name}.pem"
                if file.is_file():
                    return file.read_bytes()
        with cloud.db.read() as tx:
            found = credential.certificate(tx, cloud, plain, project_id)
        if found is not None:
            return found.encode()
    raise SignatureError(f"Signature verification failed: there is no certificate {id[:64]}")
