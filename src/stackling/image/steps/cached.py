"""The life of an image in a host's cache, and the looks at each host that keep the list of them true."""

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.jobs import GiveUp, Machine, Outcome, gone, settle, wait
from stackling.image.actions import cached
from stackling.image.actions.cached import KIND, LOOK
from stackling.image.actions.image import found, ref
from stackling.image.cache import ImageDamaged
from stackling.image.data_driver import NodeCache
from stackling.image.state.cached import State, image_cached
from stackling.image.state.image import State as ImageState

_AGAIN = 60.0  # seconds between looks at a host whose servers still need what is to go

machine = Machine(KIND, image_cached)
looks = Machine(LOOK)


@machine.step(State.QUEUED, within=3600)
def fetch(row: Row, cloud: Cloud) -> Outcome:
    """The host fetches the image and checks it."""
    with cloud.db.read() as tx:
        image = found(tx, row.image_id)
    if image is None or image.state != ImageState.ACTIVE:
        return gone()
    try:
        there = cloud.driver(NodeCache, row.host).fetch(ref(image))
    except ImageDamaged as error:
        raise GiveUp(str(error)) from error
    if not there:
        return wait(1, "the image is being fetched")
    now = cloud.clock.now()
    return settle(State.CACHED, size=image.size, used_at=now, updated_at=now)


@machine.step(State.DROPPING, within=None)
def drop(row: Row, cloud: Cloud) -> Outcome:
    """The image leaves the host, once no server there stands on it."""
    if cloud.driver(NodeCache, row.host).drop(row.image_id):
        return gone()
    return wait(_AGAIN, "servers of the host stand on it")


@machine.failed
def failed(row: Row, why: str) -> Outcome:
    """It could not be fetched; a server that needs it tries again."""
    return gone()


@looks.always
def look(host: str, cloud: Cloud) -> Outcome:
    """What the host has is in the list, and what nobody used for long goes. A host that left is forgotten."""
    if host not in cloud.hosts(NodeCache):
        with cloud.db.begin() as tx:
            cached.forget(tx, host, ())
        return gone()
    held = cloud.driver(NodeCache, host).held()
    with cloud.db.begin() as tx:
        for one in held:
            cached.seen(tx, cloud, host, one.image_id, one.size, one.users)
        cached.forget(tx, host, [one.image_id for one in held])
        cached.age(tx, cloud, host)
    return wait(cloud.config.image.cache_interval, "the next look is later")
