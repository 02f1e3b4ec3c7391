"""Work that outlives a request: one row a resource, one step at a time.

A job is (kind, resource id). An action writes the wish and calls `start` in the same transaction; a worker leases
the row, runs the step that the resource's state calls for, and commits the new state and the job's next due time
together, provided it still holds the lease. So a resource is never worked on by two, nothing exists only in
memory, and a process killed anywhere leaves a row that another one takes up.
"""

import os
import socket
import threading
import traceback
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Column, DateTime, Index, Integer, String, Table, Text

from stackling.base import db, log
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx, metadata
from stackling.base.errors import Error

job = Table(
    "job",
    metadata,
    Column("kind", String(64), primary_key=True),
    Column("resource_id", String(64), primary_key=True),
    Column("due_at", DateTime, nullable=False),
    Column("leased_until", DateTime),
    Column("lease", String(160)),  # host:pid:pid's start:random, so that the dead are known by their name
    Column("wakes", Integer, nullable=False),  # raised by each wake-up, so that one during a step isn't lost
    Column("attempts", Integer, nullable=False),
    Column("since", DateTime, nullable=False),  # when the present state was entered, or the wish last renewed
    Column("why", Text),  # what the last step waited for or stumbled over
    Index("ix_job_due_at", "due_at"),
    Index("ix_job_lease", "lease"),
)

_ONE_MORE = job.c.wakes + 1
LEASE = timedelta(seconds=60)
_FIRST_RETRY, _LAST_RETRY = 0.5, 30.0  # seconds; doubles in between


class Move(msgspec.Struct, frozen=True):
    """Go to `state`, set `columns`, call `then(tx)` in the same transaction, and go on at once."""

    state: str
    columns: dict[str, Any] = {}
    then: Callable[[Tx], None] | None = None
    settle: bool = False


class Wait(msgspec.Struct, frozen=True):
    """Stay; look again after `seconds`, or sooner when woken. `why` is what an error would say at the deadline."""

    seconds: float
    why: str
    columns: dict[str, Any] = {}


class Done(msgspec.Struct, frozen=True):
    """Nothing more to do until somebody wishes something. Sets `columns`."""

    columns: dict[str, Any] = {}
    then: Callable[[Tx], None] | None = None


class Gone(msgspec.Struct, frozen=True):
    """The resource is no more: its row and its job go, with what `then(tx)` writes."""

    then: Callable[[Tx], None] | None = None


Outcome = Move | Wait | Done | Gone
Step = Callable[[Row, Cloud], Outcome]


def move(state: str, *, then: Callable[[Tx], None] | None = None, **columns: Any) -> Move:
    return Move(state, columns, then)


def settle(state: str, *, then: Callable[[Tx], None] | None = None, **columns: Any) -> Move:
    """Move to `state` and be done there: for states that need no work."""
    return Move(state, columns, then, settle=True)


def wait(seconds: float, why: str, **columns: Any) -> Wait:
    return Wait(seconds, why, columns)


def done(*, then: Callable[[Tx], None] | None = None, **columns: Any) -> Done:
    return Done(columns, then)


def gone(*, then: Callable[[Tx], None] | None = None) -> Gone:
    return Gone(then)


class GiveUp(Exception):
    """Raised by a step when trying again can't help: the resource goes to its error state with this reason now."""

    def __init__(self, says: str) -> None:
        super().__init__(says)
        self.says = says


class Machine:
    """The life of one kind of resource: its states, and the step of each that has one.

    `table` has `id` and `state`; with `table=None` the kind has no row of its own and its one step is `always`.
    """

    def __init__(self, kind: str, table: Table | None = None, *, key: str = "id") -> None:
        self.kind = kind
        self.table = table
        self.key = key
        self.steps: dict[str, tuple[Step, float | None]] = {}
        self.on_missing: Callable[[str, Cloud], Outcome] | None = None
        self.on_always: tuple[Callable[[str, Cloud], Outcome], float | None] | None = None
        self.on_failed: Callable[[Row, str], Outcome] | None = None

    def step(self, *states: str, within: float | None) -> Callable[[Step], Step]:
        """The step of these states. Past `within` seconds in one the resource fails with why; None: it never gives up."""

        def keep(fn: Step) -> Step:
            for state in states:
                self.steps[state] = fn, within
            return fn

        return keep

    def missing(self, fn: Callable[[str, Cloud], Outcome]) -> Callable[[str, Cloud], Outcome]:
        """What to do when the row is gone already (an API that deletes at once): clear up behind it."""
        self.on_missing = fn
        return fn

    def always(self, fn: Callable[[str, Cloud], Outcome]) -> Callable[[str, Cloud], Outcome]:
        """The step of a kind without a row: something done again and again."""
        self.on_always = fn, None
        return fn

    def failed(self, fn: Callable[[Row, str], Outcome]) -> Callable[[Row, str], Outcome]:
        """What becomes of a resource whose step gave up or ran out of time: usually a move to the error state."""
        self.on_failed = fn
        return fn


def start(tx: Tx, kind: str, id: str, *, now: datetime, delay: float = 0) -> None:
    """There is a new wish for this resource: work on it, with fresh patience."""
    due = now + timedelta(seconds=delay)
    fresh = {"kind": kind, "resource_id": id, "due_at": due, "wakes": 0, "attempts": 0, "since": now}
    again = {"due_at": due, "wakes": _ONE_MORE, "attempts": 0, "since": now, "why": None}
    db.upsert(tx, job, fresh, again, key=("kind", "resource_id"))
    db.note(tx, "job")


def wake(tx: Tx, kind: str, id: str, *, now: datetime) -> None:
    """Something the resource may care about has happened: look now. A step that waits keeps its deadline."""
    fresh = {"kind": kind, "resource_id": id, "due_at": now, "wakes": 0, "attempts": 0, "since": now}
    db.upsert(tx, job, fresh, {"due_at": now, "wakes": _ONE_MORE}, key=("kind", "resource_id"))
    db.note(tx, "job")


def ensure(tx: Tx, kind: str, id: str, *, now: datetime) -> None:
    """Have the job there, due now if it is new; leave it as it is otherwise (periodic work)."""
    fresh = {"kind": kind, "resource_id": id, "due_at": now, "wakes": 0, "attempts": 0, "since": now}
    db.upsert(tx, job, fresh, {}, key=("kind", "resource_id"))
    db.note(tx, "job")


class Worker:
    """Takes due jobs and runs one step each, on `threads` threads.

    `lost` is called when the leases can't be kept up: by default the process ends, since another may already be at
    work on the same resources.
    """

    def __init__(
        self,
        cloud: Cloud,
        machines: Iterable[Machine],
        *,
        threads: int = 8,
        lost: Callable[[], None] | None = None,
        twice: bool = False,
    ) -> None:
        self.cloud = cloud
        self.machines = {m.kind: m for m in machines}
        self.name = process_name()
        self._threads = threads
        self._lost = lost or (lambda: os._exit(70))
        self._twice = twice
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._free = threading.Semaphore(threads)
        self._pool: ThreadPoolExecutor | None = None
        self._loops: list[threading.Thread] = []
        self._held: set[str] = (
            set()
        )  # leases of the steps that run; one whose outcome could not be committed runs out
        self._kept = cloud.clock.monotonic()
        self.log = log.get("jobs")
        cloud.db.after_commit(self._hear)

    def _hear(self, notes: set[str]) -> None:
        if "job" in notes:
            self._wake.set()

    # -- running ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Start the threads; returns at once."""
        self.reclaim()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="job")
        for loop in (self._dispatch, self._keep_leases):
            thread = threading.Thread(target=loop, name=f"jobs-{loop.__name__.strip('_')}", daemon=True)
            thread.start()
            self._loops.append(thread)

    def stop(self) -> None:
        """Take no more jobs; return when the running steps are through."""
        self._stop.set()
        self._wake.set()
        for thread in self._loops:
            thread.join(timeout=10)
        if self._pool:
            self._pool.shutdown(wait=True)

    def _dispatch(self) -> None:
        while not self._stop.is_set():
            self._free.acquire()
            taken = None
            self._wake.clear()
            try:
                taken = self.lease()
            except Exception as e:  # noqa: BLE001 (a database that is away for a moment must not end the worker)
                self.log.warning("jobs.lease_failed", error=str(e))
                self._stop.wait(1)
            if taken is None or self._pool is None:
                self._free.release()
                self._wake.wait(self._pause())
                continue
            self._held.add(taken.lease)
            self._pool.submit(self._work, taken)

    def _work(self, taken: Row) -> None:
        try:
            self.run_one(taken)
        except Exception:  # noqa: BLE001 (the lease runs out and the job is taken up again)
            self.log.error(
                "jobs.commit_failed", kind=taken.kind, id=taken.resource_id, trace=traceback.format_exc()
            )
        finally:
            self._held.discard(taken.lease)
            self._free.release()

    def _pause(self) -> float:
        """Seconds until the next job is due; a second at most, so that a lost wake-up costs no more."""
        try:
            with self.cloud.db.read() as tx:
                due = tx.execute(sa.select(sa.func.min(job.c.due_at)).where(job.c.lease.is_(None))).scalar()
        except Exception:  # noqa: BLE001 (as above)
            return 1.0
        if due is None:
            return 1.0
        return min(1.0, max(0.0, (due - self.cloud.clock.now()).total_seconds()))

    def _keep_leases(self) -> None:
        """Renew what this process holds; end the process before a lease could run out under a running step."""
        while not self._stop.wait(LEASE.total_seconds() / 6):
            if not self._held:  # nothing to lose: a database that is away or full need not end this process
                self._kept = self.cloud.clock.monotonic()
                continue
            try:
                with self.cloud.db.begin() as tx:
                    tx.execute(
                        sa.update(job)
                        .where(job.c.lease.in_(list(self._held)))
                        .values(leased_until=self.cloud.clock.now() + LEASE)
                    )
                self._kept = self.cloud.clock.monotonic()
            except Exception as e:  # noqa: BLE001 (whatever it was, the question is only how long it lasts)
                self.log.warning("jobs.lease_not_kept", error=str(e))
                if self.cloud.clock.monotonic() - self._kept > LEASE.total_seconds() * 0.7:
                    self.log.error(
                        "jobs.lease_lost",
                        says="leases can't be renewed; this process ends so that others can go on",
                    )
                    self._lost()

    # -- one job ---------------------------------------------------------------------------------------------------

    def reclaim(self) -> int:
        """Free the leases of processes of this host that are dead; returns how many. Others' run out by themselves."""
        host = self.name.split(":")[0]
        freed = 0
        with self.cloud.db.begin() as tx:
            held = tx.execute(
                sa.select(job.c.lease).where(job.c.lease.like(host + ":%")).distinct()
            ).scalars()
            dead = [lease for lease in held if not _alive(lease)]
            for lease in dead:
                freed += tx.execute(
                    sa.update(job).where(job.c.lease == lease).values(lease=None, leased_until=None)
                ).rowcount
        return freed

    def lease(self, kinds: Iterable[str] | None = None) -> Row | None:
        """Take one due job, or None."""
        now = self.cloud.clock.now()
        free = sa.or_(job.c.leased_until.is_(None), job.c.leased_until < now)
        due = (
            sa.select(job.c.kind, job.c.resource_id)
            .where(job.c.due_at <= now, free, job.c.kind.in_(list(kinds or self.machines)))
            .order_by(job.c.due_at)
            .limit(1)
        )
        if self.cloud.db.is_sqlite:
            with self.cloud.db.read() as tx:  # looking costs no write lock
                if tx.execute(due).first() is None:
                    return None
        else:
            due = due.with_for_update(skip_locked=True)
        with self.cloud.db.begin() as tx:
            first = tx.execute(due).first()
            if first is None:
                return None
            mine = (
                sa.update(job)
                .where(job.c.kind == first.kind, job.c.resource_id == first.resource_id)
                .values(lease=f"{self.name}:{uuid.uuid4().hex}", leased_until=now + LEASE)
            )
            return tx.execute(mine.returning(job)).one()

    def run_one(self, taken: Row) -> None:
        """Run one step of a leased job and commit what came of it."""
        machine = self.machines[taken.kind]
        row = self._row(machine, taken.resource_id)
        try:
            outcome = self._outcome(machine, taken, row)
            if self._twice and isinstance(outcome, (Move, Done, Gone)):
                outcome = self._outcome(machine, taken, row)
        except GiveUp as e:
            outcome = self._fail(machine, row, e.says)
        except Exception as e:  # noqa: BLE001 (raising means later, with backoff)
            outcome = self._stumble(machine, taken, row, e)
        self._commit(machine, taken, row, outcome)

    def _row(self, machine: Machine, id: str) -> Row | None:
        if machine.table is None:
            return None
        with self.cloud.db.read() as tx:
            return tx.execute(sa.select(machine.table).where(machine.table.c[machine.key] == id)).first()

    def _outcome(self, machine: Machine, taken: Row, row: Row | None) -> Outcome:
        if machine.on_always:
            return machine.on_always[0](taken.resource_id, self.cloud)
        if row is None:
            return machine.on_missing(taken.resource_id, self.cloud) if machine.on_missing else Gone()
        if row.state not in machine.steps:
            return Done()
        step, within = machine.steps[row.state]
        outcome = step(row, self.cloud)
        if isinstance(outcome, Wait) and within is not None and self._age(taken) > within:
            return self._fail(machine, row, outcome.why)
        return outcome

    def _age(self, taken: Row) -> float:
        return (self.cloud.clock.now() - taken.since).total_seconds()

    def _stumble(self, machine: Machine, taken: Row, row: Row | None, error: Exception) -> Outcome:
        says = error.says if isinstance(error, Error) else f"{type(error).__name__}: {error}"
        known = isinstance(error, Error) or bool(getattr(error, "retry", False))
        self.log.warning(
            "jobs.step_failed",
            kind=taken.kind,
            id=taken.resource_id,
            state=getattr(row, "state", None),
            attempt=taken.attempts + 1,
            error=says,
            **({} if known else {"trace": "".join(traceback.format_exception(error))}),
        )
        within = machine.steps[row.state][1] if row is not None and row.state in machine.steps else None
        if row is not None and within is not None and self._age(taken) > within:
            return self._fail(machine, row, says)
        return Wait(min(_LAST_RETRY, _FIRST_RETRY * 2 ** min(taken.attempts, 10)), says)

    def _fail(self, machine: Machine, row: Row | None, why: str) -> Outcome:
        self.log.warning("jobs.gave_up", kind=machine.kind, id=getattr(row, machine.key, None), why=why)
        if row is None or machine.on_failed is None:
            return Done()
        return machine.on_failed(row, why)

    def _commit(self, machine: Machine, taken: Row, row: Row | None, outcome: Outcome) -> None:
        now = self.cloud.clock.now()
        with self.cloud.db.begin() as tx:
            this = sa.and_(job.c.kind == taken.kind, job.c.resource_id == taken.resource_id)
            held = tx.execute(
                sa.select(job).where(this, job.c.lease == taken.lease).with_for_update()
            ).first()
            if held is None or held.leased_until < now:
                self.log.warning("jobs.lease_gone", kind=taken.kind, id=taken.resource_id)
                return
            woken = held.wakes != taken.wakes
            if (
                row is not None
                and machine.table is not None
                and not self._write(tx, machine, row, outcome, now)
            ):
                outcome, woken = Wait(0, "changed meanwhile"), True
            elif not isinstance(outcome, Wait) and outcome.then is not None:
                outcome.then(tx)
            free: dict[str, Any] = {"lease": None, "leased_until": None}
            ends = isinstance(outcome, (Done, Gone)) or (isinstance(outcome, Move) and outcome.settle)
            if ends and not woken:
                tx.execute(sa.delete(job).where(this))
                return
            if isinstance(outcome, Wait):
                due = now if woken else now + timedelta(seconds=outcome.seconds)
                free |= {"due_at": due, "why": outcome.why, "attempts": taken.attempts + 1}
            else:
                fresh = {} if woken else {"since": now}
                free |= {
                    "due_at": now,
                    "attempts": 0,
                    "why": None,
                    **({"since": now} if isinstance(outcome, Move) else fresh),
                }
            tx.execute(sa.update(job).where(this).values(**free))
            if isinstance(outcome, Move) or woken:
                db.note(tx, "job")

    def _write(self, tx: Tx, machine: Machine, row: Row, outcome: Outcome, now: datetime) -> bool:
        """Write the row's side of an outcome; False when its state is no longer what the step looked at."""
        assert machine.table is not None
        table, this = machine.table, machine.table.c[machine.key] == getattr(row, machine.key)
        unchanged = sa.and_(this, table.c.state == row.state)
        if isinstance(outcome, Gone):
            return tx.execute(sa.delete(table).where(unchanged)).rowcount == 1
        values = dict(outcome.columns)
        if isinstance(outcome, Move):
            values["state"] = outcome.state
            if "updated_at" in table.c:
                values.setdefault("updated_at", now)
        if not values:
            return True
        return tx.execute(sa.update(table).where(unchanged).values(**values)).rowcount == 1

    # -- for tests -------------------------------------------------------------------------------------------------

    def settle(self, *, most: int = 10_000) -> None:
        """Run everything that is due now on this thread, until nothing is."""
        for _ in range(most):
            taken = self.lease()
            if taken is None:
                return
            self.run_one(taken)
        raise AssertionError(f"jobs did not settle in {most} steps")


def _boot_started(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[19]
    except OSError:
        return ""


def process_name() -> str:
    """host:pid:start of the process, which no later process shares."""
    pid = os.getpid()
    return f"{socket.gethostname()}:{pid}:{_boot_started(pid)}"


def _alive(lease: str) -> bool:
    _, pid, started, *_ = lease.split(":")
    return _boot_started(int(pid)) == started
