"""The life of a router: legs, routes, SNAT and the hosts that may carry its gateway."""

from stackling.base import jobs
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.jobs import Machine, Outcome
from stackling.network.driver import Fabric, Kind
from stackling.network.state.router import router
from stackling.network.state.standard import State
from stackling.network.steps import description

machine = Machine("network.router", router)


@machine.step(State.BUILD, State.ACTIVE, within=None)
def realize(row: Row, cloud: Cloud) -> Outcome:
    fabric = cloud.driver(Fabric)
    chassis = fabric.check().chassis if row.gateway_port_id else ()
    with cloud.db.read() as tx:
        things = list(description.routers_of(tx, chassis, [row.id]))
    for thing in things:
        fabric.ensure(thing)
    return jobs.settle(State.ACTIVE) if row.state == State.BUILD else jobs.done()


@machine.missing
def remove(id: str, cloud: Cloud) -> Outcome:
    cloud.driver(Fabric).remove(Kind.ROUTER, id)
    return jobs.done()
