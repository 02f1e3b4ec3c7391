"""What tests of identity share."""

import functools
import inspect
import itertools
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Identity's only steps are its housekeeping. Where no clock is turned none runs, so twice would be the same test again."""
    here = Path(__file__).parent
    same = [
        item
        for item in items
        if here in item.path.parents
        and "[sqlite-twice" in item.name
        and not any(word in inspect.getsource(item.function) for word in (".turn(", ".settle("))  # type: ignore[attr-defined]
    ]
    config.hook.pytest_deselected(items=same)
    gone = {id(item) for item in same}
    items[:] = [item for item in items if id(item) not in gone]


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
