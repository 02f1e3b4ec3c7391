"""How much block storage a project may have: limits, their defaults, and what is used."""

from collections.abc import Mapping

import sqlalchemy as sa

from stackling.base import quota
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Tx
from stackling.base.errors import QuotaExceeded
from stackling.volume.state.snapshot import snapshot
from stackling.volume.state.volume import volume
from stackling.volume.state.volume_type import volume_type

SERVICE = "volume"
DEFAULT_CLASS = "class:default"  # where changed defaults are kept, among the projects


def built_in(tx: Tx, cloud: Cloud) -> dict[str, int]:
    """The limits of the configuration, and none for each volume type."""
    set_up = cloud.config.volume
    made = {
        "volumes": set_up.volumes,
        "snapshots": set_up.snapshots,
        "gigabytes": set_up.gigabytes,
        "per_volume_gigabytes": set_up.per_volume_gigabytes,
        "backups": set_up.backups,
        "backup_gigabytes": set_up.backup_gigabytes,
        "groups": set_up.groups,
    }
    for name in tx.execute(sa.select(volume_type.c.name)).scalars():
        made |= {f"volumes_{name}": -1, f"gigabytes_{name}": -1, f"snapshots_{name}": -1}
    return made


def defaults(tx: Tx, cloud: Cloud) -> dict[str, int]:
    """What a project may have that nothing was said about."""
    return quota.limits(tx, SERVICE, DEFAULT_CLASS, built_in(tx, cloud))


def limits(tx: Tx, cloud: Cloud, project_id: str) -> dict[str, int]:
    return quota.limits(tx, SERVICE, project_id, defaults(tx, cloud))


def usage(tx: Tx, project_id: str) -> dict[str, int]:
    """What a project has, under the names of the limits."""
    used = dict.fromkeys(
        (
            "volumes",
            "snapshots",
            "gigabytes",
            "per_volume_gigabytes",
            "backups",
            "backup_gigabytes",
            "groups",
        ),
        0,
    )
    # A volume that grows counts as large as it will be.
    size = sa.case((volume.c.wanted_size > volume.c.size, volume.c.wanted_size), else_=volume.c.size)
    for word, table, gib in (("volumes", volume, size), ("snapshots", snapshot, snapshot.c.size)):
        query = (
            sa.select(volume_type.c.name, sa.func.count(), sa.func.sum(gib))
            .select_from(table.outerjoin(volume_type, volume_type.c.id == table.c.volume_type_id))
            .where(table.c.project_id == project_id)
            .group_by(volume_type.c.name)
        )
        for name, count, total in tx.execute(query):
            for key, more in ((word, count), ("gigabytes", int(total or 0))):
                used[key] += more
                used[f"{key}_{name}"] = used.get(f"{key}_{name}", 0) + more
    return used


def check(
    tx: Tx, cloud: Cloud, project_id: str, type_name: str, adds: Mapping[str, int], *, size: int
) -> None:
    """Let `adds` through for a volume of `size` GiB. Raises QuotaExceeded."""
    in_force = defaults(tx, cloud)
    most = quota.limits(tx, SERVICE, project_id, in_force)["per_volume_gigabytes"]
    if 0 <= most < size:
        raise QuotaExceeded(f"Requested volume size {size} is larger than maximum allowed limit {most}.")
    both = {key: more for name, more in adds.items() for key in (name, f"{name}_{type_name}")}
    quota.check(tx, SERVICE, project_id, both, defaults=in_force, usage=usage)


def check_retype(tx: Tx, cloud: Cloud, project_id: str, type_name: str, size: int) -> None:
    """Let a volume of `size` GiB that the project has already become one of a type. Raises QuotaExceeded."""
    adds = {f"volumes_{type_name}": 1, f"gigabytes_{type_name}": size}
    quota.check(tx, SERVICE, project_id, adds, defaults=defaults(tx, cloud), usage=usage)


def show(tx: Tx, cloud: Cloud, caller: Caller, project_id: str) -> tuple[dict[str, int], dict[str, int]]:
    """Limits and usage. Raises Forbidden for another project's."""
    caller.may("volume_extension:quotas:show", {"project_id": project_id})
    used = usage(tx, project_id)
    most = limits(tx, cloud, project_id)
    return most, {name: used.get(name, 0) for name in most}


def change(
    tx: Tx, cloud: Cloud, caller: Caller, project_id: str, wanted: Mapping[str, int]
) -> dict[str, int]:
    caller.may("volume_extension:quotas:update", {"project_id": project_id})
    quota.set_limits(tx, SERVICE, project_id, wanted)
    return limits(tx, cloud, project_id)


def forget(tx: Tx, caller: Caller, project_id: str) -> None:
    caller.may("volume_extension:quotas:delete", {"project_id": project_id})
    quota.forget(tx, SERVICE, project_id)


def show_class(tx: Tx, cloud: Cloud, caller: Caller) -> dict[str, int]:
    caller.may("volume_extension:quota_classes:get")
    return defaults(tx, cloud)


def change_class(tx: Tx, cloud: Cloud, caller: Caller, wanted: Mapping[str, int]) -> dict[str, int]:
    caller.may("volume_extension:quota_classes:update")
    quota.set_limits(tx, SERVICE, DEFAULT_CLASS, wanted)
    return defaults(tx, cloud)
