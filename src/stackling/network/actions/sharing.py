"""Keeps what is shared with everybody in step: the column of the object, and the row among the RBAC policies."""

from collections.abc import Mapping

import sqlalchemy as sa

from stackling.base import db, ids
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.network.state.rbac import EXTERNAL, SHARED, rbac_policy

EVERYBODY = "*"
COLUMNS = {SHARED: "shared", EXTERNAL: "external"}


def follow(tx: Tx, cloud: Cloud, object_type: str, row: Row, columns: Mapping[str, bool]) -> None:
    """The object's columns were set: have the policies say the same."""
    for action, name in COLUMNS.items():
        if name not in columns:
            continue
        if columns[name]:
            values = {
                "id": ids.uuid4(),
                "project_id": row.project_id,
                "created_at": cloud.clock.now(),
                "object_type": object_type,
                "object_id": row.id,
                "action": action,
                "target_project": EVERYBODY,
            }
            db.upsert(tx, rbac_policy, values, {}, key=("object_id", "action", "target_project"))
        else:
            tx.execute(_UNSHARE, {"object_id": row.id, "action": action})


_UNSHARE = sa.delete(rbac_policy).where(
    rbac_policy.c.object_id == sa.bindparam("object_id"),
    rbac_policy.c.action == sa.bindparam("action"),
    rbac_policy.c.target_project == EVERYBODY,
)


def forget(tx: Tx, object_id: str) -> None:
    """The object is gone."""
    tx.execute(sa.delete(rbac_policy).where(rbac_policy.c.object_id == object_id))
