"""The daemons of Open vSwitch on this host, as ovs-ctl(8) starts them, but for loading kernel modules."""

from collections.abc import Callable
from pathlib import Path

from stackling.node.daemon import Daemon, ask_ovs, version_in

RUN = Path("/run/openvswitch")
DATABASE = Path("/etc/openvswitch/conf.db")
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
QUIET = ("-vconsole:off", "-vsyslog:err", "-vfile:info")
# It needs three descriptors a bridge and some a port; a container may not allow more than it has.
_FILES = 'ulimit -n 65535 2>/dev/null || ulimit -n "$(ulimit -H -n)"; exec "$@"'


def ovsdb_server(prepare: Callable[[], object]) -> Daemon:
    """The server of Open vSwitch's own database; `prepare` makes its file before a start."""
    socket = RUN / "db.sock"
    return Daemon(
        name="ovsdb-server",
        binary="ovsdb-server",
        package="openvswitch-switch",
        command=(
            *("ovsdb-server", str(DATABASE), *QUIET, f"--remote=punix:{socket}"),
            "--private-key=db:Open_vSwitch,SSL,private_key",
            "--certificate=db:Open_vSwitch,SSL,certificate",
            "--bootstrap-ca-cert=db:Open_vSwitch,SSL,ca_cert",
            f"--pidfile={RUN}/ovsdb-server.pid",
            *("--log-file=/var/log/openvswitch/ovsdb-server.log", "--detach", "--no-chdir"),
        ),
        pidfile=RUN / "ovsdb-server.pid",
        log=Path("/var/log/openvswitch/ovsdb-server.log"),
        sockets=(socket,),
        ask=lambda pid: _version("ovsdb-server", pid),
        unit="openvswitch-switch.service",
        prepare=prepare,
    )


def vswitchd() -> Daemon:
    """The switch itself."""
    return Daemon(
        name="ovs-vswitchd",
        binary="ovs-vswitchd",
        package="openvswitch-switch",
        command=(
            *("/bin/sh", "-c", _FILES, "ovs-vswitchd"),
            *("ovs-vswitchd", f"unix:{RUN}/db.sock", *QUIET),
            f"--pidfile={RUN}/ovs-vswitchd.pid",
            *("--log-file=/var/log/openvswitch/ovs-vswitchd.log", "--detach", "--no-chdir"),
        ),
        pidfile=RUN / "ovs-vswitchd.pid",
        log=Path("/var/log/openvswitch/ovs-vswitchd.log"),
        sockets=(),
        ask=lambda pid: _version("ovs-vswitchd", pid),
        unit="openvswitch-switch.service",
    )


def _version(name: str, pid: int) -> str:
    return version_in(ask_ovs(RUN / f"{name}.{pid}.ctl"))
