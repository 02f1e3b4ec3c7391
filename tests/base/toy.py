"""A toy resource with a life, for the tests of the job engine; also run as a worker process of its own.

Its driver is a table of effects that a step writes outside the job's transaction, as a real driver would: `ensure`
is idempotent, and every run is recorded with the process that ran it.
"""

import os
import random
import sys
import time
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table

from stackling.base import jobs, log
from stackling.base.clock import Clock
from stackling.base.cloud import Cloud
from stackling.base.config import Config
from stackling.base.db import Database, Row, one_of
from stackling.base.policy import Policy


class State(StrEnum):
    NEW = "new"
    BUILDING = "building"
    CHECKING = "checking"
    READY = "ready"
    ERROR = "error"


metadata = MetaData()
toy = Table(
    "toy",
    metadata,
    Column("id", String(36), primary_key=True),
    *one_of("state", State),
    Column("moves", Integer, default=0),
    Column("why", String(255)),
    Column("updated_at", DateTime),
)
effect = Table("effect", metadata, Column("id", String(36), primary_key=True), Column("times", Integer))
running = Table("running", metadata, Column("id", String(36), primary_key=True), Column("pid", Integer))
doubled = Table("doubled", metadata, Column("id", String(36)), Column("pids", String(64)))


def machine(*, nap: float = 0.0, fails: float = 0.0) -> jobs.Machine:
    """The toy's life; each step naps, and stumbles with probability `fails`."""
    made = jobs.Machine("toy", toy)

    def act(row: Row, cloud: Cloud) -> None:
        """What a driver does: visible to everybody at once, whatever becomes of the job."""
        with cloud.db.begin() as tx:
            held = tx.execute(sa.select(running.c.pid).where(running.c.id == row.id)).scalar()
            if held and held != os.getpid() and _alive(held):
                tx.execute(sa.insert(doubled).values(id=row.id, pids=f"{held} {os.getpid()}"))
            tx.execute(sa.delete(running).where(running.c.id == row.id))
            tx.execute(sa.insert(running).values(id=row.id, pid=os.getpid()))
        time.sleep(nap * random.random())
        with cloud.db.begin() as tx:
            if not tx.execute(
                sa.update(effect).where(effect.c.id == row.id).values(times=effect.c.times + 1)
            ).rowcount:
                tx.execute(sa.insert(effect).values(id=row.id, times=1))
            tx.execute(sa.delete(running).where(running.c.id == row.id, running.c.pid == os.getpid()))
        if random.random() < fails:
            raise RuntimeError("the driver lost its reply")

    @made.step(State.NEW, within=3600)
    def begin(row: Row, cloud: Cloud) -> jobs.Outcome:
        act(row, cloud)
        return jobs.move(State.BUILDING, moves=row.moves + 1)

    @made.step(State.BUILDING, within=3600)
    def build(row: Row, cloud: Cloud) -> jobs.Outcome:
        act(row, cloud)
        return jobs.move(State.CHECKING, moves=row.moves + 1)

    @made.step(State.CHECKING, within=3600)
    def check(row: Row, cloud: Cloud) -> jobs.Outcome:
        act(row, cloud)
        return jobs.settle(State.READY, moves=row.moves + 1)

    @made.failed
    def failed(row: Row, why: str) -> jobs.Outcome:
        return jobs.settle(State.ERROR, why=why)

    return made


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def cloud_of(url: str, clock: Clock | None = None) -> Cloud:
    database = Database(url, durable=False, pool_size=5)
    return Cloud(Config(), database, Policy([]), clock)


def create(database: Database) -> None:
    metadata.create_all(database.engine)
    jobs.job.create(database.engine, checkfirst=True)


if __name__ == "__main__":  # toy.py URL: a worker process that works until it is killed
    log.setup(level="error")
    worker = jobs.Worker(cloud_of(sys.argv[1]), [machine(nap=0.02, fails=0.05)], threads=4)
    worker.run()
    while True:
        time.sleep(60)
