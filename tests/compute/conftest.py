"""Clouds of more than one host."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Bed


@pytest.fixture
def pair(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[Bed]:
    """A cloud with two hosts."""
    bed = Bed(database_url, tmp_path, twice="twice" in request.node.name, hosts=("n1", "n2"))
    yield bed
    bed.close()
