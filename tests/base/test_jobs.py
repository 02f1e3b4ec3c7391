"""The job engine: nothing lost, nothing stuck, nothing done by two at once."""

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from stackling.base import jobs
from stackling.base.clock import TurnedClock
from stackling.base.cloud import Cloud

from . import toy
from .toy import State
from .toy import toy as table


@pytest.fixture
def world(database_url: str) -> Cloud:
    cloud = toy.cloud_of(database_url, TurnedClock())
    toy.create(cloud.db)
    yield cloud
    cloud.db.close()


def add(cloud: Cloud, id: str) -> None:
    with cloud.db.begin() as tx:
        tx.execute(sa.insert(table).values(id=id, state=State.NEW, moves=0))
        jobs.start(tx, "toy", id, now=cloud.clock.now())


def row(cloud: Cloud, id: str) -> sa.Row:
    with cloud.db.read() as tx:
        return tx.execute(sa.select(table).where(table.c.id == id)).one()


def job_count(cloud: Cloud) -> int:
    with cloud.db.read() as tx:
        return tx.execute(sa.select(sa.func.count()).select_from(jobs.job)).scalar_one()


def test_a_resource_lives_its_life_and_the_job_ends(world: Cloud) -> None:
    add(world, "a")
    jobs.Worker(world, [toy.machine()]).settle()
    assert row(world, "a").state == State.READY
    assert row(world, "a").moves == 3
    assert job_count(world) == 0


def test_a_rolled_back_wish_leaves_no_job(world: Cloud) -> None:
    with pytest.raises(ValueError), world.db.begin() as tx:
        jobs.start(tx, "toy", "a", now=world.clock.now())
        raise ValueError
    assert job_count(world) == 0


def test_a_step_that_raises_is_tried_again_with_growing_pauses_until_its_deadline(world: Cloud) -> None:
    machine, tries = jobs.Machine("toy", table), []

    @machine.step(State.NEW, within=60)
    def stumble(row: sa.Row, cloud: Cloud) -> jobs.Outcome:
        tries.append(cloud.clock.now())
        raise RuntimeError("no disk")

    machine.failed(lambda row, why: jobs.settle(State.ERROR, why=why))
    add(world, "a")
    worker = jobs.Worker(world, [machine])
    for _ in range(1000):
        worker.settle()
        world.clock.turn(0.25)
    pauses = [(b - a).total_seconds() for a, b in itertools.pairwise(tries)]
    assert pauses[:4] == [0.5, 1, 2, 4]
    assert max(pauses) <= 30
    assert row(world, "a").state == State.ERROR
    assert "no disk" in row(world, "a").why
    assert job_count(world) == 0


def test_giving_up_fails_at_once_with_the_reason(world: Cloud) -> None:
    machine = jobs.Machine("toy", table)

    @machine.step(State.NEW, within=60)
    def refuse(row: sa.Row, cloud: Cloud) -> jobs.Outcome:
        raise jobs.GiveUp("the image is damaged")

    machine.failed(lambda row, why: jobs.settle(State.ERROR, why=why))
    add(world, "a")
    jobs.Worker(world, [machine]).settle()
    assert (row(world, "a").state, row(world, "a").why) == (State.ERROR, "the image is damaged")


def test_a_wake_up_during_a_step_is_not_lost(world: Cloud) -> None:
    machine, seen = jobs.Machine("toy", table), []

    @machine.step(State.NEW, within=None)
    def look(row: sa.Row, cloud: Cloud) -> jobs.Outcome:
        seen.append(1)
        if len(seen) == 1:
            with cloud.db.begin() as tx:
                jobs.start(tx, "toy", row.id, now=cloud.clock.now())
        return jobs.done()

    add(world, "a")
    jobs.Worker(world, [machine]).settle()
    assert len(seen) == 2
    assert job_count(world) == 0


def test_who_lost_the_lease_commits_nothing(world: Cloud) -> None:
    add(world, "a")
    slow = jobs.Worker(world, [toy.machine()])
    taken = slow.lease()
    world.clock.turn(jobs.LEASE.total_seconds() + 1)
    quick = jobs.Worker(world, [toy.machine()])
    again = quick.lease()
    assert again is not None
    slow.run_one(taken)
    assert row(world, "a").state == State.NEW
    quick.run_one(again)
    assert row(world, "a").state == State.BUILDING


def test_a_leased_job_is_nobody_elses(world: Cloud) -> None:
    add(world, "a")
    assert jobs.Worker(world, [toy.machine()]).lease() is not None
    assert jobs.Worker(world, [toy.machine()]).lease() is None


def test_leases_of_dead_processes_of_this_host_are_free_at_once(world: Cloud) -> None:
    add(world, "a")
    dead = jobs.Worker(world, [toy.machine()])
    host, _, _ = dead.name.split(":")
    dead.name = f"{host}:1073741823:99"
    assert dead.lease() is not None
    alive = jobs.Worker(world, [toy.machine()])
    assert alive.lease() is None
    assert alive.reclaim() == 1
    assert alive.lease() is not None


@pytest.mark.parametrize("busy", [True, False])
def test_a_process_that_cannot_keep_its_leases_ends_itself(
    world: Cloud, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    """One that holds none waits until the database is back."""
    monkeypatch.setattr(jobs, "LEASE", timedelta(seconds=0.6))
    ended, begun, through = threading.Event(), threading.Event(), threading.Event()
    machine = jobs.Machine("toy", table)

    @machine.step(State.NEW, within=60)
    def slow(row: sa.Row, cloud: Cloud) -> jobs.Outcome:
        begun.set()
        through.wait(30)
        return jobs.settle(State.READY)

    worker = jobs.Worker(
        toy.cloud_of(str(world.db.url.render_as_string(hide_password=False))), [machine], lost=ended.set
    )
    worker.run()
    if busy:
        add(world, "a")
        assert begun.wait(20)
    with world.db.engine.begin() as tx:
        tx.execute(sa.text("DROP TABLE job"))
    assert ended.wait(10 if busy else 2) == busy
    through.set()
    worker.stop()
    worker.cloud.db.close()


def test_the_api_may_change_a_row_under_a_step(world: Cloud) -> None:
    machine = jobs.Machine("toy", table)

    @machine.step(State.NEW, within=60)
    def slow(row: sa.Row, cloud: Cloud) -> jobs.Outcome:
        with cloud.db.begin() as tx:
            tx.execute(sa.update(table).values(state=State.CHECKING))
        return jobs.move(State.BUILDING)

    @machine.step(State.CHECKING, within=60)
    def check(row: sa.Row, cloud: Cloud) -> jobs.Outcome:
        return jobs.settle(State.READY)

    add(world, "a")
    jobs.Worker(world, [machine]).settle()
    assert row(world, "a").state == State.READY


@pytest.mark.parametrize("seconds", [float(os.environ.get("STACKLING_CHAOS_SECONDS", "12"))])
def test_workers_killed_at_random_lose_nothing_and_double_nothing(database_url: str, seconds: float) -> None:
    """Three worker processes, one SIGKILLed and replaced again and again. Minutes: STACKLING_CHAOS_SECONDS=180."""
    cloud = toy.cloud_of(database_url)
    toy.create(cloud.db)
    processes: list[subprocess.Popen[bytes]] = []

    def launch() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.base.toy", database_url], cwd=Path(__file__).parents[2]
        )

    count = 0
    try:
        processes = [launch() for _ in range(3)]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(5):
                add(cloud, f"r{count}")
                count += 1
            time.sleep(0.3 + random.random() * 0.5)
            i = random.randrange(len(processes))
            processes[i].send_signal(signal.SIGKILL)
            processes[i].wait()
            processes[i] = launch()
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and job_count(cloud):
            time.sleep(0.2)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    with cloud.db.read() as tx:
        states = dict(tx.execute(sa.select(table.c.state, sa.func.count()).group_by(table.c.state)).all())
        moves = set(tx.execute(sa.select(table.c.moves)).scalars())
        doubled = tx.execute(sa.select(toy.doubled)).all()
    left = job_count(cloud)
    cloud.db.close()
    assert (states, left, doubled) == ({State.READY: count}, 0, [])
    assert moves == {3}
