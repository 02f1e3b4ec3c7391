"""Volume types: what kinds of volumes there are, and who may use them."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, NotFound
from stackling.base.listing import Sort, page
from stackling.base.statement import Statement, among
from stackling.volume.state.volume import volume
from stackling.volume.state.volume_type import volume_type, volume_type_access, volume_type_spec

# Extra specs that say nothing about the cloud's inside are shown to everybody (as upstream does).
PUBLIC_SPECS = ("RESKEY:availability_zones", "multiattach", "replication_enabled", "cacheable")


def _visible(caller: Caller) -> sa.ColumnElement[bool]:
    if caller.is_admin:
        return sa.true()
    mine = sa.select(volume_type_access.c.volume_type_id).where(
        volume_type_access.c.project_id == caller.project_id
    )
    return sa.or_(volume_type.c.is_public, volume_type.c.id.in_(mine))


def get(tx: Tx, caller: Caller, id: str) -> Row:
    """Raises NotFound, also for private types of others."""
    caller.may("volume_extension:type_get")
    return find(tx, caller, id)


def find(tx: Tx, caller: Caller, id: str) -> Row:
    row = tx.execute(sa.select(volume_type).where(volume_type.c.id == id, _visible(caller))).first()
    if row is None:
        raise NotFound(f"Volume type {id[:64]} could not be found.")
    return row


def named(tx: Tx, caller: Caller, id_or_name: str) -> Row:
    """A type by id or name. Raises NotFound."""
    this = sa.or_(volume_type.c.id == id_or_name, volume_type.c.name == id_or_name)
    row = tx.execute(sa.select(volume_type).where(this, _visible(caller))).first()
    if row is None:
        raise NotFound(f"Volume type with name {id_or_name[:64]} could not be found.")
    return row


def default(tx: Tx, cloud: Cloud) -> Row:
    """The type of volumes that name none. Raises NotFound when it was deleted."""
    name = cloud.config.volume.default_type
    row = tx.execute(sa.select(volume_type).where(volume_type.c.name == name)).first()
    if row is None:
        raise NotFound(f"The default volume type {name} does not exist; create it or name a type.")
    return row


def listed(
    tx: Tx,
    caller: Caller,
    *,
    is_public: bool | None,
    sort: Sort,
    name: str | None = None,
    specs: Mapping[str, str] | None = None,
    limit: int | None = None,
    marker: str | None = None,
) -> list[Row]:
    """`is_public` None: public and private ones (all of them for an administrator)."""
    caller.may("volume_extension:type_get_all")
    query = sa.select(volume_type).where(_visible(caller))
    if not caller.is_admin:
        is_public = None
    if is_public is not None:
        query = query.where(volume_type.c.is_public == is_public)
    if name is not None:
        query = query.where(volume_type.c.name == name)
    for key, value in (specs or {}).items():
        this = sa.and_(volume_type_spec.c.key == key, volume_type_spec.c.value == value)
        query = query.where(volume_type.c.id.in_(sa.select(volume_type_spec.c.volume_type_id).where(this)))
    return page(tx, query, sort, limit=limit, after=find(tx, caller, marker) if marker else None)


def specs_of(tx: Tx, type_ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """The extra specs of many types, by type id."""
    made: dict[str, dict[str, str]] = {}
    query = sa.select(volume_type_spec).where(volume_type_spec.c.volume_type_id.in_(list(type_ids)))
    for row in tx.execute(query.order_by(volume_type_spec.c.key)):
        made.setdefault(row.volume_type_id, {})[row.key] = row.value
    return made


def shown_specs(caller: Caller, specs: Mapping[str, str]) -> dict[str, str] | None:
    """The extra specs that the caller may see; None when it may see none at all."""
    if not caller.can("volume_extension:access_types_extra_specs"):
        return None
    if caller.can("volume_extension:types_extra_specs:read_sensitive"):
        return dict(specs)
    return {k: v for k, v in specs.items() if k in PUBLIC_SPECS}


def names(tx: Tx, type_ids: Iterable[str]) -> dict[str, str]:
    """The names of types, by id."""
    return {r.id: r.name for r in _NAMES.all(tx, ids=list(set(type_ids)))}


_NAMES = Statement(sa.select(volume_type.c.id, volume_type.c.name).where(among(volume_type.c.id, "ids")))


def create(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    *,
    name: str,
    description: str | None,
    is_public: bool,
    specs: Mapping[str, str],
) -> Row:
    """Raises Conflict when the name is taken."""
    caller.may("volume_extension:type_create")
    _free(tx, name)
    values = {
        "id": ids.uuid4(),
        "name": name,
        "description": description,
        "is_public": is_public,
        "created_at": cloud.clock.now(),
    }
    row = tx.execute(sa.insert(volume_type).values(**values).returning(volume_type)).one()
    _write_specs(tx, row.id, specs)
    return row


def _free(tx: Tx, name: str, besides: str = "") -> None:
    taken = sa.select(volume_type.c.id).where(volume_type.c.name == name, volume_type.c.id != besides)
    if tx.execute(taken).first():
        raise Conflict(f"Volume Type {name} already exists.")


def update(tx: Tx, cloud: Cloud, caller: Caller, id: str, columns: Mapping[str, Any]) -> Row:
    caller.may("volume_extension:type_update")
    find(tx, caller, id)
    if "name" in columns:
        _free(tx, columns["name"], id)
    values = {**columns, "updated_at": cloud.clock.now()}
    return tx.execute(
        sa.update(volume_type).where(volume_type.c.id == id).values(**values).returning(volume_type)
    ).one()


def delete(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> None:
    """Raises BadRequest while volumes have the type, or when it is the default one."""
    caller.may("volume_extension:type_delete")
    row = find(tx, caller, id)
    if tx.execute(sa.select(volume.c.id).where(volume.c.volume_type_id == id).limit(1)).first():
        raise BadRequest("Target volume type is still in use.")
    if row.name == cloud.config.volume.default_type:
        raise BadRequest(f"Volume type {row.name} is the default one, which must stay.")
    for table in (volume_type_spec, volume_type_access):
        tx.execute(sa.delete(table).where(table.c.volume_type_id == id))
    tx.execute(sa.delete(volume_type).where(volume_type.c.id == id))


# -- extra specs -------------------------------------------------------------------------------------------------------


def specs(tx: Tx, caller: Caller, id: str) -> dict[str, str]:
    caller.may("volume_extension:types_extra_specs:index")
    find(tx, caller, id)
    return shown_specs(caller, specs_of(tx, [id]).get(id, {})) or {}


def set_specs(tx: Tx, caller: Caller, id: str, wanted: Mapping[str, str], rule: str = "create") -> None:
    caller.may(f"volume_extension:types_extra_specs:{rule}")
    find(tx, caller, id)
    _write_specs(tx, id, wanted)


def _write_specs(tx: Tx, id: str, wanted: Mapping[str, str]) -> None:
    for key, value in wanted.items():
        tx.execute(
            sa.delete(volume_type_spec).where(
                volume_type_spec.c.volume_type_id == id, volume_type_spec.c.key == key
            )
        )
        tx.execute(sa.insert(volume_type_spec).values(volume_type_id=id, key=key, value=value))


def remove_spec(tx: Tx, caller: Caller, id: str, key: str) -> None:
    caller.may("volume_extension:types_extra_specs:delete")
    find(tx, caller, id)
    this = sa.and_(volume_type_spec.c.volume_type_id == id, volume_type_spec.c.key == key)
    if not tx.execute(sa.delete(volume_type_spec).where(this)).rowcount:
        raise NotFound(f"Volume Type {id} has no extra specs with key {key[:64]}.")


# -- access to private types -------------------------------------------------------------------------------------------


def access(tx: Tx, caller: Caller, id: str) -> list[str]:
    """The projects that may use a private type. Raises NotFound for a public one."""
    caller.may("volume_extension:volume_type_access:get_all_for_type")
    if find(tx, caller, id).is_public:
        raise NotFound("Access list not available for public volume types.")
    query = sa.select(volume_type_access.c.project_id).where(volume_type_access.c.volume_type_id == id)
    return list(tx.execute(query.order_by(volume_type_access.c.project_id)).scalars())


def add_access(tx: Tx, caller: Caller, id: str, project_id: str) -> None:
    caller.may("volume_extension:volume_type_access:addProjectAccess")
    if find(tx, caller, id).is_public:
        raise Conflict("Type access modification is not applicable to public volume type.")
    this = sa.and_(volume_type_access.c.volume_type_id == id, volume_type_access.c.project_id == project_id)
    if tx.execute(sa.select(volume_type_access.c.project_id).where(this)).first():
        raise Conflict(f"Volume type access for {id} / {project_id} combination already exists.")
    tx.execute(sa.insert(volume_type_access).values(volume_type_id=id, project_id=project_id))


def remove_access(tx: Tx, caller: Caller, id: str, project_id: str) -> None:
    caller.may("volume_extension:volume_type_access:removeProjectAccess")
    find(tx, caller, id)
    this = sa.and_(volume_type_access.c.volume_type_id == id, volume_type_access.c.project_id == project_id)
    if not tx.execute(sa.delete(volume_type_access).where(this)).rowcount:
        raise NotFound(f"Volume type access not found for {id} / {project_id} combination.")
