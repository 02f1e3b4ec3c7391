"""Routers. Their legs are ports whose `device_id` is the router."""

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, ForeignKey, Table

from stackling.base.db import JSON, Row, Tx, metadata, one_of
from stackling.base.statement import Statement
from stackling.network.state.standard import State, standard

router = Table(
    "router",
    metadata,
    *standard(),
    *one_of("state", State),
    Column("admin_state_up", Boolean, nullable=False, default=True),
    Column("gateway_port_id", ForeignKey("port.id"), unique=True),
    Column("enable_snat", Boolean, nullable=False, default=True),
    Column(
        "distributed", Boolean, nullable=False, default=False
    ),  # floating IPs answer on the guest's own host
    Column("ha", Boolean, nullable=False, default=True),
    Column("routes", JSON, nullable=False, default=list),  # [{"destination", "nexthop"}]
    Column("availability_zone_hints", JSON, nullable=False, default=list),
)

INTERFACE = "network:router_interface"
GATEWAY = "network:router_gateway"
_ONE = Statement(sa.select(router).where(router.c.id == sa.bindparam("id")))


def by_id(tx: Tx, id: str) -> Row | None:
    return _ONE.first(tx, id=id)
