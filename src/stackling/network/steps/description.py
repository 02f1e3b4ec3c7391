"""The one place where rows become what the fabric is told: one thing for its job, or everything for a resync."""

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Select, Table

from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.network import driver
from stackling.network.actions.address import prefixlen
from stackling.network.actions.chassis import gateway_chassis
from stackling.network.actions.network import DISTRIBUTED
from stackling.network.driver import (
    AddressPair,
    Chassis,
    DHCPOption,
    FixedIP,
    FloatingIP,
    HostRoute,
    MetadataAddress,
    PortKind,
    RouterGateway,
    RouterInterface,
    SecurityGroup,
    SecurityGroupRule,
    Thing,
)
from stackling.network.state import floating_ip as floating_ips
from stackling.network.state import port as ports
from stackling.network.state import security_group as security_groups
from stackling.network.state import subnet as subnets
from stackling.network.state.floating_ip import floating_ip
from stackling.network.state.network import network
from stackling.network.state.port import port
from stackling.network.state.router import GATEWAY, INTERFACE, router
from stackling.network.state.security_group import address_group, security_group

Ids = Sequence[str] | None  # None: all there are

_PORT_KINDS = {
    INTERFACE: PortKind.ROUTER_INTERFACE,
    GATEWAY: PortKind.ROUTER_GATEWAY,
    DISTRIBUTED: PortKind.METADATA,
}


def everything(tx: Tx, cloud: Cloud, chassis: Sequence[Chassis]) -> list[Thing]:
    """All that the fabric shall hold, in an order in which it can be made."""
    return [
        *security_groups_of(tx),
        *networks_of(tx, cloud),
        *ports_of(tx),
        *routers_of(tx, chassis),
        *floating_ips_of(tx),
    ]


def _pick(table: Table, ids: Ids) -> Select[Any]:
    query = sa.select(table)
    return query if ids is None else query.where(table.c.id.in_(ids))


# -- networks ----------------------------------------------------------------------------------------------------------


def networks_of(tx: Tx, cloud: Cloud, ids: Ids = None) -> Iterator[driver.Network]:
    rows = list(tx.execute(_pick(network, ids)))
    wanted = None if ids is None else list(ids)
    held = subnets.of_networks(tx, wanted)
    served = sa.select(port).where(port.c.device_owner == DISTRIBUTED)
    if wanted is not None:
        served = served.where(port.c.network_id.in_(wanted))
    metadata = {p.network_id: p for p in tx.execute(served)}
    addresses = (
        ports.addresses(tx, [p.id for p in metadata.values()])
        if wanted is not None
        else ports.addresses(tx, None)
    )
    for row in rows:
        through = metadata.get(row.id)
        yield driver.Network(
            id=row.id,
            mtu=row.mtu,
            network_type=row.network_type,
            physical_network=row.physical_network,
            segmentation_id=row.segmentation_id if row.network_type == "vlan" else None,
            external=row.external,
            dns_domain=row.dns_domain,
            subnets=tuple(_subnet(s, cloud) for s in held.get(row.id, [])),
            metadata=MetadataAddress(
                mac_address=through.mac_address,
                ip_addresses=tuple(a.ip_address for a in addresses.get(through.id, [])),
            )
            if through is not None
            else None,
        )


def _subnet(row: Row, cloud: Cloud) -> driver.Subnet:
    resolvers = row.dns_nameservers
    if not resolvers:
        version = ":" if row.ip_version == 6 else "."
        resolvers = [r for r in cloud.config.network.dns_servers if version in r]
    return driver.Subnet(
        id=row.id,
        cidr=row.cidr,
        ip_version=row.ip_version,
        gateway_ip=row.gateway_ip,
        enable_dhcp=row.enable_dhcp,
        dns_nameservers=tuple(resolvers),
        host_routes=_routes(row.host_routes),
        ipv6_ra_mode=row.ipv6_ra_mode,
        ipv6_address_mode=row.ipv6_address_mode,
    )


def _routes(kept: list[dict[str, str]]) -> tuple[HostRoute, ...]:
    return tuple(HostRoute(r["destination"], r["nexthop"]) for r in kept)


# -- ports -------------------------------------------------------------------------------------------------------------


def ports_of(tx: Tx, ids: Ids = None) -> Iterator[driver.Port]:
    """Ports that only keep a floating IP's address are no ports of the fabric."""
    rows = [r for r in tx.execute(_pick(port, ids)) if r.device_owner != floating_ips.OWNER]
    wanted = None if ids is None else list(ids)
    addresses, groups = ports.addresses(tx, wanted), ports.groups(tx, wanted)
    for row in rows:
        yield driver.Port(
            id=row.id,
            network_id=row.network_id,
            mac_address=row.mac_address,
            port_kind=_PORT_KINDS.get(row.device_owner, PortKind.SERVER),
            fixed_ips=tuple(FixedIP(a.subnet_id, a.ip_address) for a in addresses.get(row.id, [])),
            admin_state_up=row.admin_state_up,
            port_security_enabled=row.port_security_enabled,
            security_group_ids=tuple(groups.get(row.id, [])),
            allowed_address_pairs=tuple(
                AddressPair(p["ip_address"], p["mac_address"]) for p in row.allowed_address_pairs
            ),
            extra_dhcp_opts=tuple(
                DHCPOption(o["opt_name"], o["opt_value"], o["ip_version"]) for o in row.extra_dhcp_opts
            ),
            requested_chassis=(row.host,) if row.host and not row.device_owner.startswith("network:") else (),
            dns_name=row.dns_name,
        )


# -- routers -----------------------------------------------------------------------------------------------------------


def routers_of(tx: Tx, chassis: Sequence[Chassis], ids: Ids = None) -> Iterator[driver.Router]:
    rows = list(tx.execute(_pick(router, ids)))
    query = (
        sa.select(port)
        .where(port.c.device_owner.in_([INTERFACE, GATEWAY]))
        .order_by(port.c.created_at, port.c.id)
    )
    if ids is not None:
        query = query.where(port.c.device_id.in_(list(ids)))
    legs = list(tx.execute(query))
    network_ids = None if ids is None else list({p.network_id for p in legs})
    nets = {n.id: n for n in tx.execute(_pick(network, network_ids))} if network_ids != [] else {}
    held = {s.id: s for rows_ in subnets.of_networks(tx, network_ids).values() for s in rows_}
    addresses = ports.addresses(tx, None if ids is None else [p.id for p in legs])
    by_router: dict[str, list[Row]] = {}
    for leg in legs:
        by_router.setdefault(leg.device_id, []).append(leg)
    for row in rows:
        mine = by_router.get(row.id, [])
        inner = [p for p in mine if p.device_owner == INTERFACE]
        outer = next((p for p in mine if p.id == row.gateway_port_id), None)
        yield driver.Router(
            id=row.id,
            admin_state_up=row.admin_state_up,
            interfaces=tuple(_interface(p, nets[p.network_id], addresses.get(p.id, []), held) for p in inner),
            gateway=_gateway(
                row.id, outer, nets[outer.network_id], addresses.get(outer.id, []), held, chassis
            )
            if outer and addresses.get(outer.id)  # its network may have no subnet yet
            else None,
            enable_snat=row.enable_snat,
            snat_cidrs=tuple(
                sorted(
                    {
                        held[a.subnet_id].cidr
                        for p in inner
                        for a in addresses.get(p.id, [])
                        if held[a.subnet_id].ip_version == 4
                    }
                )
            ),
            routes=_routes(row.routes),
        )


def _with_prefix(addresses: Sequence[Row], held: dict[str, Row]) -> tuple[str, ...]:
    return tuple(f"{a.ip_address}/{prefixlen(held[a.subnet_id].cidr)}" for a in addresses)


def _interface(leg: Row, net: Row, addresses: Sequence[Row], held: dict[str, Row]) -> RouterInterface:
    modes = [held[a.subnet_id].ipv6_ra_mode for a in addresses if held[a.subnet_id].ipv6_ra_mode]
    return RouterInterface(
        port_id=leg.id,
        network_id=leg.network_id,
        mac_address=leg.mac_address,
        networks=_with_prefix(addresses, held),
        ipv6_ra_mode=modes[0] if modes else None,
        mtu=net.mtu,
        reside_on_redirect_chassis=net.network_type != "geneve",
    )


def _gateway(
    router_id: str,
    leg: Row,
    net: Row,
    addresses: Sequence[Row],
    held: dict[str, Row],
    chassis: Sequence[Chassis],
) -> RouterGateway:
    hops: dict[int, str] = {}
    for a in addresses:
        row = held[a.subnet_id]
        if row.gateway_ip:
            hops.setdefault(row.ip_version, row.gateway_ip)
    return RouterGateway(
        port_id=leg.id,
        network_id=leg.network_id,
        mac_address=leg.mac_address,
        networks=_with_prefix(addresses, held),
        gateway_ips=tuple(hops[v] for v in sorted(hops)),
        chassis=gateway_chassis(router_id, net.physical_network, chassis),
        mtu=net.mtu,
    )


# -- floating IPs and security groups ----------------------------------------------------------------------------------


def floating_ips_of(tx: Tx, ids: Ids = None) -> Iterator[FloatingIP]:
    """Only those that lead somewhere."""
    query = (
        sa.select(floating_ip, router.c.distributed, port.c.mac_address)
        .join(router, router.c.id == floating_ip.c.router_id)
        .join(port, port.c.id == floating_ip.c.floating_port_id)
    )
    for row in tx.execute(query if ids is None else query.where(floating_ip.c.id.in_(ids))):
        yield FloatingIP(
            id=row.id,
            router_id=row.router_id,
            floating_ip_address=row.floating_ip_address,
            fixed_ip_address=row.fixed_ip_address,
            port_id=row.port_id,
            external_mac=row.mac_address if row.distributed else None,
        )


def security_groups_of(tx: Tx, ids: Ids = None) -> Iterator[SecurityGroup]:
    rows = list(tx.execute(_pick(security_group, ids)))
    rules = security_groups.rules_of(tx, None if ids is None else list(ids))
    named = {r.remote_address_group_id for held in rules.values() for r in held if r.remote_address_group_id}
    query = sa.select(address_group.c.id, address_group.c.addresses).where(address_group.c.id.in_(named))
    addresses = {r.id: r.addresses for r in tx.execute(query)} if named else {}
    for row in rows:
        yield SecurityGroup(
            id=row.id,
            stateful=row.stateful,
            rules=tuple(one for r in rules.get(row.id, []) for one in _rules(r, addresses)),
        )


def _rules(row: Row, addresses: dict[str, list[str]]) -> Iterator[SecurityGroupRule]:
    """The rule; of one that names an address group, one for each of its addresses of the rule's IP version."""
    if row.remote_address_group_id is None:
        yield _rule(row, row.id, row.remote_ip_prefix)
        return
    for cidr in addresses[row.remote_address_group_id]:
        if (":" in cidr) == (row.ethertype == "IPv6"):
            yield _rule(row, str(uuid.uuid5(uuid.UUID(row.id), cidr)), cidr)


def _rule(row: Row, id: str, remote_ip_prefix: str | None) -> SecurityGroupRule:
    return SecurityGroupRule(
        id=id,
        direction=row.direction,
        ethertype=row.ethertype,
        protocol=row.protocol,
        port_range_min=row.port_range_min,
        port_range_max=row.port_range_max,
        remote_ip_prefix=remote_ip_prefix,
        remote_group_id=row.remote_group_id,
    )


__all__ = ["everything", "floating_ips_of", "networks_of", "ports_of", "routers_of", "security_groups_of"]
