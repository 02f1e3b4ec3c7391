"""Quotas of the network service, by project."""

from collections.abc import Mapping

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Tx
from stackling.network.actions import standard
from stackling.network.errors import InvalidInput


def limits(tx: Tx, cloud: Cloud, caller: Caller, project_id: str) -> dict[str, int]:
    """Raises Forbidden."""
    caller.may("get_quota", standard.target(project_id))
    return standard.QUOTAS.limits(tx, cloud, project_id)


def defaults(tx: Tx, cloud: Cloud, caller: Caller, project_id: str) -> dict[str, int]:
    """Raises Forbidden."""
    caller.may("get_quota", standard.target(project_id))
    return standard.QUOTAS.defaults(tx, cloud)


def details(tx: Tx, cloud: Cloud, caller: Caller, project_id: str) -> dict[str, dict[str, int]]:
    """Limit, use and reservations of each resource. Raises Forbidden."""
    most = limits(tx, cloud, caller, project_id)
    used = standard.usage(tx, [project_id])
    return {name: {"limit": most[name], "used": used[name], "reserved": 0} for name in standard.COUNTED}


def own(tx: Tx, cloud: Cloud, caller: Caller) -> dict[str, dict[str, int]]:
    """Of every project that has limits of its own. Raises Forbidden."""
    caller.may("get_quota", standard.target(None))
    return {p: standard.QUOTAS.limits(tx, cloud, p) for p in standard.QUOTAS.owners(tx, cloud)}


def update(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    project_id: str,
    wanted: Mapping[str, int],
    *,
    check_limit: bool = False,
) -> dict[str, int]:
    """Raises Forbidden; InvalidInput for a limit below what is used, with `check_limit`."""
    caller.may("update_quota", standard.target(project_id))
    if check_limit:
        used = standard.usage(tx, [project_id], wanted)
        under = [n for n, most in wanted.items() if 0 <= most < used[n]]
        if under:
            raise InvalidInput(
                f"Invalid input for operation: the limit of {', '.join(under)} is below what the project uses."
            )
    standard.QUOTAS.set_limits(tx, cloud, project_id, wanted)
    return standard.QUOTAS.limits(tx, cloud, project_id)


def reset(tx: Tx, cloud: Cloud, caller: Caller, project_id: str) -> None:
    """Back to the defaults. Raises Forbidden."""
    caller.may("delete_quota", standard.target(project_id))
    standard.QUOTAS.forget(tx, cloud, project_id)
