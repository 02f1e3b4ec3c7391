"""Secrets that are needed again are kept encrypted, with the credential keys."""

from cryptography.fernet import InvalidToken

from stackling.base.cloud import Cloud
from stackling.base.errors import Error
from stackling.identity.actions import keys


def encrypt(cloud: Cloud, plain: str) -> str:
    primary = keys.fernets(cloud, keys.CREDENTIALS).primary
    return primary.encrypt(plain.encode()).decode()


def decrypt(cloud: Cloud, kept: str) -> str:
    """Raises Error when the key it was encrypted with is gone from the repository."""
    every = keys.fernets(cloud, keys.CREDENTIALS).every
    try:
        return every.decrypt(kept.encode()).decode()
    except InvalidToken:
        raise Error(
            "A credential could not be decrypted: its key is not among the credential keys."
        ) from None
