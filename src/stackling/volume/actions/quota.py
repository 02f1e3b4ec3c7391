"""How much block storage a project may have: limits, their defaults, and what is used."""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Tx
from stackling.base.errors import QuotaExceeded
from stackling.identity.actions.quota import Projects, Quotas
from stackling.volume.state.snapshot import snapshot
from stackling.volume.state.volume import volume
from stackling.volume.state.volume_type import volume_type


def configured(cloud: Cloud) -> dict[str, int]:
    """The limits of the configuration. Sizes in GiB."""
    options = cloud.config.volume
    return {
        "volumes": options.volumes,
        "snapshots": options.snapshots,
        "gigabytes": options.gigabytes,
        "per_volume_gigabytes": options.per_volume_gigabytes,
        "backups": options.backups,
        "backup_gigabytes": options.backup_gigabytes,
        "groups": options.groups,
    }


def _of_types(tx: Tx) -> dict[str, int]:
    """None for each volume type, until something is said about it."""
    words = ("volumes", "gigabytes", "snapshots")
    names = tx.execute(sa.select(volume_type.c.name)).scalars()
    return {f"{word}_{name}": -1 for name in names for word in words}


def defaults(tx: Tx, cloud: Cloud) -> dict[str, int]:
    """What a project may have that nothing was said about."""
    return _of_types(tx) | QUOTAS.defaults(tx, cloud)


def limits(tx: Tx, cloud: Cloud, project_id: str) -> dict[str, int]:
    return _of_types(tx) | QUOTAS.limits(tx, cloud, project_id)


def usage(tx: Tx, projects: Projects, names: Iterable[str] = ()) -> dict[str, int]:
    """What projects have together, under the names of the limits."""
    used = dict.fromkeys(("volumes", "snapshots", "gigabytes", "backups", "backup_gigabytes"), 0)
    # A volume that grows counts as large as it will be.
    size = sa.case((volume.c.wanted_size > volume.c.size, volume.c.wanted_size), else_=volume.c.size)
    for word, table, gib in (("volumes", volume, size), ("snapshots", snapshot, snapshot.c.size)):
        query = (
            sa.select(volume_type.c.name, sa.func.count(), sa.func.sum(gib))
            .select_from(table.outerjoin(volume_type, volume_type.c.id == table.c.volume_type_id))
            .where(table.c.project_id.in_(projects))
            .group_by(volume_type.c.name)
        )
        for name, count, total in tx.execute(query):
            for key, more in ((word, count), ("gigabytes", int(total or 0))):
                used[key] += more
                used[f"{key}_{name}"] = used.get(f"{key}_{name}", 0) + more
    return used


# Neither volumev3, which is another name of the same service, has limits, nor have they names of Cinder's own upstream.
QUOTAS = Quotas("block-storage", configured, usage)


def check(
    tx: Tx, cloud: Cloud, project_id: str, type_name: str, adds: Mapping[str, int], *, size: int
) -> None:
    """Let `adds` through for a volume of `size` GiB. Raises QuotaExceeded."""
    most = QUOTAS.limits(tx, cloud, project_id)["per_volume_gigabytes"]
    if 0 <= most < size:
        raise QuotaExceeded(f"Requested volume size {size} is larger than maximum allowed limit {most}.")
    both = {key: more for name, more in adds.items() for key in (name, f"{name}_{type_name}")}
    QUOTAS.check(tx, cloud, project_id, both)


def check_retype(tx: Tx, cloud: Cloud, project_id: str, type_name: str, size: int) -> None:
    """Let a volume of `size` GiB that the project has already become one of a type. Raises QuotaExceeded."""
    QUOTAS.check(tx, cloud, project_id, {f"volumes_{type_name}": 1, f"gigabytes_{type_name}": size})


def show(tx: Tx, cloud: Cloud, caller: Caller, project_id: str) -> tuple[dict[str, int], dict[str, int]]:
    """Limits and usage. Raises Forbidden for another project's."""
    caller.may("volume_extension:quotas:show", {"project_id": project_id})
    used = usage(tx, [project_id])
    most = limits(tx, cloud, project_id)
    return most, {name: used.get(name, 0) for name in most}


def change(
    tx: Tx, cloud: Cloud, caller: Caller, project_id: str, wanted: Mapping[str, int]
) -> dict[str, int]:
    caller.may("volume_extension:quotas:update", {"project_id": project_id})
    QUOTAS.set_limits(tx, cloud, project_id, wanted)
    return limits(tx, cloud, project_id)


def forget(tx: Tx, cloud: Cloud, caller: Caller, project_id: str) -> None:
    caller.may("volume_extension:quotas:delete", {"project_id": project_id})
    QUOTAS.forget(tx, cloud, project_id)


def show_class(tx: Tx, cloud: Cloud, caller: Caller) -> dict[str, int]:
    caller.may("volume_extension:quota_classes:get")
    return defaults(tx, cloud)


def change_class(tx: Tx, cloud: Cloud, caller: Caller, wanted: Mapping[str, int]) -> dict[str, int]:
    caller.may("volume_extension:quota_classes:update")
    QUOTAS.set_defaults(tx, cloud, wanted)
    return defaults(tx, cloud)
