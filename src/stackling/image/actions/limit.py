"""How much a project's images may take."""

from stackling.base import quota
from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.image.actions import usage

SERVICE = "image"


def defaults(cloud: Cloud) -> dict[str, int]:
    """The limits of projects that have none of their own, under the names of upstream's registered limits."""
    config = cloud.config.image
    return {
        "image_count_total": config.image_count_total,
        "image_size_total": config.image_size_total,
        "image_stage_total": config.image_stage_total,
        "image_count_uploading": config.image_count_uploading,
    }


def check(tx: Tx, cloud: Cloud, project_id: str, **adds: int) -> None:
    """Let `adds` more of each through: images, or MiB. Raises QuotaExceeded."""
    quota.check(tx, SERVICE, project_id, adds, defaults=defaults(cloud), usage=usage.of)


def of(tx: Tx, cloud: Cloud, project_id: str) -> dict[str, int]:
    """The limits in force for a project."""
    return quota.limits(tx, SERVICE, project_id, defaults(cloud))


def mib(size: int) -> int:
    """Bytes as whole MiB, rounded up."""
    return -(-size >> 20)
