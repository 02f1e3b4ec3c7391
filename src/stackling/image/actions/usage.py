"""What a project's images take."""

import sqlalchemy as sa

from stackling.base.db import Tx
from stackling.image.state.image import State, image, image_location


def of(tx: Tx, project_id: str) -> dict[str, int]:
    """Images and MiB of a project under the names of upstream's limits. Each store's copy of an image counts."""
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
    ).where(image.c.project_id == project_id)
    count, size, staged, uploading = tx.execute(query).one()
    return {
        "image_size_total": (int(size) + (1 << 20) - 1) >> 20,
        "image_stage_total": (int(staged) + (1 << 20) - 1) >> 20,
        "image_count_total": count,
        "image_count_uploading": int(uploading),
    }
