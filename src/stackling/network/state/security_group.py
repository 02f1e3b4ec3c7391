"""Security groups and their rules."""

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, ForeignKey, Integer, String, Table

from stackling.base.db import JSON, Row, Tx, metadata, one_of
from stackling.base.statement import Statement, among
from stackling.network.state.standard import State, standard

security_group = Table(
    "security_group",
    metadata,
    *standard(),
    *one_of("state", State),
    Column("stateful", Boolean, nullable=False, default=True),
    Column("default_of", String(64), unique=True),  # the project whose `default` group it is
)

address_group = Table(
    "address_group",
    metadata,
    *standard(),
    Column("addresses", JSON, nullable=False, default=list),  # CIDRs, in the order in which they came
)

security_group_rule = Table(
    "security_group_rule",
    metadata,
    *standard(),
    Column(
        "security_group_id", ForeignKey("security_group.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("direction", String(16), nullable=False),
    Column("ethertype", String(16), nullable=False),
    Column("protocol", String(40)),
    Column("port_range_min", Integer),
    Column("port_range_max", Integer),
    Column("remote_ip_prefix", String(64)),
    Column("remote_group_id", ForeignKey("security_group.id", ondelete="CASCADE"), index=True),
    Column("remote_address_group_id", ForeignKey("address_group.id"), index=True),
)


def by_id(tx: Tx, id: str) -> Row | None:
    return _ONE.first(tx, id=id)


def rules_of(tx: Tx, group_ids: list[str] | None) -> dict[str, list[Row]]:
    """Rules by group, in order of creation; `None` asks for all groups'."""
    if group_ids is None:
        return _ALL_RULES.by(tx, "security_group_id")
    return _RULES.by(tx, "security_group_id", ids=group_ids)


_ONE = Statement(sa.select(security_group).where(security_group.c.id == sa.bindparam("id")))
_rules = sa.select(security_group_rule).order_by(security_group_rule.c.created_at, security_group_rule.c.id)
_ALL_RULES, _RULES = (
    Statement(_rules),
    Statement(_rules.where(among(security_group_rule.c.security_group_id, "ids"))),
)
