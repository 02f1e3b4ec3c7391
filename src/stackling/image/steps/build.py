"""The life of a build. The work runs on a thread of its own, which the step asks after.

When the process dies everything that the build had running dies with it (`builder.confine`), and the next process begins
it anew: packages that were fetched are there already. A build that takes processes down with it is given up.
"""

import fcntl
import shutil
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec
import sqlalchemy as sa

from stackling.base import log
from stackling.base.background import Background
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import Error
from stackling.base.jobs import Machine, Outcome, gone, move, settle, wait
from stackling.image import builds, store
from stackling.image.actions import build, data, image
from stackling.image.actions.build import KIND
from stackling.image.actions.image import NewImage
from stackling.image.builder import BuildError, recipe
from stackling.image.builder.confine import Stopped
from stackling.image.driver import Builder
from stackling.image.state.build import ENDED, State, image_build
from stackling.image.state.image import State as ImageState

MOST_RUNS = 3

machine = Machine(KIND, image_build)
_running = Background("build")  # keyed by builds' ids, which no two clouds share
_alone = threading.Lock()


@machine.step(State.QUEUED, within=None)
def begin(row: Row, cloud: Cloud) -> Outcome:
    """One build at a time, and projects take turns: many builds of one don't keep another's waiting."""
    if row.cancelled:
        return _ended(State.CANCELLED, cloud)
    with cloud.db.read() as tx:
        before = _before(tx, row)
    if before:
        says = f"{before} other builds come first"
        return wait(2.0, says, message=says)
    return move(State.BUILDING, started_at=cloud.clock.now(), runs=0, message="the build begins")


def _before(tx: Tx, row: Row) -> int:
    """How many builds come before a queued one: what runs, and what is to run until its project has its turn."""
    of, columns = image_build.c.state, (image_build.c.id, image_build.c.project_id)
    running = sa.select(sa.func.count()).where(of.in_((State.BUILDING, State.PUBLISHING)))
    queued = sa.select(*columns).where(of == State.QUEUED)
    last = sa.select(image_build.c.project_id, sa.func.max(image_build.c.started_at))
    begun = {p: at for p, at in tx.execute(last.group_by(image_build.c.project_id)) if at is not None}
    rounds: Counter[str] = Counter()
    turns: list[tuple[int, datetime, int, str]] = []
    for id, project_id in tx.execute(queued.order_by(image_build.c.created_at, image_build.c.id)):
        turns.append((rounds[project_id], begun.get(project_id, datetime.min), len(turns), id))
        rounds[project_id] += 1
    order = [id for *_, id in sorted(turns)]
    ahead = order.index(row.id) if row.id in order else 0
    return int(tx.execute(running).scalar_one()) + ahead


@machine.step(State.BUILDING, within=None)
def make(row: Row, cloud: Cloud) -> Outcome:
    """Ask after the work, or begin it."""
    if row.id not in _running.running():
        if row.cancelled:
            return _ended(State.CANCELLED, cloud)
        if row.runs >= MOST_RUNS and not _result(row, cloud).exists():
            return _ended(
                State.FAILED,
                cloud,
                failure=f"The process that ran the build died {row.runs} times; its log may say why.",
            )
    try:
        ended = _running.run(row.id, lambda: _build(row, cloud), wait=1.0)
    except Stopped:
        return _ended(State.CANCELLED, cloud)
    except sa.exc.SQLAlchemyError:
        raise  # the database was away for a moment: later again
    except Exception as e:  # noqa: BLE001 (whatever it was, the build must not stay where it is)
        return _ended(State.FAILED, cloud, failure=_why(e))
    progress, says = _progress(row, cloud)
    if ended and _result(row, cloud).exists():
        return move(State.PUBLISHING, progress=progress, message="the image goes into the image service")
    return wait(1.0, says, progress=progress, message=says)


@machine.step(State.PUBLISHING, within=None)
def publish(row: Row, cloud: Cloud) -> Outcome:
    """The image appears, complete or not at all."""
    with cloud.db.read() as tx:
        known = image.found(tx, row.image_id)
    if known is None or known.state != ImageState.ACTIVE:
        try:
            if not _running.run(f"publish-{row.id}", lambda: _publish(row, cloud), wait=1.0):
                return wait(1.0, "the image goes into the image service")
        except Error as e:
            return _ended(State.FAILED, cloud, failure=e.says)
        return wait(0, "published")
    directory = builds.directory(cloud, row.id)
    (directory / "image.qcow2").unlink(missing_ok=True)
    return settle(
        State.SUCCEEDED,
        progress=100,
        message="the image is there",
        finished_at=cloud.clock.now(),
        then=lambda tx: build.retain(tx, cloud, row),
    )


@machine.missing
def forget(id: str, cloud: Cloud) -> Outcome:
    """The build was deleted: its files go."""
    shutil.rmtree(builds.directory(cloud, id), ignore_errors=True)
    return gone()


def _ended(state: State, cloud: Cloud, failure: str | None = None) -> Outcome:
    return settle(state, failure=failure, message=None, finished_at=cloud.clock.now())


def _why(error: Exception) -> str:
    if isinstance(error, BuildError):
        return str(error)
    log.get("image").warning("build.failed", trace="".join(traceback.format_exception(error)))
    return f"An unexpected error ended the build: {type(error).__name__}"


def _result(row: Row, cloud: Cloud) -> Path:
    return builds.directory(cloud, row.id) / "built.json"


def _progress(row: Row, cloud: Cloud) -> tuple[int, str]:
    try:
        told = msgspec.json.decode((builds.directory(cloud, row.id) / "progress.json").read_bytes())
        return int(told["progress"]), str(told["says"])
    except (OSError, ValueError, KeyError, msgspec.DecodeError):
        return row.progress, row.message or "the build begins"


def _build(row: Row, cloud: Cloud) -> None:
    """Build and test the image, unless that was done already. Raises BuildError, Stopped."""
    if _result(row, cloud).exists():
        return
    with cloud.db.begin() as tx:
        tx.execute(
            sa.update(image_build).where(image_build.c.id == row.id).values(runs=image_build.c.runs + 1)
        )
    with _only_one(cloud):
        told = cloud.driver(Builder).build(
            recipe.convert(row.recipe),
            builds.directory(cloud, row.id),
            in_machine=bool(row.in_machine),
            stop=lambda: not _wanted(row, cloud),
        )
    new = _result(row, cloud).with_suffix(".new")
    new.write_bytes(msgspec.json.encode(told))
    new.replace(_result(row, cloud))


@contextmanager
def _only_one(cloud: Cloud) -> Iterator[None]:
    """Builds share a cache, and a host has other things to do."""
    builds.home(cloud).mkdir(parents=True, exist_ok=True)
    with _alone, (builds.home(cloud) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _wanted(row: Row, cloud: Cloud) -> bool:
    with cloud.db.read() as tx:
        now = tx.execute(
            sa.select(image_build.c.cancelled, image_build.c.state).where(image_build.c.id == row.id)
        ).first()
    return now is not None and not now.cancelled and now.state not in ENDED


def _publish(row: Row, cloud: Cloud) -> None:
    """Give the image its data, as an upload of whoever asked for the build. Raises what uploads raise."""
    told = msgspec.json.decode(_result(row, cloud).read_bytes())
    who = Caller(
        policy=cloud.policy,
        user_id=row.user_id,
        project_id=row.project_id,
        request_id=row.request_id,
        roles=frozenset(
            ("admin", "member", "reader")
        ),  # what the image may be was judged when it was asked for
    )
    want = NewImage(
        id=row.image_id,
        name=row.name,
        visibility=row.visibility,
        disk_format="qcow2",
        container_format="bare",
        min_ram=told["min_ram"],
        properties={**told["properties"], "stackling_build": row.id, "stackling_build_name": row.name},
    )
    file = builds.directory(cloud, row.id) / "image.qcow2"
    with cloud.db.begin() as tx:
        if image.found(tx, row.image_id) is not None:
            image.forget(tx, cloud, row.image_id)  # of a process that died
        image.create(tx, cloud, who, want)
    store.of(cloud).remove(row.image_id)
    with file.open("rb") as source:
        chunks = iter(lambda: source.read(data.CHUNK), b"")
        data.receive(cloud, who, row.image_id, chunks, file.stat().st_size)
