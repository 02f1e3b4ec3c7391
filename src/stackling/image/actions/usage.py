"""What a project's images take, and how much they may."""

from collections.abc import Iterable

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.identity.actions.quota import Projects, Quotas
from stackling.image.state.image import State, image, image_location


def configured(cloud: Cloud) -> dict[str, int]:
    """The limits of the configuration. Sizes in MiB."""
    options = cloud.config.image
    return {
        "image_size_total": options.size_total_mib,
        "image_stage_total": options.stage_total_mib,
        "image_count_total": options.count_total,
        "image_count_uploading": options.count_uploading,
    }


def of(tx: Tx, projects: Projects, names: Iterable[str] = ()) -> dict[str, int]:
    """Images and MiB of projects together, under the names of the limits. Each store's copy of an image counts."""
    arriving = image.c.state.in_((State.SAVING, State.UPLOADING, State.IMPORTING))
    copies = (
        sa.select(sa.func.count())
        .where(image_location.c.image_id == image.c.id, image_location.c.url.is_(None))
        .scalar_subquery()
    )
    query = sa.select(
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(sa.case((arriving, 0), else_=image.c.size * copies)), 0),
        sa.func.coalesce(sa.func.sum(sa.case((arriving, image.c.size), else_=0)), 0),
        sa.func.coalesce(sa.func.sum(sa.case((arriving, 1), else_=0)), 0),
    ).where(image.c.project_id.in_(projects))
    count, size, staged, uploading = tx.execute(query).one()
    return {
        "image_size_total": (int(size) + (1 << 20) - 1) >> 20,
        "image_stage_total": (int(staged) + (1 << 20) - 1) >> 20,
        "image_count_total": count,
        "image_count_uploading": int(uploading),
    }


QUOTAS = Quotas("image", configured, of)


def mib(size: int) -> int:
    """Bytes as whole MiB, rounded up."""
    return -(-size >> 20)
