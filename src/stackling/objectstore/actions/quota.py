"""How much an account or a container may have: what their headers say, checked where objects are kept."""

from stackling.base import db
from stackling.base.db import Row, Tx
from stackling.base.errors import TooLarge
from stackling.objectstore.actions import account

EXCEEDED = "Upload exceeds quota."


def check(tx: Tx, container: Row, objects: int, bytes: int) -> None:
    """Let a container have so many more objects and bytes, or raise TooLarge. Alone with the account until the end."""
    own = container.headers
    _over(own.get("X-Container-Meta-Quota-Count"), container.object_count, objects)
    _over(own.get("X-Container-Meta-Quota-Bytes"), container.bytes_used, bytes)
    limits = {n: v for n, v in container.account_headers.items() if "-Quota-" in n}
    if not limits:
        return
    db.lock(tx, f"objectstore.account:{container.account_id}")
    used = account.usage(tx, container.account_id)
    for policy, what in [
        ("", used.values()),
        (f"-Policy-{container.policy}".title(), [used[container.policy]]),
    ]:
        _over(limits.get(f"X-Account-Quota-Count{policy}"), sum(u.objects for u in what), objects)
        _over(limits.get(f"X-Account-Quota-Bytes{policy}"), sum(u.bytes for u in what), bytes)
    _over(limits.get("X-Account-Meta-Quota-Bytes"), sum(u.bytes for u in used.values()), bytes)


def _over(limit: str | None, used: int, more: int) -> None:
    if limit and more >= 0 and used + more > int(limit) and (more or used > int(limit)):
        raise TooLarge(EXCEEDED)
