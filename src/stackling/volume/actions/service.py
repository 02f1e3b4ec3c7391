"""The backends of the cloud's hosts as services: which there are, and which take new volumes."""

from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import db
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Error, NotFound
from stackling.volume.driver import Backend, BackendInfo, BackendUnavailable
from stackling.volume.state.service import volume_service

VOLUME = "cinder-volume"  # the service of every host's backend
BACKEND = "local"  # the one backend of a host; upstream writes host@backend#pool


class Pool(Struct, frozen=True):
    """A backend as it answered just now; `info` None and the reason when it did not."""

    host: str
    info: BackendInfo | None
    reason: str = ""


def pools(cloud: Cloud) -> list[Pool]:
    """Every host's backend. Asks the hosts, so no transaction may be open."""
    made = []
    for host in cloud.hosts(Backend):
        try:
            made.append(Pool(host, cloud.driver(Backend, host).info()))
        except (BackendUnavailable, Error) as e:
            made.append(Pool(host, None, str(e)))
    return made


def capabilities(pool: Pool) -> dict[str, Any]:
    """What a backend says of itself, under upstream's names; extra specs of volume types are compared with it."""
    if pool.info is None:
        return {}
    return {
        "volume_backend_name": pool.info.name,
        "pool_name": BACKEND,
        "vendor_name": "Stackling",
        "driver_version": "1.0",
        "storage_protocol": "local",
        "total_capacity_gb": pool.info.total_gib,
        "free_capacity_gb": pool.info.free_gib,
        "reserved_percentage": 0,
        "thin_provisioning_support": True,
        "multiattach": "multiattach" in pool.info.features,
        "QoS_support": False,
        "location_info": pool.host,
    }


def settings(tx: Tx) -> dict[str, Row]:
    """What was said about hosts, by host."""
    return {r.host: r for r in tx.execute(sa.select(volume_service))}


def set_disabled(
    tx: Tx, cloud: Cloud, caller: Caller, host: str, binary: str, disabled: bool, reason: str | None
) -> None:
    """Let a host take new volumes or not.

    Raises NotFound for a host that has no backend, and for all services but the volumes' own: nothing else can be
    switched off.
    """
    caller.may("volume_extension:services:update")
    if binary != VOLUME or not _say(tx, cloud, host, disabled=disabled, reason=reason):
        raise NotFound(f"Service {binary[:64]} could not be found on host {host[:64]}.")


def set_frozen(tx: Tx, cloud: Cloud, caller: Caller, host: str, frozen: bool) -> None:
    """Let volumes come and go on a host or not. Raises BadRequest for a host that has no backend."""
    caller.may("volume:thaw_host" if not frozen else "volume:freeze_host")
    if not _say(tx, cloud, host, frozen=frozen):
        raise BadRequest(f"Invalid host: service cinder-volume could not be found on host {host[:64]}.")


def _say(tx: Tx, cloud: Cloud, host: str, **said: Any) -> bool:
    """Write down what was said about a host; False when it has no backend."""
    host = host.partition("@")[0]
    if host not in cloud.hosts(Backend):
        return False
    values = {**said, "updated_at": cloud.clock.now()}
    fresh = {"disabled": False, "frozen": False, "host": host}
    db.upsert(tx, volume_service, {**fresh, **values}, values, key=["host"])
    return True


def check_thawed(tx: Tx, host: str | None) -> None:
    """Raises BadRequest when nothing may come or go on the host."""
    said = settings(tx).get(host or "")
    if said is not None and said.frozen:
        raise BadRequest(f"Invalid host: the backend on {host} is frozen by an administrator.")
