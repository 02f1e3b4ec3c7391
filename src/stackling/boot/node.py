"""The node: this host's agent with its real drivers, and the daemons that it stands on."""

import contextlib
import os
import select
import threading
import time
from pathlib import Path
from typing import BinaryIO

from stackling.base import jobs, log
from stackling.base.cloud import Cloud
from stackling.base.config import Config
from stackling.boot import events, host, ready_image
from stackling.compute.driver import Hypervisor
from stackling.compute.drivers.libvirt import LibvirtHypervisor
from stackling.image import builds
from stackling.image.actions import web
from stackling.image.builder import limits
from stackling.image.cache import ImageCache
from stackling.image.data_driver import NodeCache
from stackling.image.driver import Builder
from stackling.image.drivers.local import LocalBuilder
from stackling.image.export import Exports
from stackling.network.driver import Fabric, FabricError
from stackling.network.drivers.ovn import OvnFabric
from stackling.node import bridges, kvm, libvirtd
from stackling.node.agent import NodeAgent, NodeConfig
from stackling.node.daemon import DaemonError
from stackling.node.services import Service
from stackling.volume.driver import Backend

_LOOK, _RETRY = (
    15.0,
    3.0,
)  # seconds between looks at the daemons, when all run and when one could not be started


class Node:
    """What runs on this host besides the API and the worker."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        config = cloud.config
        name = host.hostname(config)
        found = kvm.probe(Path(config.paths.run_dir) / "kvm.json")
        usable = found.usable if config.node.accel == "auto" else config.node.accel == "kvm"
        home = Path(config.paths.state_dir) / "node"
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o711)
        self.agent = NodeAgent(
            NodeConfig(
                hostname=name,
                state_dir=home,
                run_dir=Path(config.paths.run_dir),
                accel="kvm" if usable else "tcg",
                accel_reason="" if usable else found.why,
            ),
            web.Source(cloud),
        )
        self.services = host.services(config)
        self.fabric = OvnFabric(config.network.ovn_northbound, config.network.ovn_southbound)
        self.log = log.get("node")
        self.daemons: list[Service] = []
        self.says = ["its daemons are being started"]  # what is wrong but not fatal, one sentence each
        self._stop = threading.Event()
        cloud.plug(Fabric, self.fabric)
        cloud.plug(Hypervisor, self.agent.hypervisor, host=name)
        cloud.plug(Backend, self.agent.backend, host=name)
        cloud.plug(NodeCache, self.agent.images, host=name)
        cloud.plug(Exports, self.agent.exports, host=name)
        cloud.plug(
            Builder,
            LocalBuilder(
                cache=builds.cache(cloud),
                hide=[
                    Path(config.paths.state_dir),
                    Path(config.paths.config_dir),
                    Path(config.paths.log_dir),
                ],
                mirrors=config.image.build_mirrors,
                keyring=Path(config.image.build_keyring) if config.image.build_keyring else None,
                accel="kvm" if usable else "tcg",
                limits=limits.configured(config.image),
                kept=config.image.build_cache_gib,
            ),
        )

    def run(self) -> None:
        """Keep the daemons running, for as long as the process lives."""
        events.follow(self.cloud)
        if self.cloud.config.api.workers > 1:
            self.agent.serve(
                host.LOOPBACK, self.cloud.config.node.agent_port, host.identity(self.cloud.config, "node")
            )
        if self.cloud.config.image.ready_image:
            threading.Thread(
                target=ready_image.offer, args=(self.cloud, self._stop), name="ready-image", daemon=True
            ).start()
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                self.look()
            except Exception as e:  # noqa: BLE001 (whatever a host throws at us, the next look may find it mended)
                self.log.error("node.look_failed", error=f"{type(e).__name__}: {e}")
            self._stop.wait(0.5)  # a daemon that dies again and again must not take all our time
            self._pause(_LOOK - (time.monotonic() - begun))

    def _pause(self, seconds: float) -> None:
        """Return when the time is over, or at once when a daemon dies."""
        handles = []
        try:
            for daemon in self.daemons:
                if daemon.pid is None:  # could not be started
                    seconds = min(seconds, _RETRY)
                else:
                    handles.append(os.pidfd_open(daemon.pid))
            select.select(handles, [], [], max(0.0, seconds))
        except ProcessLookupError:
            return
        finally:
            for handle in handles:
                os.close(handle)

    def look(self) -> None:
        """Start what doesn't run, once; log what changed."""
        before = {s.name: s for s in self.daemons}
        if self.cloud.config.node.start_services:
            self.daemons = self.services.ensure()
        else:
            self.daemons = self.services.status()
        changed = False
        for daemon in self.daemons:
            old = before.get(daemon.name)
            if old is None or old.pid != daemon.pid or old.healthy != daemon.healthy:
                tell = self.log.info if daemon.healthy else self.log.error
                tell("node.daemon", name=daemon.name, healthy=daemon.healthy, pid=daemon.pid, why=daemon.why)
                changed = True
        switch = next((s for s in self.daemons if s.name == "ovs-vswitchd"), None)
        says: list[str] = []
        if switch and switch.healthy:
            try:
                says = bridges.ensure(host.external(self.cloud.config), self.services.chassis.datapath)
            except DaemonError as e:
                says = [str(e)]
                self.log.error("node.bridges", says=str(e))
        self.says = says
        if changed:
            self._wake()

    def _wake(self) -> None:
        """Those who look at the host now and then look now: what they missed is back."""
        now = self.cloud.clock.now()
        with self.cloud.db.begin() as tx:
            for kind, id in (
                ("compute.host", host.hostname(self.cloud.config)),
                ("network.fabric", "resync"),
                ("network.fabric", "ports"),
            ):
                jobs.wake(tx, kind, id, now=now)


def connect(cloud: Cloud) -> Node:
    """Plug this host's drivers into the cloud."""
    return Node(cloud)


def stop_services(config: Config) -> list[int]:
    """End the daemons that the cloud started. While guests run all stay, for the guests' sake; returns the guests'
    process ids."""
    running = libvirtd.guests()
    if not running:
        host.services(config).stop()
    return running


def purge(config: Config) -> None:
    """Remove every guest, and everything else that the cloud made on this host.

    What OVN holds goes with its databases when the cloud made them; in somebody else's, our rows are removed.
    """
    daemons = host.services(config)
    if any(not daemon.healthy for daemon in daemons.status()):
        daemons.ensure()
    home = Path(config.paths.state_dir) / "node"
    hypervisor = LibvirtHypervisor(
        home,
        Path(config.paths.run_dir),
        ImageCache(home / "images", _NoImages()),
        home / "images",
        accel="tcg",
    )
    try:
        for id in hypervisor.observe():
            hypervisor.remove(id)
    finally:
        hypervisor.close()
    with contextlib.suppress(FabricError):  # then its databases, which go next, were ours or can't be reached
        fabric = OvnFabric(config.network.ovn_northbound, config.network.ovn_southbound)
        fabric.resync([])
        fabric.close()
    daemons.purge()
    bridges.forget_masquerade()


class _NoImages:
    """Removing guests needs no images."""

    def path(self, image_id: str) -> Path | None:
        return None

    def open(self, image_id: str) -> BinaryIO:
        raise FileNotFoundError(image_id)
