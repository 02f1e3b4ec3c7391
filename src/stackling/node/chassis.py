"""This host as an OVN chassis: the keys of the local Open_vSwitch table that ovn-controller reads (ovn-controller(8)).

Also which datapath Open vSwitch uses here: the kernel's where it has one, else the userspace datapath.
"""

import subprocess

import msgspec
from pyroute2 import GenericNetlinkSocket
from pyroute2.netlink import genlmsg
from pyroute2.netlink.exceptions import NetlinkError

from stackling.node.daemon import DaemonError

_OURS = "stackling"  # key that says that this chassis is ours
_KEYS = (
    _OURS,
    "ovn-remote",
    "ovn-encap-type",
    "ovn-encap-ip",
    "ovn-bridge-datapath-type",
    "ovn-bridge-mappings",
)


class Chassis(msgspec.Struct, frozen=True, kw_only=True):
    """What ovn-controller is told about this host."""

    host: str
    datapath: str  # `system` or `netdev`
    remote: str = "unix:/run/ovn/ovnsb_db.sock"
    encap_ip: str = "127.0.0.1"
    mappings: dict[str, str] = {}  # physical network → bridge


def datapath() -> str:
    """`system` when the kernel has Open vSwitch, else `netdev`.

    Asking for the generic netlink family makes the kernel load the module where it exists as one.
    """
    with GenericNetlinkSocket() as wire:
        try:
            wire.bind("ovs_datapath", genlmsg)
        except NetlinkError:
            return "netdev"
    return "system"


def vsctl(*arguments: str, within: int = 10) -> str:
    """Run ovs-vsctl(8) and return what it prints. Raises DaemonError with its message."""
    try:
        done = subprocess.run(
            ["ovs-vsctl", f"--timeout={within}", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise DaemonError("ovs-vsctl is not installed; run: apt-get install openvswitch-switch") from None
    if done.returncode != 0:
        why = done.stderr.strip() or f"no answer within {within} s"
        raise DaemonError(f"ovs-vsctl {' '.join(arguments)}: {why}")
    return done.stdout.strip()


def configure(want: Chassis) -> None:
    """Open vSwitch's database describes this chassis. Already so: nothing happens.

    A system-id and mappings that the operator gave stay. Raises DaemonError, also when the host's Open vSwitch
    belongs to another OVN.
    """
    vsctl("--no-wait", "init")
    have = external_ids()
    remote = have.get("ovn-remote")
    if remote not in (None, want.remote) and _OURS not in have:
        raise DaemonError(
            f"Open vSwitch on this host already belongs to the OVN at {remote}; if that one is no longer used, run: "
            "ovs-vsctl remove open . external_ids ovn-remote"
        )
    bridges = set(vsctl("--no-wait", "list-br").split())
    mappings = {name: bridge for name, bridge in _mappings(have).items() if bridge in bridges} | want.mappings
    ids = {
        _OURS: "true",
        "system-id": have.get("system-id") or want.host,
        "hostname": want.host,
        "ovn-remote": want.remote,
        "ovn-encap-type": "geneve",
        "ovn-encap-ip": want.encap_ip,
        "ovn-bridge-datapath-type": want.datapath,
        "ovn-bridge-mappings": ",".join(f"{name}:{bridge}" for name, bridge in sorted(mappings.items())),
    }
    changed = [f'external_ids:{key}="{value}"' for key, value in ids.items() if have.get(key) != value]
    if changed:
        vsctl("--no-wait", "set", "open", ".", *changed)


def ours() -> bool:
    """Whether configure() was here."""
    return _OURS in external_ids()


def forget() -> None:
    """The keys that make this host our chassis are gone; the operator's system-id stays."""
    if ours():
        vsctl("--no-wait", "remove", "open", ".", "external_ids", *_KEYS)


def name() -> str | None:
    """The chassis name, by which OVN knows this host; None when none is set."""
    return external_ids().get("system-id")


def external_ids() -> dict[str, str]:
    """The external_ids of the Open_vSwitch table. Raises DaemonError."""
    printed = vsctl("--no-wait", "--format=json", "--columns=external_ids", "list", "open", ".")
    rows = msgspec.json.decode(printed)["data"]
    return dict(rows[0][0][1]) if rows else {}


def _mappings(have: dict[str, str]) -> dict[str, str]:
    pairs = [pair.partition(":") for pair in have.get("ovn-bridge-mappings", "").split(",")]
    return {name: bridge for name, _, bridge in pairs if bridge}
