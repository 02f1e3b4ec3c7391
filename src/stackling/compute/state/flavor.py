"""Flavors: the sizes that servers come in. Memory and swap in MiB, disks in GiB."""

from sqlalchemy import Boolean, Column, DateTime, Float, Integer, String, Table, Text

from stackling.base.db import JSON, metadata

flavor = Table(
    "flavor",
    metadata,
    Column("id", String(255), primary_key=True),  # chosen by the admin, need not be a UUID
    Column("name", String(255), nullable=False, unique=True),
    Column("vcpus", Integer, nullable=False),
    Column("ram_mib", Integer, nullable=False),
    Column("disk_gib", Integer, nullable=False),
    Column("ephemeral_gib", Integer, nullable=False),
    Column("swap_mib", Integer, nullable=False),
    Column("rxtx_factor", Float, nullable=False),
    Column("is_public", Boolean, nullable=False),
    Column("description", Text),
    Column("extra_specs", JSON, nullable=False),
    Column("created_at", DateTime, nullable=False),
    Column("updated_at", DateTime),
)

flavor_access = Table(
    "flavor_access",
    metadata,
    Column("flavor_id", String(255), primary_key=True),
    Column("project_id", String(255), primary_key=True),
)
