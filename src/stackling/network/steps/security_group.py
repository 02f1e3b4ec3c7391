"""The life of a security group, its rules included."""

from stackling.base import jobs
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.jobs import Machine, Outcome
from stackling.network.driver import Fabric, Kind
from stackling.network.state.security_group import security_group
from stackling.network.state.standard import State
from stackling.network.steps import description

machine = Machine("network.security_group", security_group)


@machine.step(State.BUILD, State.ACTIVE, within=None)
def realize(row: Row, cloud: Cloud) -> Outcome:
    with cloud.db.read() as tx:
        things = list(description.security_groups_of(tx, [row.id]))
    for thing in things:
        cloud.driver(Fabric).ensure(thing)
    return jobs.settle(State.ACTIVE) if row.state == State.BUILD else jobs.done()


@machine.missing
def remove(id: str, cloud: Cloud) -> Outcome:
    cloud.driver(Fabric).remove(Kind.SECURITY_GROUP, id)
    return jobs.done()
