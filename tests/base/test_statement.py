"""A statement that was made once answers as SQLAlchemy does, on both databases, for every kind of column."""

from collections.abc import Iterator
from datetime import datetime

import pytest
import sqlalchemy as sa

from stackling.base.db import JSON, Database
from stackling.base.statement import Statement, among

metadata = sa.MetaData()
thing = sa.Table(
    "thing",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("size", sa.BigInteger),
    sa.Column("whole", sa.Boolean, nullable=False),
    sa.Column("made_at", sa.DateTime),
    sa.Column("more", JSON),
)
ROWS = [
    {
        "id": "a",
        "size": 1,
        "whole": True,
        "made_at": datetime(2026, 1, 2, 3, 4, 5, 6),
        "more": {"x": [1, "ü"]},
    },
    {"id": "b", "size": None, "whole": False, "made_at": None, "more": []},
    {"id": 'quo"te', "size": 2**40, "whole": True, "made_at": datetime(1970, 1, 1), "more": "text"},
]
EVERY = sa.select(thing).order_by(thing.c.id)


@pytest.fixture
def things(database_url: str) -> Iterator[Database]:
    made = Database(database_url, durable=False)
    metadata.create_all(made.engine)
    with made.begin() as tx:
        tx.execute(sa.insert(thing), ROWS)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("query", "values"),
    [
        (EVERY, {}),
        (EVERY.where(thing.c.id == sa.bindparam("id")), {"id": 'quo"te'}),
        (EVERY.where(thing.c.id == sa.bindparam("id")), {"id": "' OR 1=1 --"}),
        (EVERY.where(thing.c.made_at > sa.bindparam("then")), {"then": datetime(2000, 1, 1)}),
        (EVERY.where(thing.c.whole, thing.c.size > sa.bindparam("size")), {"size": 0}),
        (EVERY.where(among(thing.c.id, "ids")), {"ids": ["a", 'quo"te', "nobody's"]}),
        (EVERY.where(among(thing.c.id, "ids")), {"ids": []}),
        (EVERY.where(~among(thing.c.id, "ids"), thing.c.size.is_(None)).limit(1), {"ids": ["a"]}),
        (sa.select(sa.func.count().label("n"), sa.func.max(thing.c.made_at).label("last")), {}),
    ],
)
def test_it_answers_as_sqlalchemy_does(things: Database, query: sa.Select, values: dict) -> None:
    statement = Statement(query)
    for _ in range(2):
        with things.read() as tx:
            expected = list(tx.execute(query, values))
            found = statement.all(tx, **values)
            assert found == expected
            assert [r._mapping for r in found] == [r._mapping for r in expected]
            assert statement.first(tx, **values) == (expected[0] if expected else None)


def test_as_many_values_as_one_likes(things: Database) -> None:
    some = Statement(EVERY.where(among(thing.c.id, "ids")))
    with things.read() as tx:
        assert [r.id for r in some.all(tx, ids=[str(n) for n in range(100_000)] + ["b"])] == ["b"]
        assert list(some.by(tx, "whole", ids=["a", "b"])) == [True, False]


def test_a_list_is_looked_up_by_index(things: Database) -> None:
    statement = Statement(EVERY.where(among(thing.c.id, "ids")))
    if things.is_sqlite:
        with things.read() as tx:
            plan = str(
                list(
                    tx.exec_driver_sql(
                        "EXPLAIN QUERY PLAN " + str(statement.select.compile(tx.engine)), ("[]",)
                    )
                )
            )
        assert "SEARCH thing USING INDEX" in plan


def test_it_sees_its_own_transaction_and_one_picture(things: Database) -> None:
    one = Statement(EVERY.where(thing.c.id == sa.bindparam("id")))
    with things.read() as before:
        assert one.first(before, id="c") is None
        with things.begin() as tx:
            tx.execute(sa.insert(thing), [{**ROWS[0], "id": "c"}])
            assert one.first(tx, id="c") is not None
        if things.is_sqlite:  # PostgreSQL reads what is committed, statement by statement
            assert one.first(before, id="c") is None
    with things.read() as after:
        assert one.first(after, id="c") is not None


def test_a_glance_sees_what_is_committed_and_outlives_its_connection(things: Database) -> None:
    count = "SELECT count(*) FROM thing"
    assert things.glance(count) == (3,)
    with things.begin() as tx:
        tx.execute(sa.insert(thing), [{**ROWS[0], "id": "d"}])
        assert things.glance(count) == (3,)
    assert things.glance(count) == (4,)
    assert things.glance("SELECT id FROM thing WHERE id = 'nobody'") is None
    if not things.is_sqlite:
        with things.begin() as tx:
            tx.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        assert things.glance(count) == (4,)
    with pytest.raises(sa.exc.OperationalError):
        things.glance("SELECT nothing FROM nowhere")
