"""Floating IPs. Each owns its address through a port of its external network."""

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, Index, String, Table

from stackling.base.db import Row, Tx, metadata, one_of
from stackling.base.statement import Statement, among
from stackling.network.state.standard import State, standard

OWNER = "network:floatingip"

floating_ip = Table(
    "floating_ip",
    metadata,
    *standard(),
    *one_of("state", State),
    Column("floating_network_id", ForeignKey("network.id"), nullable=False, index=True),
    Column(
        "floating_port_id", ForeignKey("port.id"), nullable=False, unique=True
    ),  # the port that owns the address
    Column("floating_ip_address", String(64), nullable=False, index=True),
    Column("port_id", ForeignKey("port.id"), index=True),
    Column("fixed_ip_address", String(64)),
    Column("router_id", ForeignKey("router.id"), index=True),
    Column("dns_name", String(255), nullable=False, default=""),
    Column("dns_domain", String(255), nullable=False, default=""),
    Index("uq_floating_ip_fixed", "port_id", "fixed_ip_address", "floating_network_id", unique=True),
)


def by_id(tx: Tx, id: str) -> Row | None:
    return _ONE.first(tx, id=id)


def of_ports(tx: Tx, port_ids: list[str]) -> dict[str, list[Row]]:
    """The floating IPs that lead to each of the ports."""
    return _OF_PORTS.by(tx, "port_id", ids=port_ids)


_ONE = Statement(sa.select(floating_ip).where(floating_ip.c.id == sa.bindparam("id")))
_OF_PORTS = Statement(
    sa.select(floating_ip)
    .where(among(floating_ip.c.port_id, "ids"))
    .order_by(floating_ip.c.created_at, floating_ip.c.id)
)
