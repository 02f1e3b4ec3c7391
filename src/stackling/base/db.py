"""The one database: SQLite on one machine, PostgreSQL for many.

Tables are SQLAlchemy Core and hang on `metadata`. A transaction is a plain `Connection`: `db.begin()` writes,
`db.read()` only reads. No transaction is held across a call to a driver.
"""

import enum
import functools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, Connection, DateTime, Index, MetaData, String, Table
from sqlalchemy.dialects import postgresql, sqlite

from stackling.base import announcement, pattern

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


def resource() -> list[Column[Any] | Index]:
    """The columns that every resource of a project has, and the order in which a project lists them. Times are naive UTC."""
    return [
        Column("id", String(36), primary_key=True),
        Column("project_id", String(64), nullable=False),
        Column("created_at", DateTime, nullable=False),
        Column("updated_at", DateTime),
        Index(None, "project_id", "created_at", "id"),
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
        options["pool_use_lifo"] = True  # few connections are in use, and those are warm
        options |= {
            "json_serializer": _json,
            "json_deserializer": msgspec.json.decode,
        }  # 10 times as fast as `json`
        if self.is_sqlite:
            options["connect_args"] = {"cached_statements": 512}  # 128 by default, fewer than the cloud has
        else:
            options["pool_pre_ping"] = True
        self.engine = sa.create_engine(self.url, **options)
        self._errors = self.engine.dialect.loaded_dbapi.Error
        self._writing = threading.Lock()
        self._writer: int | None = None
        self._watching = threading.Lock()
        self._watch: Any = None  # a connection of the driver's own, for what is asked at each request
        self._mark: announcement.Mark | None = None
        self._listener: announcement.Listener | None = None
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
        with ExitStack() as around:  # what `announce` adds to it lasts until the transaction has ended
            if self.is_sqlite:
                # SQLite has one writer; waiting here is fair and cheap, waiting in its busy handler is neither.
                if self._writer == threading.get_ident():
                    raise RuntimeError(
                        "this thread already has a writing transaction open; pass it on instead"
                    )
                around.enter_context(self._writing)
                self._writer = threading.get_ident()
                around.callback(self._written)
            with self._write_engine.connect() as tx, tx.begin():
                info = tx.info  # of its connection, whose next transaction may be one that only reads
                info.update(notes=notes, announce=functools.partial(self._announce, tx, around))
                try:
                    yield tx
                    self._join(tx)
                finally:
                    info.pop("announce", None)
        if notes:
            for hear in self._after:
                hear(notes)

    def _written(self) -> None:
        self._writer = None

    def _join(self, tx: Tx) -> None:
        for join in self._before:
            join(tx)

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """A reading transaction: one consistent picture, never blocks a writer."""
        with self.engine.connect() as tx:
            tx.begin()  # a `Statement` asks the driver, and nothing else would begin it then
            yield tx

    def listen(self, latest: str) -> None:
        """Hear at once what other processes commit; `latest` is the SQL that reads the number last announced.

        For processes that serve, since each commit that announces something waits for all that listen. SQLite's need none
        of it.
        """
        if not self.is_sqlite and self._listener is None:
            self._listener = announcement.Listener(self._own, latest, self._hear)

    def announced(self) -> bytes | int | None:
        """Something else after each `announce` that was committed, in whatever process: for what may be believed until then.

        None when this process can't tell, and has to ask. It costs no query, and 0.1 µs.
        """
        if self.is_sqlite:
            try:
                return self._shared_mark().value()
            except OSError:  # a disk that is full, or can only be read
                return None
        return self._listener.value() if self._listener is not None else None

    def _announce(self, tx: Tx, around: ExitStack, number: Callable[[Tx], int]) -> None:
        if self.is_sqlite:
            around.enter_context(self._shared_mark().changing())
            return
        made = number(tx)
        tx.execute(_NOTIFY, {"text": f"{announcement.PREFIX}{made}"})
        around.push(lambda failed, *_: None if failed else self._arrive(made))

    def _arrive(self, number: int) -> None:
        """Return when whoever believes anything has heard of the announcement `number`, which is committed."""
        latest = time.monotonic() + announcement.LEASE
        wait = threading.Event().wait
        try:
            with self.engine.connect() as tx:
                session = tx.connection.driver_connection
                while not announcement.arrived(session, number) and time.monotonic() < latest:
                    wait(0.001)
        except (sa.exc.SQLAlchemyError, self._errors):  # it is committed all the same
            wait(max(0.0, latest - time.monotonic()))

    def _hear(self, text: str) -> None:
        for hear in self._after:
            hear({text})

    def _shared_mark(self) -> announcement.Mark:
        if self._mark is None:
            with self._watching:
                if self._mark is None:
                    self._mark = announcement.Mark(Path(f"{self.url.database}-mark"))
        return self._mark

    def glance(self, sql: str) -> tuple[Any, ...] | None:
        """The first row, as it is committed now: past SQLAlchemy and its pool, whose way to PostgreSQL costs ten times more."""
        with self._watching:
            fresh = self._watch is None
            try:
                if fresh:
                    self._watch = self._own()
                return cast(tuple[Any, ...] | None, self._watch.execute(sql).fetchone())
            except self._errors as e:
                self._unwatch()
                if fresh:
                    raise sa.exc.OperationalError(sql, None, e) from e
        return self.glance(sql)  # by a new one: the server may have been started again since

    def _own(self) -> Any:
        """A connection of the driver that is nobody else's, and begins no transaction by itself."""
        taken = self.engine.raw_connection()
        made: Any = taken.driver_connection
        taken.detach()
        if not self.is_sqlite:
            made.autocommit = True
        return made

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.engine.dispose()
        with self._watching:
            self._unwatch()
            if self._mark is not None:
                self._mark.close()
                self._mark = None


FULL = "its disk is full"
_SQLITE_AWAY = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_IOERR: "its file can't be read or written",
    sqlite3.SQLITE_CANTOPEN: "its file can't be opened",
    sqlite3.SQLITE_READONLY: "its file can't be written",
    sqlite3.SQLITE_BUSY: "it is busy",
}
_POSTGRESQL_AWAY = ("08", "53", "57", "58")  # classes of sqlstate: connection, resources, operator, system


def away(error: BaseException) -> str | None:
    """Why the database can't work just now, in a few words; None when the error is not about that."""
    if isinstance(error, sa.exc.TimeoutError):
        return "it is busy"
    if isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
        said: BaseException | None = error.orig
    elif isinstance(error, sqlite3.OperationalError):  # of a `Statement`, which asks the driver itself
        said = error
    else:
        return None
    if isinstance(said, sqlite3.Error):
        return _SQLITE_AWAY.get(getattr(said, "sqlite_errorcode", 0) & 0xFF)
    state = getattr(said, "sqlstate", None)
    if state == "53100":
        return FULL
    return "it does not answer" if state is None or state.startswith(_POSTGRESQL_AWAY) else None


def note(tx: Tx, text: str) -> None:
    """Leave a note for those who listen to `after_commit`; on PostgreSQL other processes hear it too."""
    notes = tx.info.setdefault("notes", set())
    if text not in notes:
        notes.add(text)
        if tx.dialect.name == "postgresql":
            tx.execute(_NOTIFY, {"text": text})


def announce(tx: Tx, number: Callable[[Tx], int]) -> None:
    """With the commit of `tx`, have no process believe what it keeps (`Database.announced`).

    `number` reads what is greater with each such transaction, in the order of their commits. Asking more than once is the
    same as asking once. Raises KeyError outside of `Database.begin`.
    """
    make = tx.info["announce"]
    if make is not None:
        tx.info["announce"] = None
        make(number)


def upsert(
    tx: Tx, table: Table, values: dict[str, Any], update: dict[str, Any], *, key: Iterable[str]
) -> None:
    """Insert `values`; where a row with the same `key` columns stands, set `update` on it instead.

    What `update` computes (`table.c.number + 1`) is best made once by the caller: the statement is kept with it.
    """
    plain = {name: value for name, value in update.items() if not isinstance(value, sa.ColumnElement)}
    computed = tuple((name, value) for name, value in update.items() if name not in plain)
    made = _upsert(tx.dialect.name, table, tuple(values), tuple(plain), computed, tuple(key))
    tx.execute(made, {**values, **{f"new_{name}": value for name, value in plain.items()}})


@functools.lru_cache(maxsize=256)
def _upsert(
    dialect: str,
    table: Table,
    inserted: tuple[str, ...],
    plain: tuple[str, ...],
    computed: tuple[tuple[str, sa.ColumnElement[Any]], ...],
    key: tuple[str, ...],
) -> sa.Insert:
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    made: Any = insert(table).values(
        {name: sa.bindparam(name, type_=table.c[name].type) for name in inserted}
    )
    given = {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in plain}
    if given or computed:
        return cast(
            sa.Insert, made.on_conflict_do_update(index_elements=key, set_={**given, **dict(computed)})
        )
    return cast(sa.Insert, made.on_conflict_do_nothing(index_elements=key))


def lock(tx: Tx, name: str) -> None:
    """Be alone with `name` until the transaction ends. SQLite's writers always are."""
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))


_NOTIFY = sa.select(sa.func.pg_notify(announcement.CHANNEL, sa.bindparam("text", type_=String)))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _sqlite_connect(connection: sqlite3.Connection, durable: bool) -> None:
    connection.isolation_level = None  # the driver's own transaction handling is off; see _sqlite_begin
    connection.create_function("regexp", 2, pattern.matches, deterministic=True)
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
    "FULL",
    "JSON",
    "Database",
    "Index",
    "Row",
    "Tx",
    "announce",
    "away",
    "lock",
    "metadata",
    "note",
    "one_of",
    "resource",
    "upsert",
]
