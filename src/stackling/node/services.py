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
from pathlib import Path

import msgspec

from stackling.node import bridges, chassis, kvm, libvirtd, namespaces, ovsdb
from stackling.node.chassis import Chassis
from stackling.node.daemon import Daemon, DaemonError, ask_ovs, memory, started_by

_OVS = Path("/run/openvswitch")
_OVN = Path("/run/ovn")
_CONF = Path("/etc/openvswitch/conf.db")
_NB = Path("/var/lib/ovn/ovnnb_db.db")
_SB = Path("/var/lib/ovn/ovnsb_db.db")
# It needs three descriptors a bridge and some a port; a container may not allow more than it has.
_FILES = 'ulimit -n 65535 2>/dev/null || ulimit -n "$(ulimit -H -n)"; exec "$@"'
_QUIET = ("-vconsole:off", "-vsyslog:err", "-vfile:info")


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
        ovn_remote: str = f"unix:{_OVN}/ovnsb_db.sock",
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
        self._made = state_dir / "databases.json"
        self._central = [self._ovn_database("nb"), self._ovn_database("sb")] if central else []
        self._first = [self._ovsdb(), *self._central, libvirtd.virtlogd(state_dir / "libvirt")]
        self._then = [
            self._vswitchd(),
            *([self._northd()] if central else []),
            self._controller(),
            libvirtd.libvirtd(state_dir / "libvirt", host=host, kvm=self.kvm.usable),
        ]

    def ensure(self) -> list[Service]:
        """Every daemon runs and answers, and Open vSwitch knows its chassis. Returns how each one is.

        Nothing is raised for a daemon that can't be had: it is unhealthy, and says why.
        """
        with self._alone(), ThreadPoolExecutor(len(self._then)) as threads:
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
                    ask_ovs(_OVN / f"ovn-controller.{controller}.ctl", "exit")  # takes its chassis with it
            if daemons["ovsdb-server"].pid() is None:
                bridges.forget_masquerade()
            else:
                wait = daemons["ovs-vswitchd"].pid() is not None
                bridges.remove(wait=wait)
                if chassis.ours():
                    chassis.vsctl(*(() if wait else ("--no-wait",)), "--if-exists", "del-br", "br-int")
                    chassis.forget()
        self.stop()
        for database in self._databases():
            ovsdb.remove(Path(database))
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
            return _down(daemon, str(error))
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

    def _databases(self) -> list[str]:
        try:
            return msgspec.json.decode(self._made.read_bytes(), type=list[str])
        except (OSError, msgspec.MsgspecError):
            return []

    def _database(self, path: Path, schema: str) -> None:
        if (
            not path.resolve().exists()
        ):  # noted before it is made: a crash between leaves a note too many, no file
            self._made.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._made.with_name(f"{self._made.name}.{path.stem}")
            with (self.run_dir / "databases.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                fresh.write_bytes(msgspec.json.encode(sorted({*self._databases(), str(path)})))
                fresh.replace(self._made)
        ovsdb.prepare(path, Path(schema))

    def _ovsdb(self) -> Daemon:
        socket = _OVS / "db.sock"
        return Daemon(
            name="ovsdb-server",
            binary="ovsdb-server",
            package="openvswitch-switch",
            command=(
                *("ovsdb-server", str(_CONF), *_QUIET, f"--remote=punix:{socket}"),
                "--private-key=db:Open_vSwitch,SSL,private_key",
                "--certificate=db:Open_vSwitch,SSL,certificate",
                "--bootstrap-ca-cert=db:Open_vSwitch,SSL,ca_cert",
                f"--pidfile={_OVS}/ovsdb-server.pid",
                *("--log-file=/var/log/openvswitch/ovsdb-server.log", "--detach", "--no-chdir"),
            ),
            pidfile=_OVS / "ovsdb-server.pid",
            log=Path("/var/log/openvswitch/ovsdb-server.log"),
            sockets=(socket,),
            ask=lambda pid: _version(_OVS, "ovsdb-server", pid),
            unit="openvswitch-switch.service",
            prepare=lambda: self._database(_CONF, "/usr/share/openvswitch/vswitch.ovsschema"),
        )

    def _vswitchd(self) -> Daemon:
        return Daemon(
            name="ovs-vswitchd",
            binary="ovs-vswitchd",
            package="openvswitch-switch",
            command=(
                *("/bin/sh", "-c", _FILES, "ovs-vswitchd"),
                *("ovs-vswitchd", f"unix:{_OVS}/db.sock", *_QUIET),
                f"--pidfile={_OVS}/ovs-vswitchd.pid",
                *("--log-file=/var/log/openvswitch/ovs-vswitchd.log", "--detach", "--no-chdir"),
            ),
            pidfile=_OVS / "ovs-vswitchd.pid",
            log=Path("/var/log/openvswitch/ovs-vswitchd.log"),
            sockets=(),
            ask=lambda pid: _version(_OVS, "ovs-vswitchd", pid),
            unit="openvswitch-switch.service",
        )

    def _ovn_database(self, which: str) -> Daemon:
        schema = {"nb": "OVN_Northbound", "sb": "OVN_Southbound"}[which]
        table = {"nb": "NB_Global", "sb": "SB_Global"}[which]
        file = {"nb": _NB, "sb": _SB}[which]
        stem = f"{_OVN}/ovn{which}_db"
        log = Path(f"/var/log/ovn/ovsdb-server-{which}.log")
        return Daemon(
            name=f"ovn-{which}",
            binary="ovsdb-server",
            package="ovn-central",
            command=(
                *("ovsdb-server", str(file), *_QUIET),
                *(f"--remote=punix:{stem}.sock", f"--remote=db:{schema},{table},connections"),
                *(f"--unixctl={stem}.ctl", f"--pidfile={stem}.pid", f"--log-file={log}"),
                f"--private-key=db:{schema},SSL,private_key",
                f"--certificate=db:{schema},SSL,certificate",
                f"--ca-cert=db:{schema},SSL,ca_cert",
                f"--ssl-protocols=db:{schema},SSL,ssl_protocols",
                f"--ssl-ciphers=db:{schema},SSL,ssl_ciphers",
                *("--detach", "--no-chdir"),
            ),
            pidfile=Path(f"{stem}.pid"),
            log=log,
            sockets=(Path(f"{stem}.sock"), Path(f"{stem}.ctl")),
            ask=lambda _: _number(ask_ovs(Path(f"{stem}.ctl"))),
            unit=f"ovn-ovsdb-server-{which}.service",
            prepare=lambda: self._database(file, f"/usr/share/ovn/ovn-{which}.ovsschema"),
        )

    def _northd(self) -> Daemon:
        return Daemon(
            name="ovn-northd",
            binary="ovn-northd",
            package="ovn-central",
            command=(
                *("ovn-northd", *_QUIET),
                *(f"--ovnnb-db=unix:{_OVN}/ovnnb_db.sock", f"--ovnsb-db=unix:{_OVN}/ovnsb_db.sock"),
                f"--pidfile={_OVN}/ovn-northd.pid",
                *("--log-file=/var/log/ovn/ovn-northd.log", "--detach", "--no-chdir"),
            ),
            pidfile=_OVN / "ovn-northd.pid",
            log=Path("/var/log/ovn/ovn-northd.log"),
            sockets=(),
            ask=lambda pid: _version(_OVN, "ovn-northd", pid),
            unit="ovn-northd.service",
        )

    def _controller(self) -> Daemon:
        return Daemon(
            name="ovn-controller",
            binary="ovn-controller",
            package="ovn-host",
            command=(
                *("ovn-controller", f"unix:{_OVS}/db.sock", *_QUIET),
                f"--pidfile={_OVN}/ovn-controller.pid",
                *("--log-file=/var/log/ovn/ovn-controller.log", "--detach", "--no-chdir"),
            ),
            pidfile=_OVN / "ovn-controller.pid",
            log=Path("/var/log/ovn/ovn-controller.log"),
            sockets=(),
            ask=lambda pid: _connected(pid),
            unit="ovn-controller.service",
        )


def _down(daemon: Daemon, why: str) -> Service:
    return Service(daemon.name, "", None, False, why, 0, False)


def _version(directory: Path, name: str, pid: int) -> str:
    return _number(ask_ovs(directory / f"{name}.{pid}.ctl"))


def _number(said: str) -> str:
    """The version in `ovn-northd 23.03.1` or `ovs-vswitchd (Open vSwitch) 3.1.0`."""
    return said.splitlines()[0].rsplit(" ", 1)[1]


def _connected(pid: int) -> str:
    control = _OVN / f"ovn-controller.{pid}.ctl"
    link = ask_ovs(control, "connection-status")
    if link != "connected":
        raise ValueError(f"its link to the southbound database is {link}")
    return _number(ask_ovs(control))
