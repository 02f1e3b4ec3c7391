"""An API process beside the one that runs worker and node: it reaches the host through its agent, as another machine would.

The agent listens on loopback with mutual TLS, certificates from the cloud's own CA.
"""

from stackling.base.ca import client_context
from stackling.base.cloud import Cloud
from stackling.base.rpc import Transport
from stackling.boot import host
from stackling.compute.driver import Hypervisor
from stackling.compute.drivers.remote import remote_hypervisor
from stackling.image.data_driver import NodeCache
from stackling.image.drivers.remote import remote_cache
from stackling.image.export import Exports, remote_exports
from stackling.network.driver import Fabric
from stackling.network.drivers.ovn import OvnFabric
from stackling.node.services import Service
from stackling.volume.driver import Backend
from stackling.volume.drivers.remote import remote_backend


class FarNode:
    """This machine's node, seen from another process."""

    def __init__(self, cloud: Cloud) -> None:
        config = cloud.config
        name = host.hostname(config)
        transport = Transport(
            host.LOOPBACK, config.node.agent_port, client_context(host.identity(config, "control"))
        )
        cloud.plug(Fabric, OvnFabric(config.network.ovn_northbound, config.network.ovn_southbound))
        cloud.plug(Hypervisor, remote_hypervisor(transport), host=name)
        cloud.plug(Backend, remote_backend(transport), host=name)
        cloud.plug(NodeCache, remote_cache(transport), host=name)
        cloud.plug(Exports, remote_exports(transport), host=name)
        self._services = host.services(config)
        self.says: list[str] = []

    @property
    def daemons(self) -> list[Service]:
        """How they are now; the process that looks after them is another."""
        return self._services.status()

    def run(self) -> None:
        """The other process does the work."""


def connect(cloud: Cloud) -> FarNode:
    """Plug this host's drivers into the cloud, by way of its agent."""
    return FarNode(cloud)
