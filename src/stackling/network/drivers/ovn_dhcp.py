"""DHCP in OVN: an options row for each subnet that serves DHCP, and one for each port with options of its own.

A port's own row is its subnet's options with the port's laid over them. What a port wants is noted on its
logical switch port, so a change of the subnet can follow up without being told about ports.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
from collections.abc import Callable, Mapping
from typing import TypeAlias
from uuid import UUID

import msgspec
from msgspec import Struct

from stackling.network.driver import DHCPOption, Kind, Network, Port, PortKind, Ref, Subnet
from stackling.network.drivers.ovn_rows import Row, derived, uuid_of

LOG = logging.getLogger(__name__)

METADATA_IP = "169.254.169.254"
LEASE_SECONDS = 43200

# dnsmasq's names and the numbers of RFC 2132 → the names of ovn-nb(5), DHCP options.
_V4_NAMES = {
    "router": "router", "3": "router",
    "netmask": "netmask", "1": "netmask",
    "dns-server": "dns_server", "6": "dns_server",
    "log-server": "log_server", "7": "log_server",
    "lpr-server": "lpr_server", "9": "lpr_server",
    "hostname": "hostname", "12": "hostname",
    "domain-name": "domain_name", "15": "domain_name",
    "swap-server": "swap_server", "16": "swap_server",
    "ip-forward-enable": "ip_forward_enable", "19": "ip_forward_enable",
    "policy-filter": "policy_filter", "21": "policy_filter",
    "default-ttl": "default_ttl", "23": "default_ttl",
    "mtu": "mtu", "26": "mtu",
    "broadcast-address": "broadcast_address", "28": "broadcast_address",
    "router-discovery": "router_discovery", "31": "router_discovery",
    "router-solicitation": "router_solicitation", "32": "router_solicitation",
    "arp-timeout": "arp_cache_timeout", "35": "arp_cache_timeout",
    "ethernet-encap": "ethernet_encap", "36": "ethernet_encap",
    "tcp-ttl": "tcp_ttl", "37": "tcp_ttl",
    "tcp-keepalive": "tcp_keepalive_interval", "38": "tcp_keepalive_interval",
    "nis-server": "nis_server", "41": "nis_server",
    "ntp-server": "ntp_server", "42": "ntp_server",
    "netbios-ns": "netbios_name_server", "44": "netbios_name_server",
    "netbios-nodetype": "netbios_node_type", "46": "netbios_node_type",
    "lease-time": "lease_time", "51": "lease_time",
    "T1": "T1", "58": "T1",
    "T2": "T2", "59": "T2",
    "bootfile-name": "bootfile_name", "67": "bootfile_name",
    "tftp-server": "tftp_server", "66": "tftp_server",
    "tftp-server-address": "tftp_server_address", "150": "tftp_server_address",
    "server-ip-address": "next_server", "next-server": "next_server", "253": "next_server",
    "classless-static-route": "classless_static_route", "121": "classless_static_route",
    "ms-classless-static-route": "ms_classless_static_route", "249": "ms_classless_static_route",
    "wpad": "wpad", "252": "wpad",
    "path-prefix": "path_prefix", "210": "path_prefix",
    "domain-search": "domain_search_list", "119": "domain_search_list",
    "bootfile-name-alt": "bootfile_name_alt", "254": "bootfile_name_alt",
}  # fmt: skip
_V6_NAMES = {
    "server-id": "server_id", "2": "server_id",
    "dns-server": "dns_server", "23": "dns_server",
    "domain-search": "domain_search", "24": "domain_search",
}  # fmt: skip
# Options of type "str" in OVN: their value stands in quotes of its own.
_QUOTED = {
    "hostname", "domain_name", "bootfile_name", "bootfile_name_alt", "tftp_server", "wpad", "path_prefix",
    "domain_search", "domain_search_list",
}  # fmt: skip
DISABLED = "dhcp_disabled"


class Served(Struct, frozen=True):
    """What a subnet's DHCP hands out."""

    cidr: str
    options: dict[str, str]


Lookup: TypeAlias = Callable[[str], Served | None]
"""Subnet id → what it serves; None when it serves no DHCP."""


class Wish(Struct, frozen=True, kw_only=True):
    """What a port wants of DHCP; noted on its logical switch port."""

    subnet4: str = ""
    subnet6: str = ""
    options4: dict[str, str] = {}
    options6: dict[str, str] = {}


def serve(subnet: Subnet, network: Network) -> Served | None:
    """What a subnet hands out; None when it serves no DHCP."""
    if not subnet.enable_dhcp:
        return None
    options = _serve_v4(subnet, network) if subnet.ip_version == 4 else _serve_v6(subnet, network)
    return None if options is None else Served(str(ipaddress.ip_network(subnet.cidr, strict=False)), options)


def server_mac(subnet_id: str) -> str:
    """The MAC that answers for a subnet's DHCP: always the same, locally administered."""
    digest = hashlib.sha256(subnet_id.encode()).digest()
    return "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in digest[:3])


def _serve_v4(subnet: Subnet, network: Network) -> dict[str, str] | None:
    cidr = ipaddress.ip_network(subnet.cidr, strict=False)
    at = network.metadata.ip_addresses if network.metadata else ()
    metadata = next((ip for ip in at if ipaddress.ip_address(ip) in cidr), None)
    server = subnet.gateway_ip or metadata or str(cidr[1] if cidr.num_addresses > 2 else cidr[0])
    options = {
        "server_id": server,
        "server_mac": server_mac(subnet.id),
        "lease_time": str(LEASE_SECONDS),
        "mtu": str(network.mtu),
    }
    if subnet.gateway_ip:
        options["router"] = subnet.gateway_ip
    servers = [ip for ip in subnet.dns_nameservers if ":" not in ip]
    if servers:
        options["dns_server"] = _many(servers)
    if network.dns_domain:
        options["domain_name"] = f'"{network.dns_domain.rstrip(".")}"'
    routes = [f"{METADATA_IP}/32,{metadata}"] if metadata else []
    routes += [f"{route.destination},{route.nexthop}" for route in subnet.host_routes]
    if routes:
        # With option 121 clients ignore option 3 (RFC 3442), so the default route stands here too.
        if subnet.gateway_ip:
            routes.append(f"0.0.0.0/0,{subnet.gateway_ip}")
        options["classless_static_route"] = "{" + ", ".join(routes) + "}"
    return options


def _serve_v6(subnet: Subnet, network: Network) -> dict[str, str] | None:
    if subnet.ipv6_address_mode not in ("dhcpv6-stateful", "dhcpv6-stateless"):
        return None
    options = {"server_id": server_mac(subnet.id)}
    if subnet.ipv6_address_mode == "dhcpv6-stateless":
        options["dhcpv6_stateless"] = "true"
    servers = [ip for ip in subnet.dns_nameservers if ":" in ip]
    if servers:
        options["dns_server"] = _many(servers)
    if network.dns_domain:
        options["domain_search"] = f'"{network.dns_domain.rstrip(".")}"'
    return options


def _many(values: list[str]) -> str:
    return values[0] if len(values) == 1 else "{" + ", ".join(values) + "}"


def subnet_row(subnet_id: str, network_id: str, served: Served) -> Row:
    """The options row of a subnet."""
    return Row(
        table="DHCP_Options",
        uuid=uuid_of(subnet_id),
        owner=Ref(Kind.NETWORK, network_id),
        columns={"cidr": served.cidr, "options": served.options},
        external_ids={"subnet": subnet_id},
    )


def wish_of(port: Port) -> Wish:
    """What a port wants of DHCP."""
    if port.port_kind not in (PortKind.SERVER, PortKind.OTHER):
        return Wish()
    return Wish(
        subnet4=next((fixed.subnet_id for fixed in port.fixed_ips if ":" not in fixed.ip_address), ""),
        subnet6=next((fixed.subnet_id for fixed in port.fixed_ips if ":" in fixed.ip_address), ""),
        options4=_overlay(port, 4),
        options6=_overlay(port, 6),
    )


def _overlay(port: Port, version: int) -> dict[str, str]:
    names = _V4_NAMES if version == 4 else _V6_NAMES
    overlay: dict[str, str] = {}
    for option in port.extra_dhcp_opts:
        if option.ip_version == version:
            overlay |= _translate(port.id, option, names)
    return overlay


def _translate(port_id: str, option: DHCPOption, names: Mapping[str, str]) -> dict[str, str]:
    tag, _, name = option.opt_name.rpartition(",")
    name = name.removeprefix("option:").removeprefix("option6:")
    if name == DISABLED:
        return {DISABLED: "true"} if option.opt_value.lower() in ("true", "1") else {}
    # OVN gives bootfile_name to iPXE and bootfile_name_alt to all others, once both are set.
    if tag == "tag:!ipxe" and names.get(name) == "bootfile_name":
        name = "bootfile-name-alt"
    ovn = names.get(name) if tag in ("", "tag:ipxe", "tag:!ipxe") else None
    if ovn is None:
        LOG.warning("port %s: DHCP option %r is unknown to OVN and left out", port_id, option.opt_name)
        return {}
    value = option.opt_value
    if ovn in _QUOTED:
        value = '"' + value.strip('"').replace('"', "") + '"'
    elif "," in value and not value.startswith("{"):
        value = "{" + value + "}"
    return {ovn: value}


def port_rows(port_id: str, wish: Wish, lookup: Lookup) -> tuple[dict[str, list[UUID]], list[Row]]:
    """The columns of a logical switch port that name its DHCP options, and the rows of its own for them."""
    columns: dict[str, list[UUID]] = {}
    rows: list[Row] = []
    for version, subnet_id, overlay in ((4, wish.subnet4, wish.options4), (6, wish.subnet6, wish.options6)):
        column = f"dhcpv{version}_options"
        served = lookup(subnet_id) if subnet_id and DISABLED not in overlay else None
        if served is None:
            columns[column] = []
        elif not overlay:
            columns[column] = [uuid_of(subnet_id)]
        else:
            own = Row(
                table="DHCP_Options",
                uuid=own_uuid(port_id, version),
                owner=Ref(Kind.PORT, port_id),
                columns={"cidr": served.cidr, "options": served.options | overlay},
                external_ids={"subnet": subnet_id, "port": port_id},
            )
            rows.append(own)
            columns[column] = [own.uuid]
    return columns, rows


def own_uuid(port_id: str, version: int) -> UUID:
    """The UUID of a port's own options row."""
    return derived(port_id, f"dhcp{version}")


def pack(wish: Wish) -> str:
    """A wish as a note; empty for none."""
    return "" if wish == Wish() else msgspec.json.encode(wish).decode()


def unpack(note: str) -> Wish:
    """A noted wish; one that cannot be read asks for nothing."""
    try:
        return msgspec.json.decode(note, type=Wish) if note else Wish()
    except msgspec.MsgspecError:
        return Wish()
