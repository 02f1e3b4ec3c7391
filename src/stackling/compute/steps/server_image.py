"""The making of an image of a server's own disk: the host copies it, the image service takes the copy."""

from collections.abc import Callable
from datetime import timedelta

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import Error, Unavailable
from stackling.base.jobs import Machine, Outcome, gone, move, wait
from stackling.compute.actions import instance_action
from stackling.compute.actions import server_image as server_images
from stackling.compute.actions.server_image import KIND
from stackling.compute.driver import DomainFailed, HostUnavailable, Hypervisor
from stackling.compute.state import server as servers
from stackling.compute.state.server import Wanted, server
from stackling.compute.state.server_image import State, server_image
from stackling.image.actions import data
from stackling.image.actions import image as images
from stackling.image.export import Exports, ExportUnavailable

COPY = timedelta(hours=6)  # how long copy and upload may take, and their host be away

machine = Machine(KIND, server_image)


class _Over(Exception):
    """The image will never be; the sentence says why."""


@machine.step(State.COPYING, within=None)
def copy(row: Row, cloud: Cloud) -> Outcome:
    """Have the host copy the disk as it is at one moment, running or not."""

    def made() -> bool:
        return cloud.driver(Hypervisor, row.host).export_disk(row.server_id, row.id)

    def then(tx: Tx) -> None:
        servers.change(tx, row.server_id, task="image_uploading")

    return _end(row, cloud, made) or move(State.UPLOADING, then=then)


@machine.step(State.UPLOADING, within=None)
def upload(row: Row, cloud: Cloud) -> Outcome:
    """Have the image service take the copy; a killed process is followed by one that begins anew."""

    def kept() -> bool:
        return data.bring_in(cloud, cloud.driver(Exports, row.host), row.id)

    return _end(row, cloud, kept) or _finish(row, cloud, None)


def _end(row: Row, cloud: Cloud, act: Callable[[], bool]) -> Outcome | None:
    """None when `act` is done; else a wait, or the end of it all when there will be no image."""
    try:
        _check(row, cloud)
        if not act():
            return wait(1, "the disk is being copied")
    except (HostUnavailable, ExportUnavailable, Unavailable) as e:
        return wait(2, str(e))
    except (_Over, DomainFailed) as e:
        return _finish(row, cloud, str(e))
    except Error as e:
        return _finish(row, cloud, e.says)
    return None


def _check(row: Row, cloud: Cloud) -> None:
    with cloud.db.read() as tx:
        owner, image = servers.get(tx, row.server_id), images.found(tx, row.id)
    if owner is None or owner.wanted == Wanted.DELETED:
        raise _Over("The server was deleted while its image was made")
    if image is None:
        raise _Over("The image was deleted while it was made")
    if cloud.clock.now() - row.created_at > COPY:
        raise _Over(f"The image was not made within {COPY}")


def _finish(row: Row, cloud: Cloud, error: str | None) -> Outcome:
    """The copy on the host goes, then the server is free again; with an error there is no image."""
    try:
        cloud.driver(Exports, row.host).remove(row.id)
    except (ExportUnavailable, Unavailable) as e:
        return wait(10, str(e))

    def then(tx: Tx) -> None:
        if error is not None:
            images.forget(tx, cloud, row.id)
        elif row.rotation is not None:
            server_images.rotate(tx, cloud, row)
        free = {"task": None, "updated_at": cloud.clock.now()}
        tx.execute(sa.update(server).where(server.c.id == row.server_id).values(**free))
        instance_action.finish(tx, cloud, row.server_id, row.host, row.action, error=error)

    return gone(then=then)
