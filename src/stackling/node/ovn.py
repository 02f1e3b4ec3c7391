"""The daemons of OVN on this host, as ovn-ctl(8) starts them."""

from collections.abc import Callable
from pathlib import Path

from stackling.node import openvswitch
from stackling.node.daemon import Daemon, ask_ovs, version_in
from stackling.node.openvswitch import QUIET

RUN = Path("/run/ovn")
DATABASES = {"nb": Path("/var/lib/ovn/ovnnb_db.db"), "sb": Path("/var/lib/ovn/ovnsb_db.db")}
SCHEMAS = {which: Path(f"/usr/share/ovn/ovn-{which}.ovsschema") for which in DATABASES}


def database(which: str, prepare: Callable[[], object]) -> Daemon:
    """The server of the northbound (`nb`) or southbound (`sb`) database; `prepare` makes its file."""
    schema = {"nb": "OVN_Northbound", "sb": "OVN_Southbound"}[which]
    table = {"nb": "NB_Global", "sb": "SB_Global"}[which]
    stem = f"{RUN}/ovn{which}_db"
    log = Path(f"/var/log/ovn/ovsdb-server-{which}.log")
    return Daemon(
        name=f"ovn-{which}",
        binary="ovsdb-server",
        package="ovn-central",
        command=(
            *("ovsdb-server", str(DATABASES[which]), *QUIET),
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
        ask=lambda _: version_in(ask_ovs(Path(f"{stem}.ctl"))),
        unit=f"ovn-ovsdb-server-{which}.service",
        prepare=prepare,
    )


def northd() -> Daemon:
    """northd, which turns the northbound database into flows in the southbound."""
    return Daemon(
        name="ovn-northd",
        binary="ovn-northd",
        package="ovn-central",
        command=(
            *("ovn-northd", *QUIET),
            *(f"--ovnnb-db=unix:{RUN}/ovnnb_db.sock", f"--ovnsb-db=unix:{RUN}/ovnsb_db.sock"),
            f"--pidfile={RUN}/ovn-northd.pid",
            *("--log-file=/var/log/ovn/ovn-northd.log", "--detach", "--no-chdir"),
        ),
        pidfile=RUN / "ovn-northd.pid",
        log=Path("/var/log/ovn/ovn-northd.log"),
        sockets=(),
        ask=lambda pid: version_in(ask_ovs(RUN / f"ovn-northd.{pid}.ctl")),
        unit="ovn-northd.service",
    )


def controller() -> Daemon:
    """ovn-controller, which brings the southbound database's flows to this host."""
    return Daemon(
        name="ovn-controller",
        binary="ovn-controller",
        package="ovn-host",
        command=(
            *("ovn-controller", f"unix:{openvswitch.RUN}/db.sock", *QUIET),
            f"--pidfile={RUN}/ovn-controller.pid",
            *("--log-file=/var/log/ovn/ovn-controller.log", "--detach", "--no-chdir"),
        ),
        pidfile=RUN / "ovn-controller.pid",
        log=Path("/var/log/ovn/ovn-controller.log"),
        sockets=(),
        ask=_connected,
        unit="ovn-controller.service",
    )


def _connected(pid: int) -> str:
    control = RUN / f"ovn-controller.{pid}.ctl"
    link = ask_ovs(control, "connection-status")
    if link != "connected":
        raise ValueError(f"its link to the southbound database is {link}")
    return version_in(ask_ovs(control))
