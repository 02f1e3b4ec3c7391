"""Hashing of passwords and application credentials' secrets: argon2id at the cost that the configuration names."""

import functools
import os
import secrets
import threading

import argon2
from argon2.low_level import Type

from stackling.base.cloud import Cloud

LONGEST = 4096  # characters; more is refused before it is hashed

# As many at once as there are cores: more would only take each other's caches, and 12 MiB each.
_hashing = threading.Semaphore(len(os.sched_getaffinity(0)))


@functools.lru_cache(maxsize=16)
def _hasher(memory_kib: int, passes: int) -> argon2.PasswordHasher:
    return argon2.PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=1, type=Type.ID)


@functools.lru_cache(maxsize=16)
def _nobody(memory_kib: int, passes: int) -> str:
    return _hasher(memory_kib, passes).hash(secrets.token_hex(16))


def digest(cloud: Cloud, plain: str) -> str:
    """The hash to keep of a secret."""
    options = cloud.config.identity
    with _hashing:
        return _hasher(options.hash_memory_kib, options.hash_passes).hash(plain)


def matches(cloud: Cloud, plain: str, kept: str | None) -> bool:
    """Whether `plain` is the secret whose hash was `kept`.

    Without one (no such user, no password) the same work is done for nothing, so that the time tells nobody which.
    """
    options = cloud.config.identity
    hasher = _hasher(options.hash_memory_kib, options.hash_passes)
    nobody = _nobody(
        options.hash_memory_kib, options.hash_passes
    )  # made at the first look, whoever it is for
    try:
        with _hashing:
            hasher.verify(kept or nobody, plain[:LONGEST])
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False
    return kept is not None and len(plain) <= LONGEST


def is_stale(cloud: Cloud, kept: str) -> bool:
    """Whether `kept` was made at another cost than the configuration's, and should be made again."""
    options = cloud.config.identity
    return _hasher(options.hash_memory_kib, options.hash_passes).check_needs_rehash(kept)
