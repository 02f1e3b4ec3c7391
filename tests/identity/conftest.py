"""What tests of identity share."""

import functools
import itertools
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

_generate = rsa.generate_private_key
_turn = itertools.count()


@functools.cache
def _key(size: int, number: int) -> rsa.RSAPrivateKey:
    return _generate(public_exponent=65537, key_size=size)


@pytest.fixture(autouse=True)
def _keys_made_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six keys of each size take turns: making new ones for each test's parties was most of its time."""

    def next_key(*, public_exponent: int, key_size: int, backend: Any = None) -> rsa.RSAPrivateKey:
        return _key(key_size, next(_turn) % 6)

    monkeypatch.setattr(rsa, "generate_private_key", next_key)
