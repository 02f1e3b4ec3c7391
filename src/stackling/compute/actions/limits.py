"""How much a project may have, and how much it has."""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.base.errors import QuotaExceeded
from stackling.compute.state.server import live, server
from stackling.compute.state.server_group import server_group
from stackling.identity.actions.quota import Projects, Quotas

DISK = "class:DISK_GB"  # the one that Nova's own quota calls don't know


def configured(cloud: Cloud) -> dict[str, int]:
    """The limits of the configuration. Memory in MiB, disk in GiB."""
    options = cloud.config.compute
    return {
        "instances": options.instances,
        "cores": options.cores,
        "ram": options.ram_mib,
        DISK: options.disk_gib,
        "metadata_items": options.metadata_items,
        "key_pairs": options.key_pairs,
        "server_groups": options.server_groups,
        "server_group_members": options.server_group_members,
        # Files are not injected; the numbers are upstream's, for clients that show them.
        "injected_files": 5,
        "injected_file_content_bytes": 10240,
        "injected_file_path_bytes": 255,
    }


def usage(tx: Tx, projects: Projects, names: Iterable[str] = ("server_groups",)) -> dict[str, int]:
    """What projects have together."""
    c = server.c
    local = sa.case((c.image_id.isnot(None), c.flavor["disk"].as_integer()), else_=0)
    disk = local + c.flavor["ephemeral"].as_integer() + (c.flavor["swap"].as_integer() + 1023) // 1024
    sizes = (c.flavor["vcpus"].as_integer(), c.flavor["ram"].as_integer(), disk)
    total = (sa.func.coalesce(sa.func.sum(size), 0) for size in sizes)
    row = tx.execute(sa.select(sa.func.count(), *total).where(c.project_id.in_(projects), live)).one()
    made = {"instances": row[0], "cores": int(row[1]), "ram": int(row[2]), DISK: int(row[3])}
    if "server_groups" in names:
        count = sa.select(sa.func.count()).select_from(server_group)
        made["server_groups"] = tx.execute(count.where(server_group.c.project_id.in_(projects))).scalar_one()
    return made


QUOTAS = Quotas(
    "compute",
    configured,
    usage,
    words={
        "instances": "servers",
        "cores": "class:VCPU",
        "ram": "class:MEMORY_MB",
        "metadata_items": "server_metadata_items",
        "key_pairs": "server_key_pairs",
        **{
            n: f"server_{n}"
            for n in ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes")
        },
    },
)


def of(tx: Tx, cloud: Cloud, project_id: str | None) -> dict[str, int]:
    """The limits in force for a project, by the names of Nova's quota calls."""
    return QUOTAS.limits(tx, cloud, project_id or "")


def check(tx: Tx, cloud: Cloud, project_id: str, adds: Mapping[str, int]) -> None:
    """Raises QuotaExceeded."""
    QUOTAS.check(tx, cloud, project_id, adds)


def check_metadata(tx: Tx, cloud: Cloud, project_id: str, items: int) -> None:
    """Raises QuotaExceeded when one server would have more metadata items than allowed."""
    most = of(tx, cloud, project_id)["metadata_items"]
    if 0 <= most < items:
        raise QuotaExceeded(f"Maximum number of metadata items exceeds {most}")
