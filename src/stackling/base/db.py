"""The one database: SQLite on one machine, PostgreSQL for many.

Tables are SQLAlchemy Core and hang on `metadata`. A transaction is a plain `Connection`: `db.begin()` writes,
`db.read()` only reads. No transaction is held across a call to a driver.
"""

import enum
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, Connection, DateTime, Index, MetaData, String, Table
from sqlalchemy.dialects import postgresql, sqlite

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")

Tx = Connection
Row = sa.Row[Any]


def resource() -> list[Column[Any]]:
    """The columns that every resource of a project has; times are naive UTC."""
    return [
        Column("id", String(36), primary_key=True),
        Column("project_id", String(64), nullable=False, index=True),
        Column("created_at", DateTime, nullable=False),
        Column("updated_at", DateTime),
    ]


def one_of(name: str, values: type[enum.StrEnum], **options: Any) -> list[Any]:
    """A column that holds one member of `values`, and the check that says so."""
    listed = ", ".join(f"'{v}'" for v in values)
    return [
        Column(name, String(32), **{"nullable": False, **options}),
        CheckConstraint(f"{name} IN ({listed})", name=name),
    ]


class Database:
    """A pool of connections to one database.

    `url` is an SQLAlchemy URL (`sqlite:////path/state.db`, `postgresql+psycopg://…`). `durable=False` trades the
    promise that a committed row survives a power cut for speed; only tests want that.
    """

    def __init__(self, url: str, *, durable: bool = True, pool_size: int = 20) -> None:
        self.url = sa.make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        options: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 20, "pool_timeout": 30}
        options |= {
            "json_serializer": _json,
            "json_deserializer": msgspec.json.decode,
        }  # 10 times as fast as `json`
        if not self.is_sqlite:
            options["pool_pre_ping"] = True
        self.engine = sa.create_engine(self.url, **options)
        self._writing = threading.Lock()
        self._writer: int | None = None
        self._write_engine: Any = self.engine
        self._before: list[Callable[[Tx], None]] = []
        self._after: list[Callable[[set[str]], None]] = []
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", lambda c, _: _sqlite_connect(c, durable))
            sa.event.listen(self.engine, "begin", _sqlite_begin)
            self._write_engine = self.engine.execution_options(stackling_write=True)

    def before_commit(self, join: Callable[[Tx], None]) -> None:
        """Have `join` write its own into each transaction that is about to be committed."""
        self._before.append(join)

    def after_commit(self, hear: Callable[[set[str]], None]) -> None:
        """Have `hear` called with the notes of each committed transaction that left some."""
        self._after.append(hear)

    @contextmanager
    def begin(self) -> Iterator[Tx]:
        """A writing transaction: committed at the end, rolled back when the block raises."""
        notes: set[str] = set()
        if self.is_sqlite:
            # SQLite has one writer; waiting here is fair and cheap, waiting in its busy handler is neither.
            if self._writer == threading.get_ident():
                raise RuntimeError("this thread already has a writing transaction open; pass it on instead")
            with self._writing:
                self._writer = threading.get_ident()
                try:
                    with self._write_engine.connect() as tx, tx.begin():
                        tx.info["notes"] = notes
                        yield tx
                        self._join(tx)
                finally:
                    self._writer = None
        else:
            with self._write_engine.connect() as tx, tx.begin():
                tx.info["notes"] = notes
                yield tx
                self._join(tx)
        if notes:
            for hear in self._after:
                hear(notes)

    def _join(self, tx: Tx) -> None:
        for join in self._before:
            join(tx)

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """A reading transaction: one consistent picture, never blocks a writer."""
        with self.engine.connect() as tx:
            yield tx

    def close(self) -> None:
        self.engine.dispose()


def note(tx: Tx, text: str) -> None:
    """Leave a note for those who listen to `after_commit`; on PostgreSQL other processes hear it too."""
    notes = tx.info.setdefault("notes", set())
    if text not in notes:
        notes.add(text)
        if tx.dialect.name == "postgresql":
            tx.execute(sa.select(sa.func.pg_notify("stackling", text)))


def upsert(
    tx: Tx, table: Table, values: dict[str, Any], update: dict[str, Any], *, key: Iterable[str]
) -> None:
    """Insert `values`; where a row with the same `key` columns stands, set `update` on it instead."""
    made: Any = (postgresql if tx.dialect.name == "postgresql" else sqlite).insert(table).values(**values)
    if update:
        tx.execute(made.on_conflict_do_update(index_elements=list(key), set_=update))
    else:
        tx.execute(made.on_conflict_do_nothing(index_elements=list(key)))


def lock(tx: Tx, name: str) -> None:
    """Be alone with `name` until the transaction ends. SQLite's writers always are."""
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _sqlite_connect(connection: sqlite3.Connection, durable: bool) -> None:
    connection.isolation_level = None  # the driver's own transaction handling is off; see _sqlite_begin
    for pragma in (
        "journal_mode=WAL",
        f"synchronous={'FULL' if durable else 'OFF'}",
        "foreign_keys=ON",
        "busy_timeout=30000",
        "cache_size=-4000",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _sqlite_begin(connection: Connection) -> None:
    if connection.get_execution_options().get("stackling_write"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:  # can't fail, so it need not go the long way (20 µs of a read's 60)
        connection.connection.driver_connection.execute("BEGIN")  # type: ignore[union-attr]


__all__ = [
    "JSON",
    "Database",
    "Index",
    "Row",
    "Tx",
    "lock",
    "metadata",
    "note",
    "one_of",
    "resource",
    "upsert",
]
