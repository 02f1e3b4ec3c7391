"""External networks on this host: an Open vSwitch bridge for each, its way to the outside, its bridge mapping.

A bridge carries either a real network card, or the gateway's address, so that the host itself routes (and
masquerades) for it. Bridges that the operator made under the same name are used as they are and never removed.
"""

import errno
import hashlib
import subprocess
import time
from ipaddress import ip_interface
from pathlib import Path

import msgspec
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from stackling.node.chassis import vsctl
from stackling.node.daemon import DaemonError

_OURS = "stackling"  # external id on a bridge that we made; its value is the physical network


class External(msgspec.Struct, frozen=True, kw_only=True):
    """One external network as the configuration has it. Give `nic`, or `gateway`, or neither (isolated)."""

    physical_network: str
    gateway: str | None = None  # address of the host with its prefix: 172.24.4.1/24
    nic: str | None = None  # network card that becomes a port of the bridge
    masquerade: bool = True  # traffic to other places leaves with the host's address


def name(physical_network: str) -> str:
    """Name of the bridge: `br-` and the physical network, hashed where Linux's 15 characters don't hold it."""
    short = physical_network.lower()
    if len(short) <= 12 and all(sign.isascii() and (sign.isalnum() or sign in "-_.") for sign in short):
        return f"br-{short}"
    return f"br-{hashlib.sha256(physical_network.encode()).hexdigest()[:12]}"


def mappings(networks: list[External]) -> dict[str, str]:
    """What ovn-bridge-mappings says: physical network → bridge."""
    return {network.physical_network: name(network.physical_network) for network in networks}


def ensure(networks: list[External], datapath: str) -> list[str]:
    """Every external network has its bridge, up, with its address or card; bridges of others of ours are gone.

    To be called again whenever ovs-vswitchd started: its internal ports come back without addresses. Returns what
    is wrong but not fatal (no nftables, say), one sentence each. Raises DaemonError when a bridge can't be had.
    """
    wanted = mappings(networks)
    for bridge in _ours():
        if bridge not in wanted.values():
            vsctl("--if-exists", "del-br", bridge)
    have = set(vsctl("list-br").split())
    for network in networks:
        bridge = wanted[network.physical_network]
        if bridge not in have:
            vsctl(
                *(
                    "--may-exist",
                    "add-br",
                    bridge,
                    "--",
                    "set",
                    "bridge",
                    bridge,
                    f"datapath_type={datapath}",
                ),
                *("--", "br-set-external-id", bridge, _OURS, network.physical_network),
            )
        if network.nic is not None:
            _plug(bridge, network.nic)
        elif network.gateway is not None:
            _address(bridge, network.gateway)
    return _masquerade([network for network in networks if network.gateway and network.nic is None])


def remove(*, wait: bool = True) -> None:
    """Every bridge that we made, and our masquerading, is gone. Already gone: nothing happens.

    `wait` for ovs-vswitchd to take its devices away; not when it doesn't run.
    """
    for bridge in _ours():
        vsctl(*(() if wait else ("--no-wait",)), "--if-exists", "del-br", bridge)
    forget_masquerade()


def forget_masquerade() -> None:
    """Our table in nftables is gone; needs no Open vSwitch."""
    _nft("table inet stackling\ndelete table inet stackling\n")


def _ours() -> list[str]:
    bridges = vsctl("--no-wait", "list-br").split()
    return [bridge for bridge in bridges if vsctl("--no-wait", "br-get-external-id", bridge, _OURS)]


def _plug(bridge: str, nic: str) -> None:
    if not Path("/sys/class/net", nic).exists():
        raise DaemonError(f"The network card {nic} of bridge {bridge} does not exist on this host")
    vsctl("--may-exist", "add-port", bridge, nic)
    with IPRoute() as route:
        for device in (nic, bridge):
            route.link("set", index=_index(route, device), state="up")


def _address(bridge: str, gateway: str) -> None:
    """The bridge's internal port is up with this address and no other of that network."""
    want = ip_interface(gateway)
    with IPRoute() as route:
        index = _index(route, bridge)
        route.link("set", index=index, state="up")
        for entry in route.get_addr(index=index):
            have = ip_interface(f"{entry.get_attr('IFA_ADDRESS')}/{entry['prefixlen']}")
            if have != want and have.version == want.version and not have.is_link_local:
                route.addr("del", index=index, address=str(have.ip), prefixlen=have.network.prefixlen)
        try:
            route.addr("add", index=index, address=str(want.ip), prefixlen=want.network.prefixlen)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise DaemonError(f"{gateway} cannot be put on {bridge}: {error}") from error
        if len(_holders(route, str(want.ip))) > 1:
            raise DaemonError(
                f"{want.ip} is on another interface of this host as well; choose another gateway"
            )


def _holders(route: IPRoute, address: str) -> list[int]:
    return [entry["index"] for entry in route.get_addr() if entry.get_attr("IFA_ADDRESS") == address]


def _index(route: IPRoute, device: str) -> int:
    """Index of a network device; waits 5 s for it, because ovs-vswitchd may be just making it."""
    deadline = time.monotonic() + 5
    while True:
        found = route.link_lookup(ifname=device)
        if found:
            return int(found[0])
        if time.monotonic() > deadline:
            raise DaemonError(
                f"Open vSwitch did not make the device {device}; see /var/log/openvswitch/ovs-vswitchd.log"
            )
        time.sleep(0.02)


def _masquerade(networks: list[External]) -> list[str]:
    troubles = []
    rules = []
    for network in networks:
        inside = ip_interface(str(network.gateway)).network
        family, forwarding = (
            ("ip", "ipv4/ip_forward") if inside.version == 4 else ("ip6", "ipv6/conf/all/forwarding")
        )
        if network.masquerade:
            rules.append(f"{family} saddr {inside} {family} daddr != {inside} masquerade")
            try:
                switch = Path("/proc/sys/net", forwarding)
                if switch.read_text().strip() != "1":
                    switch.write_text("1")
            except OSError as error:
                troubles.append(f"Forwarding can't be switched on ({error}): guests do not reach the outside")
    if not rules:
        forget_masquerade()
        return troubles
    text = "\n        ".join(rules)
    trouble = _nft(
        "table inet stackling\ndelete table inet stackling\n"  # in one transaction: replaced, never absent
        "table inet stackling {\n    chain postrouting {\n        type nat hook postrouting priority srcnat;\n"
        f"        {text}\n    }}\n}}\n"
    )
    if trouble:
        troubles.append(
            f"Guests on {', '.join(n.physical_network for n in networks)} don't reach the outside: {trouble}"
        )
    return troubles


def _nft(script: str) -> str:
    """Run a script of nft(8). Returns what went wrong, empty when nothing did."""
    try:
        done = subprocess.run(["nft", "-f", "-"], input=script, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "nft is not installed; run: apt-get install nftables"
    return done.stderr.strip() if done.returncode else ""
