"""The database is full, or away: the API says so with 503, nothing is half done, and all works when it is back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import Bed, Postgres

NETWORKS = "/network/v2.0/networks"
MINE = f"{NETWORKS}?name={'n' * 200}"


@contextmanager
def full(cloud: Bed) -> Iterator[None]:
    """An SQLite file that can't grow."""

    def limit(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # as large as it is, if that is more

    cloud.db.engine.dispose()
    sa.event.listen(cloud.db.engine, "connect", limit)
    try:
        yield
    finally:
        sa.event.remove(cloud.db.engine, "connect", limit)
        cloud.db.engine.dispose()


@contextmanager
def away(cloud: Bed, postgres: Postgres) -> Iterator[None]:
    """A PostgreSQL database that takes no connections."""
    name = cloud.db.url.database
    with postgres.engine.connect() as tx:
        tx.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        tx.exec_driver_sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    try:
        yield
    finally:
        with postgres.engine.connect() as tx:
            tx.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_what_can_not_be_kept_is_refused_with_503_and_works_later(
    cloud: Bed, request: pytest.FixtureRequest
) -> None:
    alice = cloud.alice
    want = {"network": {"name": "n" * 200, "description": "d" * 200}}
    made = 0
    if cloud.db.is_sqlite:
        with full(cloud):
            while (answer := alice.post(NETWORKS, want)).status == 201:
                made += 1
                assert made < 100
            assert answer.status == 503
            assert "disk of the cloud is full" in answer.json["NeutronError"]["message"]
            assert len(alice.get(MINE).json["networks"]) == made
    else:
        with away(cloud, request.getfixturevalue("postgres")):
            for answer in (alice.post(NETWORKS, want), alice.get(NETWORKS)):
                assert answer.status == 503
                assert "stackling status" in answer.json["NeutronError"]["message"]
    assert alice.post(NETWORKS, want).status == 201
    assert len(alice.get(MINE).json["networks"]) == made + 1
    cloud.settle()
    assert {network["status"] for network in alice.get(MINE).json["networks"]} == {"ACTIVE"}


@pytest.mark.parametrize(
    "path",
    [
        "/compute/v2.1/servers",
        "/image/v2/images",
        "/volume/v3/volumes",
        "/identity/v3/projects",
        "/placement/resource_providers",
    ],
)
def test_no_service_breaks_without_its_database(
    cloud: Bed, request: pytest.FixtureRequest, path: str
) -> None:
    if cloud.db.is_sqlite:
        pytest.skip("an SQLite file is not away")
    admin = cloud.admin
    with away(cloud, request.getfixturevalue("postgres")):
        answer = admin.get(path)
        assert answer.status == 503
        assert "stackling status" in answer.text
    assert admin.get(path).status == 200
