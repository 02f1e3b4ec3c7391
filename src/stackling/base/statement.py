"""Queries that are made once: a request's cost is to make statements, not to run them.

    _ONE = Statement(sa.select(server).where(server.c.id == sa.bindparam("id")))
    _SOME = Statement(sa.select(server).where(among(server.c.id, "ids")))

    _ONE.first(tx, id=id)
    _SOME.all(tx, ids=ids)

SQLite's driver is asked directly, since SQLAlchemy's way to it costs three times what the answer does. With PostgreSQL
that is nothing beside the way to the server.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import result_tuple
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.visitors import InternalTraversal

from stackling.base.db import Row, Tx

Processor = Callable[[Any], Any]


class Statement:
    """A `SELECT` whose parameters are `bindparam`s; their values are given by name when it is run."""

    def __init__(self, select: sa.Select[Any]) -> None:
        self.select = select
        self._direct: _Direct | None = None

    def all(self, tx: Tx, **values: Any) -> list[Row]:
        if tx.dialect.name != "sqlite":
            return list(tx.execute(self.select, values))
        if self._direct is None:
            self._direct = _Direct(self.select, tx.dialect)
        return self._direct.rows(tx, values)

    def by(self, tx: Tx, column: str, **values: Any) -> dict[str, list[Row]]:
        """The rows by what stands in `column`, each list in the statement's order."""
        found: dict[str, list[Row]] = {}
        for row in self.all(tx, **values):
            found.setdefault(row._mapping[column], []).append(row)
        return found

    def first(self, tx: Tx, **values: Any) -> Row | None:
        """The first row, or None when there is none. To be used where there is at most one, or with a limit."""
        rows = self.all(tx, **values)
        return rows[0] if rows else None


class _Direct:
    """A query as SQLite's driver takes it: its text, and what to do to parameters and to columns."""

    def __init__(self, select: sa.Select[Any], dialect: sa.Dialect) -> None:
        compiled: Any = select.compile(dialect=dialect)
        self._sql = str(compiled)
        self._parameters: list[tuple[str, Any, Processor | None]] = [
            (name, compiled.params[name], _impl(compiled.binds[name].type, dialect).bind_processor(dialect))
            for name in compiled.positiontup or ()
        ]
        columns = list(select.selected_columns)
        made = [_impl(c.type, dialect).result_processor(dialect, None) for c in columns]
        self._processors = [(place, make) for place, make in enumerate(made) if make is not None]
        self._row = result_tuple([str(c.key) for c in columns])

    def rows(self, tx: Tx, values: dict[str, Any]) -> list[Row]:
        driver: Any = tx.connection.driver_connection
        given = [
            values.get(name, fixed) if make is None else make(values.get(name, fixed))
            for name, fixed, make in self._parameters
        ]
        found = driver.execute(self._sql, given).fetchall()
        if not self._processors:
            return [self._row(columns) for columns in found]
        rows = []
        for columns in map(list, found):
            for place, make in self._processors:
                columns[place] = make(columns[place])
            rows.append(self._row(columns))
        return rows


def _impl(kind: Any, dialect: sa.Dialect) -> Any:
    return kind.dialect_impl(dialect)


def among(column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[bool]:
    """`column IN` the list of texts that is given as the parameter `name`, however long it is."""
    return column.bool_op("IN")(_Listed(name))


class _Listed(sa.ColumnElement[str]):
    """The members of a list that is one parameter."""

    type = sa.Text()
    inherit_cache = True
    _traverse_internals = [("given", InternalTraversal.dp_clauseelement)]

    def __init__(self, name: str) -> None:
        kind = sa.JSON().with_variant(postgresql.ARRAY(sa.Text), "postgresql")
        self.given = sa.bindparam(name, type_=kind)


@compiles(_Listed, "sqlite")
def _of_json(element: _Listed, compiler: Any, **options: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(element.given, **options)}))"


@compiles(_Listed, "postgresql")
def _of_array(element: _Listed, compiler: Any, **options: Any) -> str:
    return f"(SELECT unnest({compiler.process(element.given, **options)}))"
