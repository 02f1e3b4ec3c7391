"""Ports, their addresses and their security groups."""

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table

from stackling.base.db import JSON, Row, Tx, metadata, one_of
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
    return tx.execute(sa.select(port).where(port.c.id == id)).first()


def of_device(tx: Tx, device_id: str) -> list[Row]:
    """The ports of a server or router in the order in which they were plugged."""
    query = (
        sa.select(port)
        .where(port.c.device_id == device_id)
        .order_by(port.c.plug_order, port.c.created_at, port.c.id)
    )
    return list(tx.execute(query))


def addresses(tx: Tx, port_ids: list[str] | None) -> dict[str, list[Row]]:
    """(subnet_id, ip_address, port_id, position) by port, in order; `None` asks for all ports'."""
    found: dict[str, list[Row]] = {}
    if port_ids == []:
        return found
    query = sa.select(ip_allocation).order_by(
        ip_allocation.c.port_id, ip_allocation.c.position, ip_allocation.c.ip_address
    )
    if port_ids is not None:
        query = query.where(ip_allocation.c.port_id.in_(port_ids))
    for row in tx.execute(query):
        found.setdefault(row.port_id, []).append(row)
    return found


def groups(tx: Tx, port_ids: list[str] | None) -> dict[str, list[str]]:
    """Ids of the security groups by port; `None` asks for all ports'."""
    found: dict[str, list[str]] = {}
    if port_ids == []:
        return found
    query = sa.select(port_security_group).order_by(
        port_security_group.c.port_id, port_security_group.c.security_group_id
    )
    if port_ids is not None:
        query = query.where(port_security_group.c.port_id.in_(port_ids))
    for row in tx.execute(query):
        found.setdefault(row.port_id, []).append(row.security_group_id)
    return found
