"""Where the metadata service reaches its guests: a namespace, an OVS internal port and a socket per network.

A thread makes what is there match the domains that are served, when they change and every few seconds, because a
restart of ovs-vswitchd puts its internal ports back into the daemon's own namespace. Only short-lived threads
ever enter a namespace.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog
from msgspec import Struct
from pyroute2 import netns

from stackling.compute.driver import Domain
from stackling.node.metadata import MetadataService
from stackling.node.namespaces import PREFIX

log = structlog.get_logger(__name__)

ADDRESS, PORT = "169.254.169.254", 80
BACKLOG = 64
CHECK_SECONDS = 5.0
COMMAND_SECONDS = 15.0
RUN_NETNS = Path("/run/netns")

T = TypeVar("T")


class Plug(Struct, frozen=True, kw_only=True):
    """The metadata port of one network, as it is to be on this host."""

    network_id: str
    port_id: str
    mac: str
    cidrs: tuple[str, ...]
    mtu: int

    @property
    def namespace(self) -> str:
        """The network namespace's name."""
        return f"{PREFIX}{self.network_id}"

    @property
    def device(self) -> str:
        """The OVS internal port's name (Linux allows 15 characters)."""
        return f"meta{self.network_id[:11]}"


class MetadataPlugs:
    """Keeps the plugs of one host right. `health` names the networks that are not, and why."""

    def __init__(self, service: MetadataService, bridge: str) -> None:
        self._service = service
        self._bridge = bridge
        self._made: dict[str, Plug] = {}
        self._news = threading.Event()
        self._stopping = False
        self.health: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="metadata-plugs", daemon=True)

    def start(self) -> None:
        """Begin to keep the plugs right."""
        self._thread.start()

    def stop(self) -> None:
        """Leave everything as it is."""
        self._stopping = True
        self._news.set()
        self._thread.join(timeout=COMMAND_SECONDS)

    def look(self) -> None:
        """Domains have changed: look at once."""
        self._news.set()

    def settle(self) -> None:
        """Make the plugs what they should be, once. Trouble goes to `health`."""
        wanted = plugs_of(self._service.domains())
        for network_id, plug in wanted.items():
            try:
                self._ensure(plug)
                self.health.pop(network_id, None)
            except (OSError, subprocess.SubprocessError, MetadataPlugFailed) as error:
                if self.health.get(network_id) != str(error):
                    log.warning("metadata.plug_failed", network_id=network_id, error=str(error))
                self.health[network_id] = str(error)
                self._made.pop(network_id, None)
        for namespace in sorted(RUN_NETNS.glob(f"{PREFIX}*")):
            network_id = namespace.name.removeprefix(PREFIX)
            if network_id not in wanted:
                try:
                    self._remove(network_id)
                except (OSError, subprocess.SubprocessError, MetadataPlugFailed) as error:
                    log.warning("metadata.unplug_failed", network_id=network_id, error=str(error))

    def _run(self) -> None:
        while not self._stopping:
            try:
                self.settle()
            except Exception:
                log.exception("metadata.settle_failed")
            self._news.wait(CHECK_SECONDS)
            self._news.clear()

    def _ensure(self, plug: Plug) -> None:
        if self._made.get(plug.network_id) == plug and self._whole(plug):
            return
        if not (RUN_NETNS / plug.namespace).exists():
            try:
                netns.create(plug.namespace)
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise
        _command(
            *("ovs-vsctl", f"--timeout={COMMAND_SECONDS:.0f}", "--may-exist", "add-port", self._bridge),
            *(plug.device, "--", "set", "Interface", plug.device, "type=internal"),
            f"external_ids:iface-id={plug.port_id}",
        )
        if _exists(plug.device):
            if _inside(plug.namespace, lambda: _exists(plug.device)):
                # What a killed ovs-vswitchd left there: a dead tap under the new one's name.
                _command("ip", "-n", plug.namespace, "link", "delete", plug.device)
            _command("ip", "link", "set", plug.device, "netns", plug.namespace)
        device = plug.device
        lines = [
            "link set lo up",
            f"link set {device} address {plug.mac} mtu {plug.mtu}",
            f"addr flush dev {device} scope global",
            *(f"addr replace {cidr} dev {device}" for cidr in plug.cidrs),
            f"addr replace {ADDRESS}/32 dev {device}",
            f"link set {device} up",
        ]
        _command("ip", "-n", plug.namespace, "-batch", "-", stdin="\n".join(lines))
        self._service.listen(plug.network_id, _inside(plug.namespace, _listener))
        self._made[plug.network_id] = plug

    def _whole(self, plug: Plug) -> bool:
        """Everything is where it was put; ovs-vswitchd makes its ports in its own namespace, which is ours."""
        if not (RUN_NETNS / plug.namespace).exists() or _exists(plug.device):
            return False
        return _inside(plug.namespace, lambda: _exists(plug.device))

    def _remove(self, network_id: str) -> None:
        plug = Plug(network_id=network_id, port_id="", mac="", cidrs=(), mtu=0)
        self._service.deafen(network_id)
        self._made.pop(network_id, None)
        self.health.pop(network_id, None)
        _command("ovs-vsctl", f"--timeout={COMMAND_SECONDS:.0f}", "--if-exists", "del-port", plug.device)
        netns.remove(plug.namespace)


class MetadataPlugFailed(Exception):
    """A command that plugs a network said no."""


def plugs_of(domains: list[Domain]) -> dict[str, Plug]:
    """The plugs that these domains need, by network."""
    return {
        nic.network_id: Plug(
            network_id=nic.network_id,
            port_id=nic.metadata.port_id,
            mac=nic.metadata.mac,
            cidrs=nic.metadata.cidrs,
            mtu=nic.mtu,
        )
        for domain in domains
        for nic in domain.nics
        if nic.metadata is not None
    }


def _listener() -> socket.socket:
    # The namespace is a host of its own without routes between its devices; said once more, as it may inherit.
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # A restarted agent takes the place of the one before without waiting for it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((ADDRESS, PORT))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _exists(device: str) -> bool:
    return device in {name for _, name in socket.if_nameindex()}


def _inside(namespace: str, work: Callable[[], T]) -> T:
    """Do something in a network namespace, in a thread that ends with it."""
    results: list[T] = []
    errors: list[Exception] = []

    def enter() -> None:
        try:
            handle = os.open(RUN_NETNS / namespace, os.O_RDONLY)
            try:
                netns.setns(handle)
            finally:
                os.close(handle)
            results.append(work())
        except Exception as error:  # noqa: BLE001 - raised again by the caller
            errors.append(error)

    thread = threading.Thread(target=enter, name=f"in-{namespace}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _command(*words: str, stdin: str = "") -> None:
    done = subprocess.run(
        words, input=stdin, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    if done.returncode != 0:
        raise MetadataPlugFailed(f"{words[0]}: {done.stderr.strip()[-300:] or f'status {done.returncode}'}")
