"""The watch over each host: what it has, that it lives, and whether its domains are those of our rows."""

import weakref
from typing import Any

import msgspec
import sqlalchemy as sa

from stackling.base import db, jobs
from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.base.errors import Unavailable
from stackling.base.jobs import Machine, Outcome, wait
from stackling.compute.driver import HostInfo, HostUnavailable, Hypervisor, Observed, Power
from stackling.compute.state.host import host
from stackling.compute.state.server import State, live, server
from stackling.placement.actions import provider
from stackling.placement.actions.provider import Inventory

EVERY = 10.0  # seconds between two looks at a host

machine = Machine("compute.host")

# Which drivers tell us about changes at once; held by the driver, so that two clouds and restarts don't meet.
_watched: "weakref.WeakKeyDictionary[Any, bool]" = weakref.WeakKeyDictionary()

_TRAITS = (
    "COMPUTE_NODE",
    "COMPUTE_DEVICE_TAGGING",
    "COMPUTE_NET_ATTACH_INTERFACE",
    "COMPUTE_NET_ATTACH_INTERFACE_WITH_TAG",
    "COMPUTE_RESCUE_BFV",
    "COMPUTE_VOLUME_ATTACH_WITH_TAG",
    "COMPUTE_IMAGE_TYPE_QCOW2",
    "COMPUTE_IMAGE_TYPE_RAW",
)


@machine.always
def look(hostname: str, cloud: Cloud) -> Outcome:
    """Ask the host, write down what it says, and wake the servers that are not as they should be."""
    try:
        hypervisor = cloud.driver(Hypervisor, hostname)
        info, seen = hypervisor.info(), hypervisor.observe()
    except (HostUnavailable, Unavailable) as e:
        says = getattr(e, "says", None) or str(e)
        with cloud.db.begin() as tx:
            tx.execute(sa.update(host).where(host.c.hostname == hostname).values(why=says))
        return wait(EVERY, says)
    with cloud.db.begin() as tx:
        keep(tx, cloud, hostname, info)
        for row in _strays(tx, hostname, seen):
            jobs.ensure(tx, "compute.server", row.id, now=cloud.clock.now())
    _watch(cloud, hypervisor)
    return wait(EVERY, f"{hostname} is well")


def keep(tx: Tx, cloud: Cloud, hostname: str, info: HostInfo) -> None:
    """The host's row and its inventory are as it says."""
    now, options = cloud.clock.now(), cloud.config.compute
    provider_id = provider.ensure(
        tx,
        cloud,
        name=hostname,
        inventory={
            "VCPU": Inventory(
                total=info.vcpus, max_unit=info.vcpus, allocation_ratio=options.cpu_allocation_ratio
            ),
            "MEMORY_MB": Inventory(
                total=info.memory_mib,
                reserved=min(options.reserved_memory_mib, info.memory_mib),
                max_unit=info.memory_mib,
                allocation_ratio=options.ram_allocation_ratio,
            ),
            "DISK_GB": Inventory(
                total=info.disk_gib,
                max_unit=max(info.disk_gib, 1),
                allocation_ratio=options.disk_allocation_ratio,
            ),
        },
        traits=_TRAITS,
    )
    told = {"info": msgspec.to_builtins(info), "seen_at": now, "updated_at": now, "why": None}
    fresh = {
        "id": provider_id,
        "hostname": hostname,
        "disabled": False,
        "forced_down": False,
        "created_at": now,
        **told,
    }
    db.upsert(tx, host, fresh, told, key=("hostname",))


def _strays(tx: Tx, hostname: str, seen: dict[str, Observed]) -> list[Any]:
    """The servers whose domain does not do what their row says."""
    runs = (State.ACTIVE, State.PAUSED, State.RESCUED)
    resting = (*runs, State.STOPPED)
    query = sa.select(server.c.id, server.c.state, server.c.power).where(
        server.c.host == hostname, live, server.c.state.in_(resting)
    )
    found = []
    for row in tx.execute(query):
        power = seen[row.id].power if row.id in seen else None
        if (row.state in runs) != (power in (Power.ON, Power.PAUSED)) or (
            power is not None and power != row.power
        ):
            if row.state == State.STOPPED and power is None:
                continue  # it is made anew when it is started
            found.append(row)
    return found


def _watch(cloud: Cloud, hypervisor: Hypervisor) -> None:
    """Hear of guests that stop without waiting for the next look."""
    if hypervisor in _watched:
        return
    _watched[hypervisor] = True

    def heard(id: str, power: Power | None) -> None:
        if power in (Power.ON, None):
            return  # a step did that, and looks by itself
        with cloud.db.begin() as tx:
            row = tx.execute(sa.select(server.c.power).where(server.c.id == id, live)).first()
            # One that is known to be paused is looked at now and then, not each time it can't go on.
            if row and not row.power == power == Power.PAUSED:
                jobs.start(tx, "compute.server", id, now=cloud.clock.now())

    hypervisor.watch(heard)


def orphans(cloud: Cloud) -> dict[str, list[str]]:
    """Domains on hosts that belong to no server, by host; for the doctor, who asks before removing any."""
    found: dict[str, list[str]] = {}
    for hostname in cloud.hosts(Hypervisor):
        try:
            there = sorted(cloud.driver(Hypervisor, hostname).observe())
        except HostUnavailable:
            continue
        with cloud.db.read() as tx:
            known = set(tx.execute(sa.select(server.c.id).where(server.c.host == hostname, live)).scalars())
        if strange := [id for id in there if id not in known]:
            found[hostname] = strange
    return found
