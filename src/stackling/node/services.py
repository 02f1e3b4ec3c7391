"""The daemons of other projects that a host needs: Open vSwitch, OVN and libvirt.

What runs already, started by systemd or by hand, is adopted: asked after, never restarted, never stopped.
Everything is at the packages' own paths, so their tools need no options. All calls may be repeated at any time
and by several processes at once; a lock lets one through.
"""

import contextlib
import fcntl
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from stackling.node import bridges, chassis, kvm, libvirtd, namespaces, openvswitch, ovn, ovsdb
from stackling.node.chassis import Chassis
from stackling.node.daemon import Daemon, DaemonError, ask_ovs, memory, started_by

# Where these daemons leave files. What of it stood there before our first start stays at a purge.
_TRACES = (
    *(openvswitch.DATABASE, *ovn.DATABASES.values()),
    *(ovsdb.lock(database) for database in (openvswitch.DATABASE, *ovn.DATABASES.values())),
    *(Path("/run/openvswitch"), Path("/run/ovn"), Path("/run/libvirt"), Path("/run/libvirt/qemu")),
    *(
        Path("/var/lib/libvirt"),
        Path("/var/lib/libvirt/qemu"),
        Path("/var/cache/libvirt"),
        Path("/var/log/libvirt"),
    ),
    *(Path("/var/cache/libvirt/qemu"), Path("/var/log/libvirt/qemu"), Path("/var/log/libvirt/libvirtd.log")),
    *(Path("/var/log/libvirt/virtlogd.log"), Path("/var/log/openvswitch"), Path("/var/log/ovn")),
    *(Path(f"/var/log/openvswitch/{name}.log") for name in ("ovsdb-server", "ovs-vswitchd")),
    *(
        Path(f"/var/log/ovn/{name}.log")
        for name in ("ovsdb-server-nb", "ovsdb-server-sb", "ovn-northd", "ovn-controller")
    ),
)


class Service(msgspec.Struct, frozen=True):
    """How one daemon is. `why` says what is wrong and what to do; it is empty when healthy."""

    name: str
    version: str
    pid: int | None
    healthy: bool
    why: str
    memory: int  # proportional set size, KiB
    started_by_us: bool


class Services:
    """The daemons of this host.

    `run_dir` is the cloud's directory under /run and marks what we started; `state_dir` is its directory under
    /var/lib and keeps libvirt's configuration and which databases we made. `central` says whether OVN's databases
    and northd run here; else `ovn_remote` names the southbound database elsewhere.
    """

    def __init__(
        self,
        run_dir: Path,
        state_dir: Path,
        *,
        host: str,
        central: bool = True,
        ovn_remote: str = f"unix:{ovn.RUN}/ovnsb_db.sock",
        encap_ip: str = "127.0.0.1",
        mappings: dict[str, str] | None = None,
    ) -> None:
        self.run_dir = run_dir
        self.state_dir = state_dir
        self.kvm = kvm.probe(run_dir / "kvm.json")
        self.chassis = Chassis(
            host=host,
            datapath=chassis.datapath(),
            remote=ovn_remote,
            encap_ip=encap_ip,
            mappings=mappings or {},
        )
        self._made = state_dir / "made.json"
        configuration = state_dir / "libvirt"
        databases = [
            ovn.database(which, partial(ovsdb.prepare, ovn.DATABASES[which], ovn.SCHEMAS[which]))
            for which in ("nb", "sb")
        ]
        self._first = [
            openvswitch.ovsdb_server(partial(ovsdb.prepare, openvswitch.DATABASE, openvswitch.SCHEMA)),
            *(databases if central else []),
            libvirtd.virtlogd(configuration),
        ]
        self._then = [
            openvswitch.vswitchd(),
            *([ovn.northd()] if central else []),
            ovn.controller(),
            libvirtd.libvirtd(configuration, host=host, kvm=self.kvm.usable),
        ]

    def ensure(self) -> list[Service]:
        """Every daemon runs and answers, and Open vSwitch knows its chassis. Returns how each one is.

        Nothing is raised for a daemon that can't be had: it is unhealthy, and says why.
        """
        with self._alone(), ThreadPoolExecutor(len(self._then)) as threads:
            self._note()
            first = list(threads.map(self._ensure, self._first))
            missing = {state.name: state for state in first if not state.healthy}
            trouble: dict[str, str] = {}  # why a daemon of the second wave is not even tried
            if "ovsdb-server" not in missing:
                try:
                    chassis.configure(self.chassis)
                except DaemonError as error:
                    trouble["ovn-controller"] = str(error)
            needs = {
                "ovs-vswitchd": ("ovsdb-server",),
                "ovn-northd": ("ovn-nb", "ovn-sb"),
                "ovn-controller": ("ovsdb-server",),
                "libvirtd": ("virtlogd",),
            }
            for name, others in needs.items():
                if absent := [other for other in others if other in missing]:
                    trouble[name] = f"waits for {' and '.join(absent)}"
            then = threads.map(
                lambda one: _down(one, trouble[one.name]) if one.name in trouble else self._ensure(one),
                self._then,
            )
            return [*first, *then]

    def status(self) -> list[Service]:
        """How each daemon is; starts and changes nothing."""
        daemons = [*self._first, *self._then]
        with ThreadPoolExecutor(len(daemons)) as threads:
            return list(threads.map(self._look, daemons))

    def stop(self) -> None:
        """End what we started, in the reverse order; adopted daemons and running guests stay.

        While guests run, virtlogd stays as well: it holds the other end of their consoles for their whole life.
        """
        with self._alone():
            for daemon in reversed([*self._first, *self._then]):
                if self._ours(daemon.pid()) and not (daemon.name == "virtlogd" and libvirtd.guests()):
                    daemon.stop()

    def purge(self) -> None:
        """As stop(), and what we made is gone: our chassis, bridges, namespaces, databases, libvirt's configuration.

        Guests must be gone before: while one runs, its tap and disks stay.
        """
        with self._alone():
            namespaces.remove_all()
            daemons = {daemon.name: daemon for daemon in (*self._first, *self._then)}
            controller = daemons["ovn-controller"].pid()
            if controller is not None and self._ours(controller):
                with contextlib.suppress(OSError, ValueError):  # it is ended by force below
                    ask_ovs(ovn.RUN / f"ovn-controller.{controller}.ctl", "exit")  # takes its chassis with it
            if daemons["ovsdb-server"].pid() is None:
                bridges.forget_masquerade()
            else:
                wait = daemons["ovs-vswitchd"].pid() is not None
                bridges.remove(wait=wait)
                if chassis.ours():
                    chassis.vsctl(*(() if wait else ("--no-wait",)), "--if-exists", "del-br", "br-int")
                    chassis.forget()
        self.stop()
        for path in self._noted():
            self._erase(path)
        self._made.unlink(missing_ok=True)
        shutil.rmtree(self.state_dir / "libvirt", ignore_errors=True)

    def _ensure(self, daemon: Daemon) -> Service:
        state = self._look(daemon, patience=5.0)
        if state.healthy or (state.pid is not None and not state.started_by_us):
            return state
        try:
            if state.pid is not None:
                daemon.stop(within=2.0)
            daemon.start(self.run_dir)
        except (DaemonError, OSError) as error:
            state = self._look(daemon)  # somebody else may have been faster
            return state if state.healthy else _down(daemon, str(error))
        return self._look(daemon)

    def _look(self, daemon: Daemon, patience: float = 0.0) -> Service:
        deadline = time.monotonic() + patience
        while True:
            pid = daemon.pid()
            if pid is None:
                return _down(daemon, "does not run; `stackling up` starts it")
            ours = self._ours(pid)
            try:
                return Service(daemon.name, daemon.answers(pid), pid, True, "", memory(pid), ours)
            except DaemonError as error:
                if time.monotonic() >= deadline:
                    advice = "" if ours else f"; restart it: systemctl restart {daemon.unit}"
                    return Service(daemon.name, "", pid, False, f"{error}{advice}", memory(pid), ours)
            time.sleep(0.1)

    def _ours(self, pid: int | None) -> bool:
        return pid is not None and started_by(pid) == str(self.run_dir)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        with (self.run_dir / "services.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _note(self) -> None:
        """Keep, before anything is started for the first time, which traces will be ours."""
        if not self._made.exists():
            self._made.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._made.with_name(f"{self._made.name}.fresh")
            fresh.write_bytes(
                msgspec.json.encode([str(path) for path in _TRACES if not path.resolve().exists()])
            )
            fresh.replace(self._made)

    def _noted(self) -> list[Path]:
        """The traces that are ours, what is inside a directory before the directory."""
        try:
            noted = {Path(path) for path in msgspec.json.decode(self._made.read_bytes(), type=list[str])}
        except (OSError, msgspec.MsgspecError):
            return []
        return [path for path in reversed(_TRACES) if path in noted]

    def _erase(self, path: Path) -> None:
        """Remove one trace, unless a daemon that isn't ours still uses it."""
        for daemon in (*self._first, *self._then):
            uses = (daemon.log, daemon.pidfile, *daemon.sockets)
            if daemon.pid() is not None and (
                str(path) in daemon.command or any(path in (one, *one.parents) for one in uses)
            ):
                return
        if path.suffix == ".db":
            ovsdb.remove(path)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _down(daemon: Daemon, why: str) -> Service:
    return Service(daemon.name, "", None, False, why, 0, False)
