"""What a network is made of, as its engine sees it: the `Fabric` protocol and the plain values that cross it.

A value holds everything the engine needs: a driver never asks back and never sees the database. Five kinds
of things are ensured on their own: `Network` (with its subnets), `Port`, `Router` (with its interfaces and
gateway), `FloatingIP` and `SecurityGroup` (with its rules). Names are Neutron's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeAlias

from msgspec import Struct

# --- errors -----------------------------------------------------------------------------------------------


class FabricError(Exception):
    """The network engine refused or failed; the text says what and what to do."""


class FabricUnavailable(FabricError):
    """The network engine does not answer. Nothing is known about the call: repeat it later, it is safe."""


class NotReady(FabricError):
    """Something this thing stands on is not there yet; ensure that first, then repeat the call."""


# --- values -----------------------------------------------------------------------------------------------


class Kind(StrEnum):
    """The kinds of things a fabric holds."""

    NETWORK = "network"
    PORT = "port"
    ROUTER = "router"
    FLOATING_IP = "floating_ip"
    SECURITY_GROUP = "security_group"


class Ref(NamedTuple):
    """Which thing: its kind and its id."""

    kind: Kind
    id: str


class HostRoute(Struct, frozen=True):
    """A route handed to guests (subnet `host_routes`) or kept by a router (`routes`)."""

    destination: str  # CIDR
    nexthop: str  # address


class Subnet(Struct, frozen=True, kw_only=True):
    """A subnet; travels inside its network."""

    id: str
    cidr: str
    ip_version: Literal[4, 6]
    gateway_ip: str | None = None
    enable_dhcp: bool = True
    dns_nameservers: tuple[str, ...] = ()
    host_routes: tuple[HostRoute, ...] = ()
    ipv6_ra_mode: str | None = None  # slaac, dhcpv6-stateful, dhcpv6-stateless
    ipv6_address_mode: str | None = None  # the same words


class MetadataAddress(Struct, frozen=True, kw_only=True):
    """Where guests of a network find the metadata service: the addresses of its METADATA port."""

    mac_address: str
    ip_addresses: tuple[str, ...]


class Network(Struct, frozen=True, kw_only=True):
    """A network with all its subnets. `metadata` only steers DHCP routes: its port is ensured as a `Port`."""

    kind: ClassVar[Kind] = Kind.NETWORK
    id: str
    mtu: int = 1442  # bytes
    network_type: str = "geneve"  # geneve, flat, vlan
    physical_network: str | None = None  # flat and vlan: the name in a host's bridge mappings
    segmentation_id: int | None = None  # vlan: the tag
    external: bool = False
    dns_domain: str = ""
    subnets: tuple[Subnet, ...] = ()
    metadata: MetadataAddress | None = None


class PortKind(StrEnum):
    """What a port is for, from its `device_owner`."""

    SERVER = "server"  # compute:*, and anything else that a guest plugs
    ROUTER_INTERFACE = "router_interface"  # network:router_interface
    ROUTER_GATEWAY = "router_gateway"  # network:router_gateway
    METADATA = "metadata"  # network:distributed: present on every host that needs it
    OTHER = "other"


class FixedIP(Struct, frozen=True):
    """An address of a port and the subnet it came from."""

    subnet_id: str
    ip_address: str


class AddressPair(Struct, frozen=True):
    """One of `allowed_address_pairs`; without a MAC the port's own is meant."""

    ip_address: str  # address or CIDR
    mac_address: str | None = None


class DHCPOption(Struct, frozen=True):
    """One of `extra_dhcp_opts`. Options that the engine does not know are left out and logged."""

    opt_name: str  # dnsmasq's name or the number
    opt_value: str
    ip_version: Literal[4, 6] = 4


class Port(Struct, frozen=True, kw_only=True):
    """A port on a network. Hosts plug it by its id (`iface-id`)."""

    kind: ClassVar[Kind] = Kind.PORT
    id: str
    network_id: str
    mac_address: str
    port_kind: PortKind = PortKind.SERVER
    fixed_ips: tuple[FixedIP, ...] = ()
    admin_state_up: bool = True
    port_security_enabled: bool = True
    security_group_ids: tuple[str, ...] = ()
    allowed_address_pairs: tuple[AddressPair, ...] = ()
    extra_dhcp_opts: tuple[DHCPOption, ...] = ()
    requested_chassis: tuple[str, ...] = ()  # names or hostnames; (source, target) during a migration
    dns_name: str = ""


class RouterInterface(Struct, frozen=True, kw_only=True):
    """A router's leg in a network. Its port is also ensured as a `Port` of kind ROUTER_INTERFACE."""

    port_id: str
    network_id: str
    mac_address: str
    networks: tuple[str, ...]  # address with prefix length: "10.0.0.1/24"
    ipv6_ra_mode: str | None = None  # when set, the router advertises itself
    mtu: int = 0  # bytes, advertised with IPv6; 0 = not
    reside_on_redirect_chassis: bool = False  # flat and vlan networks: traffic passes the gateway's host


class GatewayChassis(Struct, frozen=True):
    """A host that may carry a router's gateway; the highest priority that is alive does."""

    name: str
    priority: int


class RouterGateway(Struct, frozen=True, kw_only=True):
    """A router's leg in an external network. Its port is also ensured as a `Port` of kind ROUTER_GATEWAY."""

    port_id: str
    network_id: str
    mac_address: str
    networks: tuple[str, ...]  # address with prefix length
    gateway_ips: tuple[str, ...] = ()  # next hops of the default routes, at most one per IP version
    chassis: tuple[GatewayChassis, ...] = ()
    mtu: int = 0  # bytes; 0 = no check of packet sizes


class Router(Struct, frozen=True, kw_only=True):
    """A router with all its legs, routes and SNAT; its floating IPs are things of their own."""

    kind: ClassVar[Kind] = Kind.ROUTER
    id: str
    admin_state_up: bool = True
    interfaces: tuple[RouterInterface, ...] = ()
    gateway: RouterGateway | None = None
    enable_snat: bool = True
    snat_cidrs: tuple[str, ...] = ()  # the IPv4 subnets behind it
    routes: tuple[HostRoute, ...] = ()


class FloatingIP(Struct, frozen=True, kw_only=True):
    """An associated floating IP. One without a port has nothing to ensure: remove it from the fabric."""

    kind: ClassVar[Kind] = Kind.FLOATING_IP
    id: str
    router_id: str
    floating_ip_address: str
    fixed_ip_address: str
    port_id: str  # the port that has the fixed address
    external_mac: str | None = None  # set: the guest's own host answers for it (distributed)


class SecurityGroupRule(Struct, frozen=True, kw_only=True):
    """What a security group lets through. For ICMP the port range holds type and code, as in Neutron."""

    id: str
    direction: Literal["ingress", "egress"]
    ethertype: Literal["IPv4", "IPv6"] = "IPv4"
    protocol: str | None = None  # name or number, None or "any": all
    port_range_min: int | None = None
    port_range_max: int | None = None
    remote_ip_prefix: str | None = None  # CIDR
    remote_group_id: str | None = None


class SecurityGroup(Struct, frozen=True, kw_only=True):
    """A security group with all its rules. Which ports are in it is said by the ports."""

    kind: ClassVar[Kind] = Kind.SECURITY_GROUP
    id: str
    rules: tuple[SecurityGroupRule, ...] = ()
    stateful: bool = True


Thing: TypeAlias = Network | Port | Router | FloatingIP | SecurityGroup


class PortState(Struct, frozen=True):
    """What is true of a port now."""

    up: bool  # a host has plugged it and its rules are in force
    chassis: str | None = None  # the host's chassis name; for a router gateway the one that carries it


class Chassis(Struct, frozen=True, kw_only=True):
    """A host that takes part in the fabric."""

    name: str
    hostname: str
    physical_networks: tuple[str, ...] = ()  # from its bridge mappings
    gateway: bool = False  # asked for by `ovn-cms-options=enable-chassis-as-gw`
    nb_cfg: int = 0  # the last configuration number it has reached
    seen_at: int = 0  # milliseconds since the epoch at which it reached that


class Health(Struct, frozen=True, kw_only=True):
    """Whether the fabric works, and if not, why."""

    northbound: bool
    southbound: bool
    chassis: tuple[Chassis, ...] = ()
    reason: str = ""  # empty when all is well

    @property
    def ok(self) -> bool:
        """Both databases answer."""
        return self.northbound and self.southbound


class Report(Struct, frozen=True, kw_only=True):
    """What a resync did. All empty: the fabric already was as described."""

    created: tuple[Ref, ...] = ()  # were missing altogether
    changed: tuple[Ref, ...] = ()  # had lost, gained or altered something
    removed: tuple[Ref, ...] = ()  # ours, but not in the description


PortWatcher: TypeAlias = Callable[[str, bool], None]


class Fabric(Protocol):
    """The network engine of a cloud. Any call may be repeated, from any thread; none relies on an earlier one.

    Every call may raise `FabricUnavailable` (engine down or mute: repeat later) and `FabricError` (refused).
    Security groups, ports, floating IPs, networks and routers may come in any order, except that a `Port`
    needs its network and a `FloatingIP` its router (`NotReady`). A port may name security groups, and a rule
    a remote group, that are not ensured yet: they stay empty, and so let nothing through, until they are.
    """

    def ensure(self, thing: Thing) -> None:
        """The thing is exactly as described. Already so: nothing happens, nothing is written.

        A network's ports follow changes of its subnets' DHCP by themselves.
        """

    def remove(self, kind: Kind, id: str) -> None:
        """The thing is gone. Already gone: nothing happens.

        A network takes its ports with it, a router its legs and floating IPs.
        """

    def ports(self) -> dict[str, PortState]:
        """What is true of every port now, by port id. Ports of routers and of metadata are always up."""

    def resync(self, things: Iterable[Thing], *, repair: bool = True) -> Report:
        """The fabric holds exactly these things: what is missing or altered is mended, and whatever else
        carries our mark is removed. Rows without our mark are never removed. Without `repair` nothing is
        changed; the report says what would be.

        A description ages while it is read. So look again at every thing that the report names, and ensure
        or remove it as its row then says. NotReady when the description itself lacks a port's network or a
        floating IP's router.
        """

    def watch(self, callback: PortWatcher) -> None:
        """Call back with (port id, up) after each change, from a thread of the driver, in order.

        A change may be told twice, and one is lost while the engine is away: look at `ports()` now and then.
        """

    def check(self) -> Health:
        """Whether the engine answers, and its hosts. Never raises."""

    def synchronize(self, timeout: float = 10.0) -> None:
        """Wait until all that was ensured is in force on every host; FabricUnavailable after `timeout` seconds."""

    def close(self) -> None:
        """Let go of connections and threads. The fabric itself goes on."""


Things: TypeAlias = Mapping[Ref, Thing]


def ref(thing: Thing) -> Ref:
    """Which thing this is."""
    return Ref(thing.kind, thing.id)
