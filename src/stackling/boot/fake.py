"""Fake hosts: a whole cloud without root, hypervisor or network, for tests and for people who test clients."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, cast

from stackling.base.cloud import Cloud
from stackling.boot import events, ready_image
from stackling.compute.driver import Hypervisor
from stackling.compute.drivers.fake import FakeHypervisor
from stackling.identity.actions import project
from stackling.image.actions import image
from stackling.image.data_driver import NodeCache
from stackling.image.driver import Builder
from stackling.image.drivers.fake import FakeBuilder
from stackling.image.drivers.fake_cache import FakeCache
from stackling.image.export import Exports, FakeExports
from stackling.network.driver import Chassis, Fabric
from stackling.network.drivers.fake import FakeFabric
from stackling.volume.driver import Backend
from stackling.volume.drivers.fake import FakeBackend

_MIB = 1 << 20


def plug(cloud: Cloud, hosts: Iterable[str]) -> dict[str, FakeHypervisor]:
    """Plug a fake hypervisor and backend for each of `hosts`, and one fake fabric; the hypervisors by name."""
    names = list(hosts)
    physical = tuple(network.name for network in cloud.config.network.external)
    fabric = FakeFabric([Chassis(name=name, hostname=name, physical_networks=physical) for name in names])
    cloud.plug(Fabric, fabric)
    cloud.plug(Builder, FakeBuilder())
    made = {}
    for name in names:
        exports = FakeExports()
        plugged = partial(fabric.plug, chassis=name)
        made[name] = FakeHypervisor(name, on_plug=plugged, on_unplug=fabric.unplug, exports=exports)
        cloud.plug(Hypervisor, made[name], host=name)
        cloud.plug(Backend, FakeBackend(name, exports=exports), host=name)
        cloud.plug(Exports, exports, host=name)
        cloud.plug(NodeCache, FakeCache(made[name].images, made[name].used_images), host=name)
    return made


def fabric(cloud: Cloud) -> FakeFabric:
    return cast(FakeFabric, cloud.driver(Fabric))


def backend(cloud: Cloud, host: str) -> FakeBackend:
    return cast(FakeBackend, cloud.driver(Backend, host))


class FakeNode:
    """The hosts of `stackling up --fake`."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.daemons: list[Any] = []
        self.says: list[str] = []
        plug(cloud, ["fake1", "fake2"])

    def run(self) -> None:
        """Tell the cloud of its hosts' events, and offer an image that needs no building."""
        events.follow(self.cloud)
        blank = Path(self.cloud.config.paths.state_dir) / "blank.raw"
        blank.write_bytes(bytes(_MIB))
        with self.cloud.db.begin() as tx:
            image.register(
                tx,
                self.cloud,
                name=ready_image.NAME,
                path=blank,
                project_id=project.by_name(tx, "admin"),
                disk_format="raw",
                virtual_size=_MIB,
                properties={"os_type": "linux"},
            )


def connect(cloud: Cloud) -> FakeNode:
    """Plug two fake hosts into the cloud."""
    return FakeNode(cloud)
