"""Networks."""

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, Integer, String, Table

from stackling.base.db import JSON, Row, Tx, metadata, one_of
from stackling.base.statement import Statement
from stackling.network.state.standard import State, standard

network = Table(
    "network",
    metadata,
    *standard(),
    *one_of("state", State),
    Column("admin_state_up", Boolean, nullable=False, default=True),
    Column("shared", Boolean, nullable=False, default=False),
    Column("external", Boolean, nullable=False, default=False),
    Column("is_default", Boolean, nullable=False, default=False),
    Column("mtu", Integer, nullable=False),
    Column("network_type", String(32), nullable=False),
    Column("physical_network", String(64)),
    Column("segmentation_id", Integer),
    Column("port_security_enabled", Boolean, nullable=False, default=True),
    Column("dns_domain", String(255), nullable=False, default=""),
    Column("availability_zone_hints", JSON, nullable=False, default=list),
    Column(
        "configured", String(64), unique=True
    ),  # name in [[network.external]]: made and kept by the configuration
    # Two networks can't share a segment; Geneve's tunnel keys are OVN's own, so theirs are only for show.
    sa.Index(
        "uq_network_segment",
        "physical_network",
        "segmentation_id",
        unique=True,
        sqlite_where=sa.text("physical_network IS NOT NULL"),
        postgresql_where=sa.text("physical_network IS NOT NULL"),
    ),
)

_ONE = Statement(sa.select(network).where(network.c.id == sa.bindparam("id")))


def hold(tx: Tx, id: str) -> bool:
    """Have the network not deleted until the transaction ends, whatever else is locked afterwards. False: there is none.

    SQLite's writers are alone anyway.
    """
    if tx.dialect.name != "postgresql":
        return True
    query = sa.select(network.c.id).where(network.c.id == id).with_for_update(read=True, key_share=True)
    return tx.execute(query).first() is not None


def by_id(tx: Tx, id: str) -> Row | None:
    return _ONE.first(tx, id=id)
