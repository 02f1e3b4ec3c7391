"""The life of a network, its subnets included: made in the fabric, kept as described, taken away."""

from stackling.base import jobs
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.jobs import Machine, Outcome
from stackling.network.driver import Fabric, Kind
from stackling.network.state.network import network
from stackling.network.state.standard import State
from stackling.network.steps import description

machine = Machine("network.network", network)


@machine.step(State.BUILD, State.ACTIVE, within=None)
def realize(row: Row, cloud: Cloud) -> Outcome:
    with cloud.db.read() as tx:
        things = list(description.networks_of(tx, cloud, [row.id]))
    for thing in things:  # none when it was deleted meanwhile
        cloud.driver(Fabric).ensure(thing)
    return jobs.settle(State.ACTIVE) if row.state == State.BUILD else jobs.done()


@machine.missing
def remove(id: str, cloud: Cloud) -> Outcome:
    cloud.driver(Fabric).remove(Kind.NETWORK, id)
    return jobs.done()
