"""`/v2.0/rbac-policies`"""

from collections.abc import Sequence
from typing import Any

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.network.actions import rbac
from stackling.network.actions.rbac import NewPolicy, PolicyChanges
from stackling.network.api.resource import Kind
from stackling.network.state.rbac import rbac_policy

_SHOWN = ("id", "project_id", "object_type", "object_id", "action")


def view(tx: Tx, cloud: Cloud, caller: Caller, rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            **{n: getattr(r, n) for n in _SHOWN},
            "tenant_id": r.project_id,
            "target_tenant": r.target_project,
            "target_project_id": r.target_project,
        }
        for r in rows
    ]


KIND = Kind(
    singular="rbac_policy",
    plural="rbac_policies",
    paths=("rbac-policies", "rbac_policies"),
    noun="RBAC policy",
    table=rbac_policy,
    new=NewPolicy,
    changes=PolicyChanges,
    wire={"target_tenant": "target_project", "target_project_id": "target_project"},
    attributes=frozenset({*_SHOWN, "tenant_id", "target_tenant", "target_project_id"}),
    find=rbac.find,
    create=rbac.create,
    update=rbac.update,
    remove=rbac.remove,
    visible=rbac.visible,
    view=view,
)
