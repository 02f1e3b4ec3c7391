"""Which host's backend takes a new volume."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.volume.actions import service, volume_type
from stackling.volume.state.snapshot import snapshot
from stackling.volume.state.volume import volume


class NoHost(Exception):
    """No backend takes the volume; the text says why for each."""


def choose(row: Row, cloud: Cloud) -> str:
    """The host with most free space of those that can take the volume. Raises NoHost."""
    with cloud.db.read() as tx:
        specs = volume_type.specs_of(tx, [row.volume_type_id]).get(row.volume_type_id, {})
        settings = service.settings(tx)
        bound = _source_host(tx, row)
        near = _hosts(tx, row.near)
        far = _hosts(tx, row.far)
    free: dict[str, int] = {}
    reasons: dict[str, str] = {}
    for pool in service.pools(cloud):
        said = settings.get(pool.host)
        lacks = missing(specs, service.capabilities(pool))
        if bound is not None and pool.host != bound:
            reasons[pool.host] = "the source of the volume is on another host"
        elif pool.info is None:
            reasons[pool.host] = pool.reason
        elif said is not None and said.disabled:
            reasons[pool.host] = f"disabled by an administrator: {said.reason or 'no reason was given'}"
        elif said is not None and said.frozen:
            reasons[pool.host] = "frozen by an administrator"
        elif lacks:
            reasons[pool.host] = lacks
        elif near and pool.host not in near:
            reasons[pool.host] = "the volumes it is to share a host with are elsewhere"
        elif pool.host in far:
            reasons[pool.host] = "a volume it must not share a host with is there"
        elif pool.info.free_gib < row.size:
            reasons[pool.host] = (
                f"{pool.info.free_gib} GiB are free of {pool.info.total_gib}, and {row.size} GiB are needed"
            )
        else:
            free[pool.host] = pool.info.free_gib
    if not free:
        says = (
            "; ".join(f"{host}: {why}" for host, why in sorted(reasons.items()))
            or "no host has a volume backend"
        )
        raise NoHost(f"No backend takes the volume. {says}.")
    return max(sorted(free), key=lambda host: free[host])


def missing(specs: Mapping[str, str], has: Mapping[str, Any]) -> str:
    """What a volume type asks for and a backend lacks, as a sentence; empty when it has everything.

    Extra specs without a scope, or in that of capabilities, are asked of the backend; others are for drivers.
    """
    for key, wanted in specs.items():
        scope, colon, name = key.rpartition(":")
        if colon and scope != "capabilities":
            continue
        if name not in has:
            return f"it has no {name}, and the volume type asks for {wanted}"
        if not _fits(str(has[name]), wanted):
            return f"its {name} is {has[name]}, and the volume type asks for {wanted}"
    return ""


def _fits(has: str, wanted: str) -> bool:
    """Whether a capability fits an extra spec in upstream's small language (`<is>`, `<in>`, `<or>`, `>=` and so on)."""
    word, _, rest = wanted.strip().partition(" ")
    rest = rest.strip()
    if word == "<is>":
        return has.lower() == rest.lower()
    if word == "<in>":
        return rest in has
    if word == "<or>":
        return has in [w.strip() for w in wanted.split("<or>")]
    if word in _NUMBERS:
        try:
            return _NUMBERS[word](float(has), float(rest))
        except ValueError:
            return False
    return has.lower() == wanted.strip().lower()


_NUMBERS: dict[str, Callable[[float, float], bool]] = {
    "=": operator.ge,  # upstream reads it as "at least"
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
}


def _source_host(tx: sa.Connection, row: Row) -> str | None:
    """Volumes are copied on their own host."""
    if row.snapshot_id:
        return tx.execute(sa.select(snapshot.c.host).where(snapshot.c.id == row.snapshot_id)).scalar()
    if row.source_volid:
        return tx.execute(sa.select(volume.c.host).where(volume.c.id == row.source_volid)).scalar()
    return None


def _hosts(tx: sa.Connection, listed: str | None) -> set[str]:
    if not listed:
        return set()
    query = sa.select(volume.c.host).where(volume.c.id.in_(listed.split(",")), volume.c.host.isnot(None))
    return set(tx.execute(query).scalars())
