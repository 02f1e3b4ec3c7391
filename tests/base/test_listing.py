"""Pages, put together, are the list: for any order, any size, nulls included, on both databases."""

import random

import pytest
import sqlalchemy as sa

from stackling.base.db import Database
from stackling.base.listing import page

metadata = sa.MetaData()
thing = sa.Table(
    "thing",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(20)),
    sa.Column("size", sa.Integer, nullable=False),
)


@pytest.fixture
def things(database_url: str) -> Database:
    made = Database(database_url, durable=False)
    metadata.create_all(made.engine)
    rows = [
        {"id": f"{i:03}", "name": random.choice([None, "a", "b", "c"]), "size": random.randrange(3)}
        for i in range(60)
    ]
    with made.begin() as tx:
        tx.execute(sa.insert(thing), rows)
    yield made
    made.close()


@pytest.mark.parametrize("name_falls", [False, True])
@pytest.mark.parametrize("size_falls", [False, True])
@pytest.mark.parametrize("most", [1, 7, 60])
def test_pages_are_the_list(things: Database, name_falls: bool, size_falls: bool, most: int) -> None:
    sort = [(thing.c.name, name_falls), (thing.c.size, size_falls), (thing.c.id, False)]
    with things.read() as tx:
        whole = page(tx, sa.select(thing), sort)
        paged: list[sa.Row] = []
        while got := page(tx, sa.select(thing), sort, limit=most, after=paged[-1] if paged else None):
            paged += got
        assert paged == whole
        assert len(whole) == 60
        back = page(tx, sa.select(thing), sort, limit=most, after=whole[30], backwards=True)
        assert back == whole[max(0, 30 - most) : 30]
