"""The jobs that remove what has expired and what no object has."""

from stackling.base.cloud import Cloud
from stackling.base.jobs import Machine, Outcome, wait
from stackling.objectstore.actions import expiry

expirer = Machine(expiry.EXPIRER)
sweep = Machine(expiry.SWEEP)


@expirer.always
def expire(_: str, cloud: Cloud) -> Outcome:
    """Objects whose time has come are removed, some at a time."""
    more = expiry.expire(cloud)
    return wait(0 if more else cloud.config.objectstore.expirer_interval, "looking for expired objects")


@sweep.always
def clear(_: str, cloud: Cloud) -> Outcome:
    """Data of requests that were broken off is removed."""
    expiry.sweep(cloud)
    return wait(cloud.config.objectstore.sweep_interval, "looking for data without an object")
