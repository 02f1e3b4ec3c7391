"""Metering labels and rules. They are kept here; who counts traffic reads them."""

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.network.actions import address, standard
from stackling.network.actions.standard import New
from stackling.network.errors import (
    InvalidInput,
    MeteringLabelNotFound,
    MeteringLabelRuleNotFound,
    MeteringLabelRuleOverlaps,
)
from stackling.network.state.metering import metering_label, metering_label_rule


class NewLabel(New, kw_only=True):
    shared: bool = False


class NewLabelRule(New, kw_only=True):
    metering_label_id: str
    direction: str = "ingress"
    remote_ip_prefix: str | None = None
    source_ip_prefix: str | None = None
    destination_ip_prefix: str | None = None
    excluded: bool = False


def find(tx: Tx, caller: Caller, id: str, verb: str = "get") -> Row:
    """Raises MeteringLabelNotFound, Forbidden."""
    row = tx.execute(sa.select(metering_label).where(metering_label.c.id == id)).first()
    missing = MeteringLabelNotFound(f"Metering label {id} does not exist")
    if row is None:
        raise missing
    standard.guard(caller, verb, "metering_label", standard.target(row.project_id), missing)
    return row


def visible(caller: Caller) -> ColumnElement[bool] | None:
    if standard.sees_all(caller, "metering_label"):
        return None
    return sa.or_(metering_label.c.project_id == caller.project_id, metering_label.c.shared)


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewLabel) -> Row:
    """Raises Forbidden."""
    project_id = standard.owner(caller, want)
    caller.may("create_metering_label", standard.target(project_id))
    return standard.insert(
        tx, metering_label, standard.fresh(cloud, project_id, want) | {"shared": want.shared}
    )


def remove(tx: Tx, cloud: Cloud, caller: Caller, id: str, *, revision: int | None = None) -> None:
    """Raises MeteringLabelNotFound, Forbidden."""
    standard.check_revision(find(tx, caller, id, "delete"), revision)
    tx.execute(sa.delete(metering_label).where(metering_label.c.id == id))


def find_rule(tx: Tx, caller: Caller, id: str, verb: str = "get") -> Row:
    """Raises MeteringLabelRuleNotFound, Forbidden."""
    row = tx.execute(sa.select(metering_label_rule).where(metering_label_rule.c.id == id)).first()
    missing = MeteringLabelRuleNotFound(f"Metering label rule {id} does not exist")
    if row is None:
        raise missing
    standard.guard(caller, verb, "metering_label_rule", standard.target(row.project_id), missing)
    return row


def visible_rules(caller: Caller) -> ColumnElement[bool] | None:
    if standard.sees_all(caller, "metering_label_rule"):
        return None
    return metering_label_rule.c.project_id == caller.project_id


def create_rule(tx: Tx, cloud: Cloud, caller: Caller, want: NewLabelRule) -> Row:
    """Raises MeteringLabelNotFound, Forbidden, InvalidInput, MeteringLabelRuleOverlaps."""
    label = find(tx, caller, want.metering_label_id)
    caller.may("create_metering_label_rule", standard.target(label.project_id))
    if want.direction not in ("ingress", "egress"):
        raise InvalidInput(
            f"Invalid input for direction. Reason: '{want.direction[:32]}' is not in ['ingress', 'egress']."
        )
    prefixes = {
        name: str(address.prefix(text, name)) if (text := getattr(want, name)) is not None else None
        for name in ("remote_ip_prefix", "source_ip_prefix", "destination_ip_prefix")
    }
    if not any(prefixes.values()):
        raise InvalidInput("Invalid input for remote_ip_prefix. Reason: a rule needs a prefix.")
    if prefixes["remote_ip_prefix"]:
        net = address.prefix(prefixes["remote_ip_prefix"], "remote_ip_prefix")
        same = sa.select(metering_label_rule.c.remote_ip_prefix).where(
            metering_label_rule.c.metering_label_id == label.id,
            metering_label_rule.c.direction == want.direction,
            metering_label_rule.c.excluded == want.excluded,
            metering_label_rule.c.remote_ip_prefix.isnot(None),
        )
        for other in tx.execute(same).scalars():
            if net.overlaps(address.prefix(other, "remote_ip_prefix")):
                raise MeteringLabelRuleOverlaps(
                    f"Metering label rule with remote_ip_prefix '{net}' overlaps another."
                )
    values = {
        "metering_label_id": label.id,
        "direction": want.direction,
        "excluded": want.excluded,
        **prefixes,
    }
    return standard.insert(tx, metering_label_rule, standard.fresh(cloud, label.project_id, want) | values)


def remove_rule(tx: Tx, cloud: Cloud, caller: Caller, id: str, *, revision: int | None = None) -> None:
    """Raises MeteringLabelRuleNotFound, Forbidden."""
    standard.check_revision(find_rule(tx, caller, id, "delete"), revision)
    tx.execute(sa.delete(metering_label_rule).where(metering_label_rule.c.id == id))
