"""Tags of any resource of the network service."""

from collections.abc import Callable, Sequence

import sqlalchemy as sa
from sqlalchemy import Table

from stackling.base import db
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.network.actions import standard
from stackling.network.errors import InvalidInput, TagNotFound
from stackling.network.state.standard import tag, tags_of

Find = Callable[[Tx, Caller, str], Row]
MOST = 50  # upstream's limit for one resource


def check(texts: Sequence[str]) -> None:
    """Raises InvalidInput."""
    for text in texts:
        if not isinstance(text, str) or not 1 <= len(text) <= 255 or "/" in text or "," in text:
            raise InvalidInput(
                f"Invalid input for tags. Reason: {str(text)[:64]!r} is not 1 to 255 characters without '/' and ','."
            )


def _guard(tx: Tx, caller: Caller, find: Find, id: str, rule: str) -> Row:
    row = find(tx, caller, id)
    caller.may(rule, standard.target(row.project_id))
    return row


def of(tx: Tx, caller: Caller, find: Find, collection: str, id: str) -> list[str]:
    _guard(tx, caller, find, id, f"get_{collection}_tags")
    return tags_of(tx, [id]).get(id, [])


def has(tx: Tx, caller: Caller, find: Find, collection: str, id: str, text: str) -> None:
    """Raises TagNotFound."""
    if text not in of(tx, caller, find, collection, id):
        raise TagNotFound(f"Tag {text[:255]} could not be found.")


def add(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    find: Find,
    table: Table,
    collection: str,
    id: str,
    texts: Sequence[str],
) -> list[str]:
    """Add tags to those there are. Raises InvalidInput when they are too many."""
    _guard(
        tx, caller, find, id, f"create_{collection}_tags" if len(texts) != 1 else f"update_{collection}_tags"
    )
    check(texts)
    write(tx, cloud, id, texts)
    now = tags_of(tx, [id]).get(id, [])
    if len(now) > MOST:
        raise InvalidInput(f"Invalid input for tags. Reason: more than {MOST}.")
    standard.touch(tx, cloud, table, id)
    return now


def write(tx: Tx, cloud: Cloud, id: str, texts: Sequence[str]) -> None:
    for text in dict.fromkeys(texts):
        db.upsert(
            tx,
            tag,
            {"resource_id": id, "tag": text, "made_at": cloud.clock.now()},
            {},
            key=("resource_id", "tag"),
        )


def replace(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    find: Find,
    table: Table,
    collection: str,
    id: str,
    texts: Sequence[str],
) -> list[str]:
    """Make these the tags."""
    _guard(tx, caller, find, id, f"update_{collection}_tags")
    check(texts)
    if len(set(texts)) > MOST:
        raise InvalidInput(f"Invalid input for tags. Reason: more than {MOST}.")
    tx.execute(sa.delete(tag).where(tag.c.resource_id == id))
    write(tx, cloud, id, texts)
    standard.touch(tx, cloud, table, id)
    return tags_of(tx, [id]).get(id, [])


def remove(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    find: Find,
    table: Table,
    collection: str,
    id: str,
    text: str | None = None,
) -> None:
    """Take one tag away, or all. Raises TagNotFound."""
    _guard(tx, caller, find, id, f"delete_{collection}_tags")
    query = sa.delete(tag).where(tag.c.resource_id == id)
    gone = tx.execute(query if text is None else query.where(tag.c.tag == text)).rowcount
    if text is not None and not gone:
        raise TagNotFound(f"Tag {text[:255]} could not be found.")
    standard.touch(tx, cloud, table, id)
