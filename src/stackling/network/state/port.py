"""Ports, their addresses and their security groups."""

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table

from stackling.base.db import JSON, Row, Tx, metadata, one_of
from stackling.base.statement import Statement, among
from stackling.network.state.standard import State, standard

port = Table(
    "port",
    metadata,
    *standard(),
    *one_of("state", State),
    Column("network_id", ForeignKey("network.id"), nullable=False, index=True),
    Column("mac_address", String(32), nullable=False),
    Column("admin_state_up", Boolean, nullable=False, default=True),
    Column("device_id", String(255), nullable=False, default="", index=True),
    Column("device_owner", String(255), nullable=False, default=""),
    Column("host", String(255)),  # where it is bound, or shall be
    Column("vnic_type", String(64), nullable=False, default="normal"),
    Column("profile", JSON, nullable=False, default=dict),  # binding:profile
    Column("port_security_enabled", Boolean, nullable=False, default=True),
    Column("allowed_address_pairs", JSON, nullable=False, default=list),
    Column("extra_dhcp_opts", JSON, nullable=False, default=list),
    Column("dns_name", String(255), nullable=False, default=""),
    Column("dns_domain", String(255), nullable=False, default=""),
    Column("up", Boolean, nullable=False, default=False),  # as the fabric told it last
    Column("created_by_server", Boolean, nullable=False, default=False),
    Column("plug_order", Integer, nullable=False, default=0),  # place among the ports of its device
    Index("uq_port_mac_address", "network_id", "mac_address", unique=True),
)

ip_allocation = Table(
    "ip_allocation",
    metadata,
    Column("subnet_id", ForeignKey("subnet.id"), primary_key=True),
    Column("ip_address", String(64), primary_key=True),
    Column("port_id", ForeignKey("port.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("position", Integer, nullable=False),  # place among the port's addresses
)

port_security_group = Table(
    "port_security_group",
    metadata,
    Column("port_id", ForeignKey("port.id", ondelete="CASCADE"), primary_key=True),
    Column("security_group_id", ForeignKey("security_group.id"), primary_key=True, index=True),
)


def by_id(tx: Tx, id: str) -> Row | None:
    return _ONE.first(tx, id=id)


def of_device(tx: Tx, device_id: str) -> list[Row]:
    """The ports of a server or router in the order in which they were plugged."""
    return _OF_DEVICE.all(tx, device_id=device_id)


def addresses(tx: Tx, port_ids: list[str] | None) -> dict[str, list[Row]]:
    """(subnet_id, ip_address, port_id, position) by port, in order; `None` asks for all ports'."""
    if port_ids is None:
        return _ALL_ADDRESSES.by(tx, "port_id")
    return _ADDRESSES.by(tx, "port_id", ids=port_ids)


def groups(tx: Tx, port_ids: list[str] | None) -> dict[str, list[str]]:
    """Ids of the security groups by port; `None` asks for all ports'."""
    rows = _ALL_GROUPS.all(tx) if port_ids is None else _GROUPS.all(tx, ids=port_ids)
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.port_id, []).append(row.security_group_id)
    return found


_ONE = Statement(sa.select(port).where(port.c.id == sa.bindparam("id")))
_OF_DEVICE = Statement(
    sa.select(port)
    .where(port.c.device_id == sa.bindparam("device_id"))
    .order_by(port.c.plug_order, port.c.created_at, port.c.id)
)
_held = sa.select(ip_allocation).order_by(
    ip_allocation.c.port_id, ip_allocation.c.position, ip_allocation.c.ip_address
)
_ALL_ADDRESSES, _ADDRESSES = Statement(_held), Statement(_held.where(among(ip_allocation.c.port_id, "ids")))
_joined = sa.select(port_security_group).order_by(
    port_security_group.c.port_id, port_security_group.c.security_group_id
)
_ALL_GROUPS, _GROUPS = (
    Statement(_joined),
    Statement(_joined.where(among(port_security_group.c.port_id, "ids"))),
)
