"""The life of a floating IP: in the fabric while it leads somewhere."""

from stackling.base import jobs
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.jobs import Machine, Outcome
from stackling.network import driver
from stackling.network.driver import Fabric, Kind, NotReady
from stackling.network.state.floating_ip import floating_ip
from stackling.network.state.standard import State
from stackling.network.steps import description

machine = Machine("network.floating_ip", floating_ip)


@machine.step(State.BUILD, State.ACTIVE, within=None)
def realize(row: Row, cloud: Cloud) -> Outcome:
    with cloud.db.read() as tx:
        things = list(description.floating_ips_of(tx, [row.id]))
    for thing in things:
        _ensure(thing, cloud)
    if not things:
        cloud.driver(Fabric).remove(Kind.FLOATING_IP, row.id)
    return jobs.settle(State.ACTIVE) if row.state == State.BUILD else jobs.done()


def _ensure(thing: driver.FloatingIP, cloud: Cloud) -> None:
    """A router whose own job has not run yet is made here."""
    fabric = cloud.driver(Fabric)
    try:
        fabric.ensure(thing)
    except NotReady:
        chassis = fabric.check().chassis
        with cloud.db.read() as tx:
            under = list(description.routers_of(tx, chassis, [thing.router_id]))
        for one in under:
            fabric.ensure(one)
        fabric.ensure(thing)


@machine.missing
def remove(id: str, cloud: Cloud) -> Outcome:
    cloud.driver(Fabric).remove(Kind.FLOATING_IP, id)
    return jobs.done()
