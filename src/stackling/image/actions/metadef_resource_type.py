"""Kinds of resources, and which namespaces are about them."""

from collections.abc import Sequence

import sqlalchemy as sa

from stackling.base import db
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import Conflict, NotFound
from stackling.image.actions.metadef_namespace import changed, get, unprotected
from stackling.image.state.metadef import metadef_association, metadef_resource_type


def listed(tx: Tx, caller: Caller) -> Sequence[Row]:
    """All kinds that are known. Raises Forbidden."""
    caller.may("list_metadef_resource_types")
    return tx.execute(sa.select(metadef_resource_type).order_by(metadef_resource_type.c.name)).all()


def associations(tx: Tx, caller: Caller, namespace: str) -> Sequence[Row]:
    """The kinds that a namespace is about. Raises NotFound, Forbidden."""
    parent = get(tx, caller, namespace, "get_metadef_resource_type")
    mine = sa.select(metadef_association).where(metadef_association.c.namespace_id == parent.id)
    return tx.execute(mine.order_by(metadef_association.c.resource_type)).all()


def prefix(tx: Tx, namespace: Row, resource_type: str) -> str:
    """What the names of the namespace's properties begin with on a kind. Raises NotFound: it is not about that kind."""
    return _row(tx, namespace, resource_type).prefix or ""


def _row(tx: Tx, namespace: Row, resource_type: str) -> Row:
    this = sa.and_(
        metadef_association.c.namespace_id == namespace.id,
        metadef_association.c.resource_type == resource_type,
    )
    row = tx.execute(sa.select(metadef_association).where(this)).first()
    if row is None:
        raise NotFound(
            f"The metadata definition resource-type association of resource-type={resource_type[:80]}"
            f" to namespace={namespace.name} was not found."
        )
    return row


def associate(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    namespace: str,
    resource_type: str,
    *,
    prefix: str | None = None,
    properties_target: str | None = None,
) -> Row:
    """The namespace is about this kind too; a kind nobody knew is known from now on.

    Raises NotFound, Forbidden, Conflict (it is already).
    """
    parent = changed(tx, caller, namespace, "add_metadef_resource_type_association")
    this = sa.and_(
        metadef_association.c.namespace_id == parent.id, metadef_association.c.resource_type == resource_type
    )
    if tx.execute(sa.select(metadef_association.c.resource_type).where(this)).first():
        raise Conflict(
            f"The metadata definition resource-type association of resource-type={resource_type}"
            f" to namespace={namespace} already exists."
        )
    now = cloud.clock.now()
    times = {"created_at": now, "updated_at": now}
    db.upsert(tx, metadef_resource_type, {"name": resource_type, **times}, {}, key=("name",))
    values = {
        "namespace_id": parent.id,
        "resource_type": resource_type,
        "prefix": prefix,
        "properties_target": properties_target,
        **times,
    }
    return tx.execute(sa.insert(metadef_association).values(**values).returning(metadef_association)).one()


def dissociate(tx: Tx, caller: Caller, namespace: str, resource_type: str) -> None:
    """Raises NotFound, Forbidden (also: the namespace is protected)."""
    parent = changed(tx, caller, namespace, "remove_metadef_resource_type_association")
    row = _row(tx, parent, resource_type)
    unprotected(parent)
    this = sa.and_(
        metadef_association.c.namespace_id == row.namespace_id,
        metadef_association.c.resource_type == resource_type,
    )
    tx.execute(sa.delete(metadef_association).where(this))
