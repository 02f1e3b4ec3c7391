"""How much a project may have, and how much it has."""

from collections.abc import Mapping

import sqlalchemy as sa

from stackling.base import quota
from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.base.errors import QuotaExceeded
from stackling.compute.state.server import live, server
from stackling.compute.state.server_group import server_group

CLASS = "class:default"  # where the limits of the default quota class are kept, as if it were a project


def configured(cloud: Cloud) -> dict[str, int]:
    """The limits of the configuration. Memory in MiB."""
    options = cloud.config.compute
    return {
        "instances": options.instances,
        "cores": options.cores,
        "ram": options.ram_mib,
        "metadata_items": options.metadata_items,
        "key_pairs": options.key_pairs,
        "server_groups": options.server_groups,
        "server_group_members": options.server_group_members,
        # Files are not injected; the numbers are upstream's, for clients that show them.
        "injected_files": 5,
        "injected_file_content_bytes": 10240,
        "injected_file_path_bytes": 255,
    }


def defaults(tx: Tx, cloud: Cloud) -> dict[str, int]:
    """The limits of a project that has none of its own."""
    return quota.limits(tx, "compute", CLASS, configured(cloud))


def usage(tx: Tx, project_id: str) -> dict[str, int]:
    c = server.c
    size = (
        sa.func.coalesce(sa.func.sum(c.flavor["vcpus"].as_integer()), 0),
        sa.func.coalesce(sa.func.sum(c.flavor["ram"].as_integer()), 0),
    )
    row = tx.execute(sa.select(sa.func.count(), *size).where(c.project_id == project_id, live)).one()
    groups = tx.execute(
        sa.select(sa.func.count()).select_from(server_group).where(server_group.c.project_id == project_id)
    ).scalar_one()
    return {"instances": row[0], "cores": row[1], "ram": row[2], "server_groups": groups}


def check(tx: Tx, cloud: Cloud, project_id: str, adds: Mapping[str, int]) -> None:
    """Raises QuotaExceeded."""
    quota.check(tx, "compute", project_id, adds, defaults=defaults(tx, cloud), usage=usage)


def check_metadata(tx: Tx, cloud: Cloud, project_id: str, items: int) -> None:
    """Raises QuotaExceeded when one server would have more metadata items than allowed."""
    most = quota.limits(tx, "compute", project_id, defaults(tx, cloud))["metadata_items"]
    if 0 <= most < items:
        raise QuotaExceeded(f"Maximum number of metadata items exceeds {most}")
