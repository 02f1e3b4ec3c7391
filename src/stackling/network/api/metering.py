"""`/v2.0/metering/metering-labels`, `/v2.0/metering/metering-label-rules`"""

from collections.abc import Sequence
from typing import Any

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.network.actions import metering
from stackling.network.actions.metering import NewLabel, NewLabelRule
from stackling.network.api.resource import Kind
from stackling.network.state.metering import metering_label, metering_label_rule

_LABEL = ("id", "name", "description", "project_id", "shared")
_RULE = (
    "id", "project_id", "metering_label_id", "direction", "remote_ip_prefix", "source_ip_prefix", "destination_ip_prefix", "excluded",
)  # fmt: skip


def view(tx: Tx, cloud: Cloud, caller: Caller, rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [{**{n: getattr(r, n) for n in _LABEL}, "tenant_id": r.project_id} for r in rows]


def rule_view(tx: Tx, cloud: Cloud, caller: Caller, rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [{**{n: getattr(r, n) for n in _RULE}, "tenant_id": r.project_id} for r in rows]


LABELS = Kind(
    singular="metering_label",
    plural="metering_labels",
    paths=("metering/metering-labels",),
    noun="Metering label",
    table=metering_label,
    new=NewLabel,
    changes=None,
    attributes=frozenset({*_LABEL, "tenant_id"}),
    find=metering.find,
    create=metering.create,
    update=None,
    remove=metering.remove,
    visible=metering.visible,
    view=view,
)

RULES = Kind(
    singular="metering_label_rule",
    plural="metering_label_rules",
    paths=("metering/metering-label-rules",),
    noun="Metering label rule",
    table=metering_label_rule,
    new=NewLabelRule,
    changes=None,
    attributes=frozenset({*_RULE, "tenant_id"}),
    find=metering.find_rule,
    create=metering.create_rule,
    update=None,
    remove=metering.remove_rule,
    visible=metering.visible_rules,
    view=rule_view,
)
