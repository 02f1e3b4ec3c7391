"""A whole cloud on the simulated host, as its operator and its users meet it: the command, the SDK, ssh."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openstack

from stackling.node.daemon import executable
from tests import ready_image

STATE = Path("/var/lib/stackling")
LOG = Path("/var/log/stackling/stackling.log")
COMMAND = str(Path(sys.executable).parent / "stackling")
PIDFILES = {
    "ovsdb-server": "/run/openvswitch/ovsdb-server.pid",
    "ovs-vswitchd": "/run/openvswitch/ovs-vswitchd.pid",
    "ovn-nb": "/run/ovn/ovnnb_db.pid",
    "ovn-sb": "/run/ovn/ovnsb_db.pid",
    "ovn-northd": "/run/ovn/ovn-northd.pid",
    "ovn-controller": "/run/ovn/ovn-controller.pid",
    "libvirtd": "/run/libvirtd.pid",
    "virtlogd": "/run/virtlogd.pid",
}


def until(true: Callable[[], Any], within: float, what: str | Callable[[], str], every: float = 0.1) -> Any:
    """Wait until something is true; its value. What raises is not true yet. `what` names it, or says how it is instead."""
    deadline, last = time.monotonic() + within, ""
    while True:
        try:
            if value := true():
                return value
        except Exception as e:  # noqa: BLE001 (told when time is up)
            last = f"{type(e).__name__}: {e}"
        assert time.monotonic() < deadline, (
            f"{what if isinstance(what, str) else what()}: not within {within:g} s. {last}"
        )
        time.sleep(every)


def run(*command: str, ok: bool = True, within: float = 60) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=within, check=False, stdin=subprocess.DEVNULL
    )
    assert not ok or done.returncode == 0, f"$ {' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def nbctl(*arguments: str) -> str:
    return run("ovn-nbctl", "--timeout=10", *arguments).strip()


class HostCloud:
    """The cloud of this host."""

    def __init__(self) -> None:
        self._connection: Any = None
        self.key = Path(f"/run/guest-key.{os.getpid()}")

    # -- as the operator -------------------------------------------------------------------------------------------

    def command(self, *arguments: str, ok: bool = True, within: float = 90) -> str:
        return run(COMMAND, *arguments, ok=ok, within=within)

    def up(self) -> str:
        """Start it with the image that is built already."""
        ready = STATE / "ready-image"
        if not (ready / "ready.qcow2").exists():
            ready.mkdir(parents=True, exist_ok=True)
            for file in ready_image.PLACE.glob("ready.qcow2*"):
                shutil.copy(file, ready)
        return self.command("up")

    def healthy(self, within: float = 40) -> None:
        until(
            lambda: not [part for part in self.status() if not part["healthy"]],
            within,
            "all parts healthy",
            0.3,
        )

    def status(self) -> list[dict[str, Any]]:
        return list(self._ours("GET", "status")["parts"])

    def findings(self, *, fix: bool = False) -> list[dict[str, Any]]:
        """What `stackling doctor` finds in the cloud."""
        return list(self._ours("POST" if fix else "GET", "findings")["findings"])

    def clean(self, within: float = 30) -> None:
        """The doctor finds nothing: database, domains, OVN and volumes agree."""
        until(lambda: self.findings() == [], within, lambda: json.dumps(self.findings(), indent=1), 0.3)

    def _ours(self, method: str, path: str) -> Any:
        answer = self.sdk.session.request(self.base + f"/stackling/v1/{path}", method)
        return answer.json()

    # -- as a user -------------------------------------------------------------------------------------------------

    @property
    def sdk(self) -> Any:
        if self._connection is None:
            values = json.loads(self.command("env", "--format", "json"))
            self.base = values["OS_AUTH_URL"].removesuffix("/identity/v3")
            self._connection = openstack.connect(
                auth_url=values["OS_AUTH_URL"],
                username=values["OS_USERNAME"],
                password=values["OS_PASSWORD"],
                project_name=values["OS_PROJECT_NAME"],
                user_domain_id="default",
                project_domain_id="default",
                region_name=values["OS_REGION_NAME"],
                api_timeout=20,
            )
        return self._connection

    def forget(self) -> None:
        """The credentials are those of an earlier cloud."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def image(self) -> Any:
        return until(
            lambda: next(iter(self.sdk.image.images(name="stackling-ready", status="active")), None),
            30,
            "the ready image",
        )

    def server(self, id: str) -> Any:
        return self.sdk.compute.get_server(id)

    def wait(self, id: str, *statuses: str, within: float = 60) -> Any:
        """The server, once it has one of these statuses."""

        def there() -> Any:
            server = self.server(id)
            return server if server.status in (*statuses, "ERROR") else None

        server = until(there, within, f"server {id} {' or '.join(statuses)}", 0.2)
        assert server.status in statuses, f"{server.status}: {server.fault}"
        return server

    def gone(self, get: Callable[[str], Any], id: str, within: float = 60) -> None:
        def missing() -> bool:
            try:
                get(id)
            except openstack.exceptions.NotFoundException:
                return True
            return False

        until(missing, within, f"{id} gone", 0.2)

    def ssh(self, address: str, command: str, *, ok: bool = True, within: float = 30) -> str:
        options = [
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=4",
        ]
        flags = [part for option in options for part in ("-o", option)]
        return run(
            "ssh", "-i", str(self.key), *flags, f"stackling@{address}", command, ok=ok, within=within
        ).strip()

    # -- below the cloud -------------------------------------------------------------------------------------------

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Straight from the database."""
        with contextlib.closing(
            sqlite3.connect(f"file:{STATE}/state.db?mode=ro", uri=True, timeout=10)
        ) as database:
            return database.execute(query).fetchall()

    def pid(self, name: str) -> int | None:
        """The process of a daemon, the `supervisor` or the `worker`; None when it doesn't run."""
        if name == "supervisor":
            return _living("/run/stackling/cloud.json", lambda text: json.loads(text)["pid"])
        if name == "worker":
            above = self.pid("supervisor")
            children = (
                run("pgrep", "-P", str(above), "-f", "stackling.boot.server", ok=False).split()
                if above
                else []
            )
            return int(children[0]) if children else None
        return _living(PIDFILES[name], int)

    def kill(self, name: str) -> None:
        """SIGKILL, and return when it is dead. Not running: nothing happens."""
        pid = self.pid(name)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            until(lambda: executable(pid) is None, 10, f"{name} dead", 0.01)

    def guests(self) -> dict[str, int]:
        """Server id → process id of its QEMU."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (executable(int(process.name)) or "").startswith("qemu-system"):
                    name = re.search(rb"guest=instance-([0-9a-f-]{36})", (process / "cmdline").read_bytes())
                    if name:
                        found[name[1].decode()] = int(process.name)
        return found


def _living(file: str, read: Callable[[str], Any]) -> int | None:
    try:
        pid = int(read(Path(file).read_text()))
    except (OSError, ValueError):
        return None
    return pid if executable(pid) else None


# Jobs that are there all the time.
PERIODIC = (
    "'compute.host', 'compute.housekeeping', 'identity.housekeeping', 'image.cache', 'network.fabric',"
    " 'objectstore.expirer', 'objectstore.sweep', 'volume.backend'"
)


def leaks(cloud: HostCloud) -> dict[str, Any]:
    """What the host and the tables still have for tenants, once tenants have nothing: empty unless something leaked.

    The external network, made from the configuration, stays.
    """
    networks = {id for (id,) in cloud.rows("SELECT id FROM network")}
    switches = {line.split()[1].strip("()") for line in nbctl("ls-list").splitlines()}
    bridge = run("ovs-vsctl", "--timeout=10", "list-ports", "br-int").split()
    volumes = STATE / "node/volumes"
    found: dict[str, Any] = {
        "guests": cloud.guests(),
        "domains": run("virsh", "--connect", "qemu:///system", "list", "--all", "--name").split(),
        "instances": [*_names(STATE / "node/instances"), *_names(Path("/run/stackling/instances"))],
        "volumes": [
            name for name in [*_names(volumes), *_names(volumes / "snapshots")] if name != "snapshots"
        ],
        "devices": [name for name in os.listdir("/sys/class/net") if name.startswith(("tap", "meta"))],
        "ports of br-int": [name for name in bridge if name.startswith(("tap", "meta"))],
        "namespaces": _names(Path("/run/netns")),
        "switches": sorted(switches ^ networks),
        "routers": nbctl("lr-list"),
        "addresses": nbctl("--bare", "--columns=_uuid", "list", "nat"),
        "dhcp": nbctl("--bare", "--columns=_uuid", "list", "dhcp_options") if len(networks) == 1 else "",
        "servers": cloud.rows("SELECT id, state FROM server WHERE state != 'deleted'"),
        "ports": cloud.rows(
            "SELECT id, device_owner FROM port WHERE device_owner NOT IN ('network:distributed', 'network:dhcp')"
        ),
        "jobs": cloud.rows(f"SELECT kind, resource_id, why FROM job WHERE kind NOT IN ({PERIODIC})"),
    }
    for table in (
        "floating_ip",
        "router",
        "volume",
        "snapshot",
        "volume_attachment",
        "allocation",
        "consumer",
        "server_nic",
    ):
        found[f"table {table}"] = cloud.rows(f"SELECT * FROM {table}")
    return {what: left for what, left in found.items() if left}


def _names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory)) if directory.is_dir() else []


def traces() -> dict[str, set[str]]:
    """Everything on this host that a cloud may leave behind: to be compared before and after."""
    return {
        "processes": set(_processes()),
        "devices": set(os.listdir("/sys/class/net")),
        "namespaces": set(os.listdir("/run/netns")) if Path("/run/netns").exists() else set(),
        "mounts": {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()},
        "firewall": set(run("nft", "list", "ruleset").splitlines()),
        "files": set(_files()),
    }


def _processes() -> Iterator[str]:
    """Those that a test runner does not have of its own."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if words and "pytest" not in words and "simulated_host.sh" not in words:
                yield words[:200]


def _files() -> Iterator[str]:
    for top in (
        "/etc/stackling",
        "/etc/openvswitch",
        "/etc/ovn",
        "/etc/libvirt",
        "/run",
        "/var/lib/stackling",
        "/var/lib/ovn",
    ):
        yield from _below(Path(top))
    for top in (
        "/var/lib/openvswitch",
        "/var/lib/libvirt",
        "/var/cache/libvirt",
        "/var/log/stackling",
        "/var/log/ovn",
    ):
        yield from _below(Path(top))
    for top in ("/var/log/openvswitch", "/var/log/libvirt", "/dev/shm"):
        yield from _below(Path(top))


def _below(top: Path) -> Iterator[str]:
    for directory, names, files in os.walk(top):
        if directory.startswith(("/run/postgresql", "/run/simulated")):
            names.clear()
            continue
        for name in (*names, *files):
            if not name.startswith("PostgreSQL."):  # /dev/shm is the outer host's, where others may run tests
                yield f"{directory}/{name}"
