"""Subnets, subnet pools and address scopes."""

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, ForeignKey, Integer, String, Table

from stackling.base.db import JSON, Row, Tx, metadata
from stackling.base.statement import Statement, among
from stackling.network.state.standard import standard

address_scope = Table(
    "address_scope",
    metadata,
    *standard(),
    Column("ip_version", Integer, nullable=False),
    Column("shared", Boolean, nullable=False, default=False),
)

subnetpool = Table(
    "subnetpool",
    metadata,
    *standard(),
    Column("ip_version", Integer, nullable=False),
    Column("prefixes", JSON, nullable=False),  # CIDRs, merged and in order
    Column("default_prefixlen", Integer, nullable=False),
    Column("min_prefixlen", Integer, nullable=False),
    Column("max_prefixlen", Integer, nullable=False),
    Column("default_quota", Integer),  # addresses (IPv4) or /64s (IPv6) of one project
    Column("shared", Boolean, nullable=False, default=False),
    Column("is_default", Boolean, nullable=False, default=False),
    Column("address_scope_id", ForeignKey("address_scope.id"), index=True),
)

subnet = Table(
    "subnet",
    metadata,
    *standard(),
    Column("network_id", ForeignKey("network.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("ip_version", Integer, nullable=False),
    Column("cidr", String(64), nullable=False),
    Column("gateway_ip", String(64)),
    Column("enable_dhcp", Boolean, nullable=False, default=True),
    Column("allocation_pools", JSON, nullable=False),  # [{"start", "end"}]
    Column("dns_nameservers", JSON, nullable=False, default=list),
    Column("host_routes", JSON, nullable=False, default=list),  # [{"destination", "nexthop"}]
    Column("ipv6_ra_mode", String(32)),
    Column("ipv6_address_mode", String(32)),
    Column("subnetpool_id", ForeignKey("subnetpool.id"), index=True),
    Column(
        "service_types", JSON, nullable=False, default=list
    ),  # prefixes of device owners that it serves; none: all
    Column("next_ip", String(64)),  # where the search for a free address goes on
)


def by_id(tx: Tx, id: str) -> Row | None:
    return _ONE.first(tx, id=id)


def of_networks(tx: Tx, network_ids: list[str] | None) -> dict[str, list[Row]]:
    """Subnets by network in order of creation; `None` asks for all networks'."""
    if network_ids is None:
        return _ALL.by(tx, "network_id")
    return _OF_NETWORKS.by(tx, "network_id", ids=network_ids)


_ONE = Statement(sa.select(subnet).where(subnet.c.id == sa.bindparam("id")))
_IN_ORDER = sa.select(subnet).order_by(subnet.c.created_at, subnet.c.id)
_ALL, _OF_NETWORKS = Statement(_IN_ORDER), Statement(_IN_ORDER.where(among(subnet.c.network_id, "ids")))
