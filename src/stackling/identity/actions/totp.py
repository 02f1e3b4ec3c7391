"""One-time passcodes from a seed that the user keeps as a credential of type `totp` (RFC 6238)."""

import base64
import hashlib
import hmac
import struct
from datetime import UTC

import sqlalchemy as sa

from stackling.base.clock import Clock
from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.identity.actions import encryption
from stackling.identity.state.credential import credential

_STEP = 30  # seconds a passcode is shown
_BEHIND = 1  # how many steps late a passcode is still taken


def passcode(seed: str, at: int) -> str:
    """The passcode of a base32 `seed` in step `at`. Raises ValueError for a bad seed."""
    key = base64.b32decode(seed.upper() + "=" * (-len(seed) % 8))
    digest = hmac.new(key, struct.pack(">Q", at), hashlib.sha1).digest()
    start = digest[-1] & 0x0F
    return str((struct.unpack(">I", digest[start : start + 4])[0] & 0x7FFFFFFF) % 1_000_000).zfill(6)


def _step(clock: Clock) -> int:
    return int(clock.now().replace(tzinfo=UTC).timestamp()) // _STEP


def matches(tx: Tx, cloud: Cloud, user_id: str, given: str) -> bool:
    """Whether `given` is the passcode of one of the user's seeds now, or was in the step before."""
    query = sa.select(credential.c.blob).where(credential.c.user_id == user_id, credential.c.type == "totp")
    now = _step(cloud.clock)
    right = False
    for blob in tx.execute(query).scalars():
        seed = encryption.decrypt(cloud, blob)
        for at in range(now - _BEHIND, now + 1):
            try:
                right = hmac.compare_digest(passcode(seed, at).encode(), given.encode()) or right
            except ValueError:
                continue
    return right
