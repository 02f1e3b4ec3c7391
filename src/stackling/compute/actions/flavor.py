"""Flavors: sizes of servers, made by admins."""

import re
from collections.abc import Mapping

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, NotFound
from stackling.compute.state.flavor import flavor, flavor_access

SPEC_NAME = re.compile(r"[a-zA-Z0-9\-_:. ]{1,255}")


class NewFlavor(Struct, kw_only=True):
    """Memory and swap in MiB, disks in GiB."""

    name: str
    vcpus: int
    ram_mib: int
    disk_gib: int = 0
    ephemeral_gib: int = 0
    swap_mib: int = 0
    rxtx_factor: float = 1.0
    is_public: bool = True
    id: str | None = None
    description: str | None = None


def visible(caller: Caller) -> sa.ColumnElement[bool]:
    """The flavors that a caller may use: public ones, and private ones given to its project."""
    mine = sa.select(flavor_access.c.flavor_id).where(flavor_access.c.project_id == caller.project_id)
    return sa.or_(flavor.c.is_public.is_(True), flavor.c.id.in_(mine))


def get(tx: Tx, caller: Caller, id: str) -> Row:
    """Admins see private ones too. Raises NotFound."""
    query = sa.select(flavor).where(flavor.c.id == id)
    if not caller.is_admin:
        query = query.where(visible(caller))
    found = tx.execute(query).first()
    if found is None:
        raise NotFound(f"Flavor {id[:255]} could not be found.")
    return found


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewFlavor) -> Row:
    """Raises Conflict when the name or id is taken."""
    caller.may("os_compute_api:os-flavor-manage:create")
    made = {name: getattr(want, name) for name in want.__struct_fields__}
    made["id"] = want.id if want.id not in (None, "auto") else ids.uuid4()
    for name in ("name", "id"):
        if tx.execute(sa.select(flavor.c.id).where(flavor.c[name] == made[name])).first():
            raise Conflict(f"Flavor with {'ID' if name == 'id' else 'name'} {made[name]} already exists.")
    values = {**made, "extra_specs": {}, "created_at": cloud.clock.now()}
    return tx.execute(sa.insert(flavor).values(**values).returning(flavor)).one()


def update(tx: Tx, cloud: Cloud, caller: Caller, id: str, description: str | None) -> Row:
    caller.may("os_compute_api:os-flavor-manage:update")
    row = get(tx, caller, id)
    values = {"description": description, "updated_at": cloud.clock.now()}
    return tx.execute(sa.update(flavor).where(flavor.c.id == row.id).values(**values).returning(flavor)).one()


def delete(tx: Tx, caller: Caller, id: str) -> None:
    """Servers keep the copy that they were made with."""
    caller.may("os_compute_api:os-flavor-manage:delete")
    row = get(tx, caller, id)
    tx.execute(sa.delete(flavor_access).where(flavor_access.c.flavor_id == row.id))
    tx.execute(sa.delete(flavor).where(flavor.c.id == row.id))


def accesses(tx: Tx, caller: Caller, id: str) -> list[str]:
    """The projects that may use a private flavor. Raises NotFound, also for a public one."""
    caller.may("os_compute_api:os-flavor-access")
    row = get(tx, caller, id)
    if row.is_public:
        raise NotFound("Access list not available for public flavors.")
    query = sa.select(flavor_access.c.project_id).where(flavor_access.c.flavor_id == row.id)
    return sorted(tx.execute(query).scalars())


def add_access(tx: Tx, caller: Caller, id: str, project_id: str, *, refuse_public: bool) -> list[str]:
    """Raises Conflict when the project has it already, and for a public flavor with `refuse_public` (2.7)."""
    caller.may("os_compute_api:os-flavor-access:add_tenant_access")
    row = get(tx, caller, id)
    if refuse_public and row.is_public:
        raise Conflict("Can not add access to a public flavor.")
    this = sa.and_(flavor_access.c.flavor_id == row.id, flavor_access.c.project_id == project_id)
    if tx.execute(sa.select(flavor_access).where(this)).first():
        raise Conflict(
            f"Flavor access already exists for flavor {row.id} and project {project_id} combination."
        )
    tx.execute(sa.insert(flavor_access).values(flavor_id=row.id, project_id=project_id))
    query = sa.select(flavor_access.c.project_id).where(flavor_access.c.flavor_id == row.id)
    return sorted(tx.execute(query).scalars())


def remove_access(tx: Tx, caller: Caller, id: str, project_id: str) -> list[str]:
    """Raises NotFound when the project does not have it."""
    caller.may("os_compute_api:os-flavor-access:remove_tenant_access")
    row = get(tx, caller, id)
    this = sa.and_(flavor_access.c.flavor_id == row.id, flavor_access.c.project_id == project_id)
    if not tx.execute(sa.delete(flavor_access).where(this)).rowcount:
        raise NotFound(f"Flavor access not found for {row.id} / {project_id} combination.")
    query = sa.select(flavor_access.c.project_id).where(flavor_access.c.flavor_id == row.id)
    return sorted(tx.execute(query).scalars())


def set_specs(tx: Tx, caller: Caller, id: str, specs: Mapping[str, str], rule: str) -> dict[str, str]:
    """Add to the extra specs, or change them."""
    caller.may(rule)
    row = get(tx, caller, id)
    for name in specs:
        if not SPEC_NAME.fullmatch(name):
            raise BadRequest(
                f"Invalid input for field/attribute extra_specs. Value: {name[:64]!r} has characters other than letters, digits, '-', '_', ':', '.' and space"
            )
    merged = {**row.extra_specs, **specs}
    tx.execute(sa.update(flavor).where(flavor.c.id == row.id).values(extra_specs=merged))
    return merged


def delete_spec(tx: Tx, caller: Caller, id: str, name: str) -> None:
    caller.may("os_compute_api:os-flavor-extra-specs:delete")
    row = get(tx, caller, id)
    if name not in row.extra_specs:
        raise NotFound(f"Flavor {row.id} has no extra specs with key {name}.")
    left = {k: v for k, v in row.extra_specs.items() if k != name}
    tx.execute(sa.update(flavor).where(flavor.c.id == row.id).values(extra_specs=left))
