"""The life of a port in the fabric. Whether it is up is said by the fabric itself: see `steps.fabric`."""

from stackling.base import jobs
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.jobs import Machine, Outcome
from stackling.network import driver
from stackling.network.driver import Fabric, Kind, NotReady
from stackling.network.state.port import port
from stackling.network.state.standard import State
from stackling.network.steps import description

machine = Machine("network.port", port)


@machine.step(State.BUILD, State.ACTIVE, within=None)
def realize(row: Row, cloud: Cloud) -> Outcome:
    with cloud.db.read() as tx:
        things = list(description.ports_of(tx, [row.id]))
    for thing in things:
        _ensure(thing, cloud)
    return jobs.settle(State.ACTIVE) if row.state == State.BUILD else jobs.done()


def _ensure(thing: driver.Port, cloud: Cloud) -> None:
    """A server waits for its port, so a network whose own job has not run yet is made here."""
    fabric = cloud.driver(Fabric)
    try:
        fabric.ensure(thing)
    except NotReady:
        with cloud.db.read() as tx:
            under = list(description.networks_of(tx, cloud, [thing.network_id]))
        for net in under:
            fabric.ensure(net)
        fabric.ensure(thing)


@machine.missing
def remove(id: str, cloud: Cloud) -> Outcome:
    cloud.driver(Fabric).remove(Kind.PORT, id)
    return jobs.done()
