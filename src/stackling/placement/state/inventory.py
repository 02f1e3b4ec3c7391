"""How much of each resource class a provider has, and how much of it is allocated.

`used` is the sum of the allocations, kept with them in one place (`actions.allocation`), so that a claim costs the
same however many consumers a host has.
"""

from sqlalchemy import Column, DateTime, Float, Integer, String, Table

from stackling.base.db import metadata

inventory = Table(
    "inventory",
    metadata,
    Column("provider_id", String(36), primary_key=True),
    Column("resource_class", String(255), primary_key=True),
    Column("total", Integer, nullable=False),
    Column("reserved", Integer, nullable=False),
    Column("min_unit", Integer, nullable=False),
    Column("max_unit", Integer, nullable=False),
    Column("step_size", Integer, nullable=False),
    Column("allocation_ratio", Float, nullable=False),
    Column("used", Integer, nullable=False),
    Column("updated_at", DateTime, nullable=False),
)
