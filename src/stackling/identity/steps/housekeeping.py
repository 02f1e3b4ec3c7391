"""What identity does by the clock: rotate keys that are due, and forget what is over."""

from stackling.base.cloud import Cloud
from stackling.base.jobs import Machine, Outcome, wait
from stackling.identity.actions import keys, login_rate

machine = Machine("identity.housekeeping")


@machine.always
def tidy(_: str, cloud: Cloud) -> Outcome:
    seconds = keys.rotate_due(cloud)
    cloud.audit.forget()
    with cloud.db.begin() as tx:
        login_rate.forget(tx, cloud.clock.now())
    return wait(seconds, "no key is due and nothing is old")
