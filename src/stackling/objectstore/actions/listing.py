"""Lists of names, in the order of their bytes, with what is below a delimiter folded into one entry."""

from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from stackling.base.db import Row, Tx

MOST = 10_000


class Window(Struct, frozen=True, kw_only=True):
    """What part of a list is asked for. `path`: only what lies directly in that directory, none below it."""

    limit: int = MOST
    marker: str = ""
    end_marker: str = ""
    prefix: str = ""
    delimiter: str = ""
    path: str | None = None
    reverse: bool = False
    version_marker: str | None = None  # with `marker`: versions of that name older than this one


def after(prefix: str) -> str | None:
    """The least text that sorts after everything that begins with `prefix`; None: there is none."""
    while prefix:
        last = ord(prefix[-1]) + 1
        if last <= 0x10FFFF:
            return prefix[:-1] + chr(0xE000 if last == 0xD800 else last)
        prefix = prefix[:-1]
    return None


def walk(
    tx: Tx,
    query: sa.Select[Any],
    name: sa.ColumnElement[str],
    window: Window,
    version: sa.ColumnElement[str] | None = None,
) -> list[Row | str]:
    """Rows of `query` in the order of `name`; a text stands for all rows that begin with it.

    `version` orders rows of one name, the newest first.
    """
    prefix, delimiter, flat = window.prefix, window.delimiter, False
    if window.path is not None:
        prefix = window.path.rstrip("/") + "/" if window.path.rstrip("/") else ""
        delimiter, flat = "/", True
    falling = window.reverse
    order = [name.desc() if falling else name.asc(), *([version.desc()] if version is not None else [])]
    query = query.order_by(*order)
    if prefix:
        query = query.where(name >= prefix)
        end = after(prefix)
        if end is not None:
            query = query.where(name < end)
    if window.marker:
        beyond = name < window.marker if falling else name > window.marker
        if version is not None and window.version_marker is not None:
            beyond = sa.or_(beyond, sa.and_(name == window.marker, version < window.version_marker))
        query = query.where(beyond)
    if window.end_marker:
        query = query.where(name > window.end_marker if falling else name < window.end_marker)
    found: list[Row | str] = []
    bound: sa.ColumnElement[bool] | None = None
    while len(found) < window.limit:
        want = window.limit - len(found)
        rows = tx.execute((query if bound is None else query.where(bound)).limit(want)).all()
        skipped = _fold(rows, found, prefix, delimiter, flat, window)
        if len(rows) < want or not delimiter:
            return found
        last = rows[-1]
        if skipped is not None:  # the last row lies below a delimiter: go on behind all that does
            end = after(skipped)
            if not falling and end is None:
                return found
            bound = name < skipped if falling else name >= end
        elif version is not None:
            bound = sa.or_(
                name < last.name if falling else name > last.name,
                sa.and_(name == last.name, version < last.version),
            )
        else:
            bound = name < last.name if falling else name > last.name
    return found


def _fold(
    rows: Any, found: list[Row | str], prefix: str, delimiter: str, flat: bool, window: Window
) -> str | None:
    """Add rows to what was found. Returns the directory that the last of them lies in, if it does."""
    inside: str | None = None
    for row in rows:
        at = row.name.find(delimiter, len(prefix)) if delimiter else -1
        inside = row.name[: at + len(delimiter)] if at >= 0 else None
        if flat:
            # A directory that was made as an object is shown, the one that is looked into is not.
            if row.name != prefix and inside in (None, row.name):
                found.append(row)
        elif inside is None:
            found.append(row)
        elif inside != window.marker and (not found or found[-1] != inside):
            found.append(inside)
    return inside
