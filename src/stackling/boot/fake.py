"""Fake hosts: a whole cloud without root, hypervisor or network, for tests and for people who test clients."""

from collections.abc import Iterable
from typing import Any, cast

from stackling.base.cloud import Cloud
from stackling.compute.driver import Hypervisor
from stackling.compute.drivers.fake import FakeHypervisor
from stackling.network.driver import Fabric
from stackling.network.drivers.fake import FakeFabric
from stackling.volume.driver import Backend
from stackling.volume.drivers.fake import FakeBackend


def plug(cloud: Cloud, hosts: Iterable[str]) -> dict[str, Any]:
    """Plug a fake hypervisor and backend for each of `hosts`, and one fake fabric; the hypervisors by name."""
    fabric = FakeFabric()
    cloud.plug(Fabric, fabric)
    made = {}
    for host in hosts:
        hypervisor = FakeHypervisor(host)
        cloud.plug(Hypervisor, hypervisor, host=host)
        cloud.plug(Backend, FakeBackend(host), host=host)
        made[host] = hypervisor
    return made


def fabric(cloud: Cloud) -> FakeFabric:
    return cast(FakeFabric, cloud.driver(Fabric))
