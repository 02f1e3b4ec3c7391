"""Audit: who did what to what, from where, and whether it was let through; kept in a table, shown as CADF (DMTF DSP0262).

The REST layer begins an `Act` for each request that is to be audited, and the database writes it into the first
transaction that the request commits: so the act and its event appear together or not at all. What is refused, and
logins, which may write nothing, are recorded when the answer is known. Bodies, queries and tokens are never recorded.
"""

import sqlite3
import threading
import uuid
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, String, Table, Text

from stackling.base import log
from stackling.base.clock import Clock, zulu_micros
from stackling.base.db import FULL, Database, Row, Tx, away, metadata

event = Table(
    "audit_event",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("at", DateTime, nullable=False, index=True),
    Column("action", String(64), nullable=False),
    Column("outcome", String(16), nullable=False),  # success or failure
    Column("reason", Integer),  # HTTP status, where it says more than the outcome
    Column("service", String(32), nullable=False),
    Column("target_type", String(96), nullable=False),
    Column("target_id", String(255)),
    Column("user_id", String(64)),  # null where nobody was proven to be anybody; the operator's own command
    Column("user_name", String(255)),
    Column("project_id", String(64)),
    Column("domain_id", String(64)),
    Column("address", String(64)),
    Column("method", String(16)),
    Column("path", Text),
    Column("request_id", String(64)),
    Index("ix_audit_event_target_id", "target_id"),
    Index("ix_audit_event_user_id", "user_id"),
)

_AT_ONCE = 5000  # rows forgotten in one transaction


class Act(msgspec.Struct, kw_only=True):
    """One act as it is recorded. `always`: also when it commits nothing, as a login."""

    action: str
    service: str
    target_type: str
    target_id: str | None = None
    user_id: str | None = None
    user_name: str | None = None
    project_id: str | None = None
    domain_id: str | None = None
    address: str | None = None
    method: str | None = None
    path: str | None = None
    request_id: str | None = None
    always: bool = False
    recorded: str | None = None  # the id of its event


class Audit:
    """The audit of one cloud. Keeps nothing when `days` is 0."""

    def __init__(self, database: Database, clock: Clock, days: int) -> None:
        self._db, self._clock, self._days = database, clock, days
        self._here = threading.local()  # a request is answered by one thread
        database.before_commit(self._join)

    # -- acts of requests ------------------------------------------------------------------------------------------

    def begin(self, act: Act) -> None:
        """From now on this thread is at `act`, until `end`."""
        if self._days:
            self._here.act = act

    @property
    def act(self) -> Act | None:
        """What this thread is at."""
        return getattr(self._here, "act", None)

    def initiator(self, user: Row) -> None:
        """The act of this thread is this user's: who logs in is known only on the way."""
        if self.act is not None:
            self.act.user_id, self.act.user_name, self.act.domain_id = user.id, user.name, user.domain_id

    def target(self, id: str) -> None:
        """What the act of this thread is about, where its path does not say."""
        if self.act is not None:
            self.act.target_id = id

    def drop(self) -> None:
        """The act of this thread is none after all."""
        self._here.act = None

    def _join(self, tx: Tx) -> None:
        act = self.act
        # What a login commits on its way (a failure counted, a shadow user made) does not say that it succeeds.
        if act is not None and act.recorded is None and act.action != "authenticate":
            self.record(tx, act)

    def end(self, status: int, made_id: str | None) -> None:
        """The request of this thread was answered with `status`, having made `made_id`."""
        act, self._here.act = self.act, None
        if act is None:
            return
        act.target_id = made_id or act.target_id
        failed = status >= 400
        if act.recorded is None and (status in (401, 403) or (act.always and not failed)):
            self._alone(act, status if failed else None)
        elif act.recorded is not None and (failed or made_id):
            outcome = {"outcome": "failure", "reason": status} if failed else {}
            with self._db.begin() as tx:
                same = event.c.id == act.recorded
                target = _cut("target_id", act.target_id)
                tx.execute(sa.update(event).where(same).values(target_id=target, **outcome))

    def _alone(self, act: Act, status: int | None) -> None:
        """An act that changed nothing. With a full disk it goes to the log: who is to free space must get in."""
        try:
            with self._db.begin() as tx:
                self.record(tx, act, status=status)
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            if away(error) != FULL:
                raise
            log.get("audit").error("audit.unwritten", reason=status, **msgspec.structs.asdict(act))

    # -- any act ---------------------------------------------------------------------------------------------------

    def record(self, tx: Tx, act: Act, *, status: int | None = None) -> None:
        """Keep `act` with the transaction. A `status` says that it failed, and how."""
        if not self._days:
            return
        act.recorded = str(uuid.uuid4())
        values = {k: _cut(k, v) for k, v in msgspec.structs.asdict(act).items() if k in event.c}
        outcome = "success" if status is None else "failure"
        tx.execute(
            event.insert().values(
                id=act.recorded, at=self._clock.now(), outcome=outcome, reason=status, **values
            )
        )

    def forget(self) -> None:
        """Delete what is older than the configuration wants it kept."""
        oldest = self._clock.now() - timedelta(days=self._days)
        old = sa.select(event.c.number).where(event.c.at < oldest).order_by(event.c.number).limit(_AT_ONCE)
        while True:
            with self._db.begin() as tx:
                numbers = list(tx.execute(old).scalars())
                tx.execute(sa.delete(event).where(event.c.number.in_(numbers)))
            if len(numbers) < _AT_ONCE:
                return


def _cut(column: str, value: str | None) -> str | None:
    """What is in a path or header may be longer than any id."""
    longest = getattr(event.c[column].type, "length", None)
    return value[:longest] if value is not None and longest else value


def listing(
    *, since: datetime | None = None, until: datetime | None = None, **same: str | None
) -> sa.Select[Any]:
    """Events from `since` on and before `until` whose columns are as `same` says; without an order."""
    query = sa.select(event)
    if since is not None:
        query = query.where(event.c.at >= since)
    if until is not None:
        query = query.where(event.c.at < until)
    for name, value in same.items():
        if value is not None:
            query = query.where(event.c[name] == value)
    return query


def cadf(row: Row) -> dict[str, Any]:
    """The event as CADF has it."""
    user = {"project_id": row.project_id, "domain_id": row.domain_id, "request_id": row.request_id}
    made = {
        "typeURI": "http://schemas.dmtf.org/cloud/audit/1.0/event",
        "eventType": "activity",
        "id": row.id,
        "eventTime": zulu_micros(row.at),
        "action": row.action,
        "outcome": row.outcome,
        "initiator": {
            "typeURI": "service/security/account/user",
            "id": row.user_id or ("unknown" if row.path else "stackling"),  # its own schedule or command
            "name": row.user_name,
            **{k: v for k, v in user.items() if v is not None},
            **({"host": {"address": row.address}} if row.address else {}),
        },
        "target": {"typeURI": row.target_type, "id": row.target_id or "unknown"},
        "observer": {"typeURI": f"service/{row.service}", "id": row.service},
    }
    if row.reason is not None:
        made["reason"] = {"reasonType": "HTTP", "reasonCode": str(row.reason)}
    if row.path is not None:
        made |= {"requestPath": row.path, "requestMethod": row.method}
    return made
