"""The agent of one host: its hypervisor, its volumes and its metadata service, put together.

It asks nobody. Everything it needs to take up its work again after a restart is on its own disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from msgspec import Struct

from stackling.base import ca
from stackling.compute.driver import Domain, DomainFailed, DomainMissing, HostUnavailable
from stackling.compute.drivers import remote as remote_hypervisor
from stackling.compute.drivers.libvirt import LibvirtHypervisor
from stackling.image import export
from stackling.image.cache import ImageCache, ImageSource
from stackling.image.drivers import remote as remote_cache
from stackling.image.export import ExportedFiles
from stackling.node.metadata import MetadataService
from stackling.node.metadata_plugs import MetadataPlugs
from stackling.node.server import NodeServer
from stackling.volume.driver import BackendUnavailable, VolumeBusy, VolumeFailed
from stackling.volume.drivers import remote as remote_backend
from stackling.volume.drivers.local import LocalBackend


class NodeConfig(Struct, frozen=True, kw_only=True):
    """What an agent must know of its host.

    `bridge` is OVN's integration bridge; None leaves networking out. `accel` is what was found to work.
    """

    hostname: str
    state_dir: Path
    run_dir: Path
    accel: Literal["kvm", "tcg"] = "tcg"
    accel_reason: str = ""
    bridge: str | None = "br-int"
    libvirt_uri: str = "qemu:///system"


class NodeAgent:
    """Everything that one host does. `hypervisor`, `backend`, `images` and `exports` are its drivers."""

    def __init__(self, config: NodeConfig, images: ImageSource) -> None:
        cached = config.state_dir / "images"
        self.images = cache = ImageCache(cached, images)
        self.exports = ExportedFiles(config.state_dir / "exports")
        self.hypervisor = _Host(config, cache, cached, self.exports)
        self.backend = LocalBackend(
            config.state_dir / "volumes", cache, _Live(self.hypervisor), exports=self.exports
        )

    def serve(self, host: str, port: int, identity: ca.Identity) -> NodeServer:
        """Offer the drivers over HTTPS to the control plane."""
        drivers = {
            remote_hypervisor.INTERFACE: self.hypervisor,
            remote_backend.INTERFACE: self.backend,
            remote_cache.INTERFACE: self.images,
            export.INTERFACE: self.exports,
        }
        server = NodeServer(host, port, identity, drivers)
        server.start()
        return server

    def health(self) -> dict[str, str]:
        """What does not work here, and why; empty when all is well."""
        plugs = self.hypervisor.plugs
        if plugs is None:
            return {}
        return {f"metadata of network {id}": why for id, why in plugs.health.items()}

    def close(self) -> None:
        """End the agent. Guests go on; the next agent adopts them."""
        self.hypervisor.close()


class _Host(LibvirtHypervisor):
    """The hypervisor, with the metadata service kept in step: it knows a guest before the guest can ask."""

    def __init__(self, config: NodeConfig, cache: ImageCache, cached: Path, exports: ExportedFiles) -> None:
        super().__init__(
            config.state_dir,
            config.run_dir,
            cache,
            cached,
            accel=config.accel,
            accel_reason=config.accel_reason,
            bridge=config.bridge,
            uri=config.libvirt_uri,
            hostname=config.hostname,
            exports=exports,
        )
        self.metadata = MetadataService(self.password_file)
        for domain in self.descriptions():
            self.metadata.serve(domain)
        self.plugs = MetadataPlugs(self.metadata, config.bridge) if config.bridge else None
        if self.plugs:
            self.plugs.start()

    def ensure(self, domain: Domain) -> None:
        self._serve(domain)
        super().ensure(domain)

    def remove(self, id: str) -> None:
        super().remove(id)
        self.metadata.forget(id)
        if self.plugs:
            self.plugs.look()

    def close(self) -> None:
        if self.plugs:
            self.plugs.stop()
        self.metadata.stop()
        super().close()

    def _serve(self, domain: Domain) -> None:
        self.metadata.serve(domain)
        if self.plugs:
            self.plugs.look()


class _Live:
    """The hypervisor's open disks in the backend's words."""

    def __init__(self, hypervisor: LibvirtHypervisor) -> None:
        self._hypervisor = hypervisor

    def holder(self, volume_id: str) -> str | None:
        with _translated():
            return self._hypervisor.holder(volume_id)

    def resize_disk(self, id: str, volume_id: str, size_gib: int) -> None:
        with _translated():
            self._hypervisor.resize_disk(id, volume_id, size_gib)

    def copy_disk(self, id: str, volume_id: str, path: str) -> bool:
        with _translated():
            return self._hypervisor.copy_disk(id, volume_id, path)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except HostUnavailable as error:
        raise BackendUnavailable(str(error)) from error
    except DomainMissing as error:
        # It was detached or switched off between the look and the act: the next try finds it closed.
        raise VolumeBusy(str(error)) from error
    except DomainFailed as error:
        raise VolumeFailed(str(error)) from error
