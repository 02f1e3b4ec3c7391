"""What is done for the fabric as a whole, again and again: hear which ports are up, and mend what has drifted."""

import sqlalchemy as sa

from stackling.base import jobs
from stackling.base.cloud import Cloud
from stackling.base.jobs import Machine, Outcome
from stackling.network.actions import port as port_actions
from stackling.network.driver import Fabric, Ref, Report
from stackling.network.state.port import port
from stackling.network.steps import description

RESYNC, PORTS = "resync", "ports"
_RESYNC_EVERY, _PORTS_EVERY = 300.0, 10.0  # seconds

machine = Machine("network.fabric")


@machine.always
def look(id: str, cloud: Cloud) -> Outcome:
    if id == RESYNC:
        resync(cloud)
        return jobs.wait(_RESYNC_EVERY, "the next look at the whole fabric")
    look_at_ports(cloud)
    return jobs.wait(_PORTS_EVERY, "the next look at the ports")


def look_at_ports(cloud: Cloud) -> None:
    """Catch up on what the fabric told and nobody heard."""
    states = cloud.driver(Fabric).ports()
    with cloud.db.read() as tx:
        rows = list(tx.execute(sa.select(port.c.id, port.c.up)))
    changed = [
        (r.id, states[r.id].up if r.id in states else False)
        for r in rows
        if r.up != (r.id in states and states[r.id].up)
    ]
    for id, up in changed:
        with cloud.db.begin() as tx:
            port_actions.seen(tx, cloud, id, up)


def resync(cloud: Cloud) -> Report:
    """Describe everything to the fabric, which mends what differs.

    What was touched is described once more by its own job: a row may have changed between looking and mending.
    """
    fabric = cloud.driver(Fabric)
    chassis = fabric.check().chassis
    with cloud.db.read() as tx:
        things = description.everything(tx, cloud, chassis)
    report = fabric.resync(things)
    touched: tuple[Ref, ...] = (*report.created, *report.changed, *report.removed)
    for start in range(0, len(touched), 500):
        with cloud.db.begin() as tx:
            for one in touched[start : start + 500]:
                jobs.start(tx, f"network.{one.kind.value}", one.id, now=cloud.clock.now())
    look_at_ports(cloud)
    return report


def compare(cloud: Cloud) -> Report:
    """What a resync would do now; nothing is changed."""
    fabric = cloud.driver(Fabric)
    chassis = fabric.check().chassis
    with cloud.db.read() as tx:
        things = description.everything(tx, cloud, chassis)
    return fabric.resync(things, repair=False)
