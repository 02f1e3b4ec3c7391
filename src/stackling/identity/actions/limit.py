"""Unified limits: registered defaults, and a project's or domain's own, in the model that the configuration names.

- `flat`: a project has its own limit or the registered one, whatever others have.
- `strict_two_level`: besides, a domain's limit is the most that all of its projects may have together, so none of
  them may be given more than that. There are domains and projects right below them, nothing deeper.

`actions.quota` is how the services use them.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.config import ConfigError
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden, NotFound
from stackling.identity.actions import named
from stackling.identity.actions.permission import can, may
from stackling.identity.state import project as projects
from stackling.identity.state.catalog import region, service
from stackling.identity.state.limit import limit, registered_limit

TWO_LEVEL = "strict_two_level"
_DEEPEST = {TWO_LEVEL: 2}  # the domain counts


def deepest(cloud: Cloud) -> int | None:
    """How many levels a tree of projects may have in the model in force, domains counted; None: as many as otherwise."""
    return _DEEPEST.get(cloud.config.identity.limit_model)


def check_trees(tx: Tx, cloud: Cloud) -> None:
    """Raise ConfigError when projects lie deeper than the model allows."""
    if deepest(cloud) is None:
        return
    table = projects.project.c
    deeper = sa.select(table.id).where(table.parent_id != table.domain_id).limit(1)
    found = tx.execute(deeper).scalar()
    if found is not None:
        raise ConfigError(
            f"identity.limit_model = '{TWO_LEVEL}' allows projects right below their domain only; project {found} is "
            "below another project. Delete it or use the model 'flat'."
        )


def domain_of_tree(cloud: Cloud, domain_id: str | None) -> str | None:
    """`domain_id` where the model counts what all projects of the domain have together, else None."""
    return domain_id if cloud.config.identity.limit_model == TWO_LEVEL else None


class NewRegistered(msgspec.Struct, kw_only=True):
    service_id: str
    resource_name: str
    default_limit: int
    region_id: str | None = None
    description: str | None = None


class NewLimit(msgspec.Struct, kw_only=True):
    service_id: str
    resource_name: str
    resource_limit: int
    region_id: str | None = None
    project_id: str | None = None
    domain_id: str | None = None
    description: str | None = None


def _check(tx: Tx, service_id: str | None, region_id: str | None) -> None:
    if (
        service_id is not None
        and tx.execute(sa.select(service.c.id).where(service.c.id == service_id)).first() is None
    ):
        raise BadRequest("Expecting to find valid service_id in limit: there is no such service.")
    if (
        region_id is not None
        and tx.execute(sa.select(region.c.id).where(region.c.id == region_id)).first() is None
    ):
        raise BadRequest("Expecting to find valid region_id in limit: there is no such region.")


def _same(service_id: str, region_id: str | None, name: str) -> sa.Select[Any]:
    table = registered_limit.c
    place = table.region_id == region_id if region_id else table.region_id.is_(None)
    return sa.select(registered_limit).where(
        table.service_id == service_id, table.resource_name == name, place
    )


# -- registered limits -------------------------------------------------------------------------------------------------


def register(tx: Tx, caller: Caller, wants: list[NewRegistered]) -> list[Row]:
    """All or none. Raises Conflict when one is registered already."""
    may(caller, "create_registered_limits")
    made = []
    for want in wants:
        _check(tx, want.service_id, want.region_id)
        named.free(
            tx,
            _same(want.service_id, want.region_id, want.resource_name),
            "Conflict occurred attempting to store registered_limit - Duplicate entry.",
        )
        values = {"id": ids.hex32(), **msgspec.structs.asdict(want)}
        made.append(tx.execute(registered_limit.insert().values(**values).returning(registered_limit)).one())
    return made


def registered(tx: Tx, caller: Caller, id: str, rule: str = "get_registered_limit") -> Row:
    may(caller, rule)
    row = tx.execute(sa.select(registered_limit).where(registered_limit.c.id == id)).one_or_none()
    if row is None:
        raise NotFound(f"Could not find registered limit for {id[:64]}.")
    return row


def registered_listing(caller: Caller) -> sa.Select[Any]:
    may(caller, "list_registered_limits")
    return sa.select(registered_limit)


def _used(tx: Tx, id: str) -> None:
    if (
        tx.execute(sa.select(limit.c.id).where(limit.c.registered_limit_id == id).limit(1)).first()
        is not None
    ):
        raise Forbidden(
            f"Unable to update or delete registered limit {id} because there are project limits associated with it."
        )


def update_registered(tx: Tx, caller: Caller, id: str, change: dict[str, Any]) -> Row:
    row = registered(tx, caller, id, "update_registered_limit")
    key = {k: change.get(k, getattr(row, k)) for k in ("service_id", "region_id", "resource_name")}
    if any(getattr(row, k) != v for k, v in key.items()):
        _used(tx, id)
        _check(tx, key["service_id"], key["region_id"])
        taken = _same(key["service_id"], key["region_id"], key["resource_name"]).where(
            registered_limit.c.id != id
        )
        named.free(tx, taken, "Conflict occurred attempting to store registered_limit - Duplicate entry.")
    if change:
        tx.execute(sa.update(registered_limit).where(registered_limit.c.id == id).values(**change))
    return tx.execute(sa.select(registered_limit).where(registered_limit.c.id == id)).one()


def unregister(tx: Tx, caller: Caller, id: str) -> None:
    registered(tx, caller, id, "delete_registered_limit")
    _used(tx, id)
    tx.execute(sa.delete(registered_limit).where(registered_limit.c.id == id))


# -- limits ------------------------------------------------------------------------------------------------------------

_LIMITS = sa.select(
    limit,
    registered_limit.c.service_id,
    registered_limit.c.region_id,
    registered_limit.c.resource_name,
).join(registered_limit, registered_limit.c.id == limit.c.registered_limit_id)


def fits(
    tx: Tx, cloud: Cloud, registered: Row, owner: Row, value: int, given: Mapping[str, int] | None = None
) -> None:
    """Raise Forbidden when a limit of `value` for `owner` (project or domain) breaks a rule of the model.

    `given` are limits of domains, by id, that the same request sets; they count instead of what there is.
    """
    if domain_of_tree(cloud, owner.domain_id or owner.id) is None:
        return
    table = limit.c
    same = table.registered_limit_id == registered.id
    if owner.is_domain:
        inside = sa.select(projects.project.c.id).where(projects.project.c.domain_id == owner.id)
        highest = tx.execute(
            sa.select(sa.func.max(table.resource_limit)).where(same, table.project_id.in_(inside))
        ).scalar()
        if 0 <= value < (highest or 0):
            raise _invalid(registered, f"domain_id: {owner.id}", f"a project below it has {highest}")
        return
    above = (given or {}).get(owner.domain_id)
    if above is None:
        above = tx.execute(
            sa.select(table.resource_limit).where(same, table.domain_id == owner.domain_id)
        ).scalar()
    most = registered.default_limit if above is None else above
    if 0 <= most < value:
        raise _invalid(registered, f"project_id: {owner.id}", f"its domain {owner.domain_id} has {most}")


def _invalid(registered: Row, whose: str, why: str) -> Forbidden:
    return Forbidden(
        f"Invalid resource limit: The resource limit ({whose}, resource_name: {registered.resource_name}, service_id: "
        f"{registered.service_id}, region_id: {registered.region_id}) doesn't satisfy current hierarchy model: {why}."
    )


def create(tx: Tx, cloud: Cloud, caller: Caller, wants: list[NewLimit]) -> list[Row]:
    """All or none. Raises Forbidden where nothing is registered to set a limit for, and as `fits` does."""
    may(caller, "create_limits")
    made = []
    of_domains: dict[tuple[str, str | None, str], dict[str, int]] = {}
    for want in wants:
        if want.domain_id:
            key = (want.service_id, want.region_id, want.resource_name)
            of_domains.setdefault(key, {})[want.domain_id] = want.resource_limit
    for want in wants:
        if bool(want.project_id) == bool(want.domain_id):
            raise BadRequest(
                "Invalid input for field/attribute limits: either project_id or domain_id is needed."
            )
        _check(tx, want.service_id, want.region_id)
        owner = want.project_id or want.domain_id or ""
        row = projects.find(tx, owner) if want.project_id else projects.find_domain(tx, owner)
        if row is None:
            raise BadRequest(f"Could not find {'project' if want.project_id else 'domain'}: {owner[:64]}.")
        base = tx.execute(_same(want.service_id, want.region_id, want.resource_name)).one_or_none()
        if base is None:
            raise Forbidden(
                f"Unable to create a limit that has no corresponding registered limit: {want.resource_name}."
            )
        taken = sa.select(limit.c.id).where(
            limit.c.registered_limit_id == base.id,
            limit.c.project_id == want.project_id if want.project_id else limit.c.domain_id == want.domain_id,
        )
        named.free(tx, taken, "Conflict occurred attempting to store limit - Duplicate entry.")
        given = of_domains.get((want.service_id, want.region_id, want.resource_name))
        fits(tx, cloud, base, row, want.resource_limit, given)
        id = ids.hex32()
        tx.execute(
            limit.insert().values(
                id=id,
                registered_limit_id=base.id,
                project_id=want.project_id or None,
                domain_id=want.domain_id or None,
                resource_limit=want.resource_limit,
                description=want.description,
            )
        )
        made.append(tx.execute(_LIMITS.where(limit.c.id == id)).one())
    return made


def _aim(tx: Tx, row: Row) -> dict[str, Any]:
    aim: dict[str, Any] = {}
    if row.domain_id:
        aim["target.limit.domain.id"] = row.domain_id
    if row.project_id:
        aim["target.limit.project_id"] = row.project_id
        project = projects.find(tx, row.project_id)
        if project is not None and project.domain_id:
            aim["target.limit.project.domain_id"] = project.domain_id
    return aim


def get(tx: Tx, caller: Caller, id: str, rule: str = "get_limit") -> Row:
    row = tx.execute(_LIMITS.where(limit.c.id == id)).one_or_none()
    may(caller, rule, _aim(tx, row) if row is not None else {})
    if row is None:
        raise NotFound(f"Could not find limit for {id[:64]}.")
    return row


def listing(tx: Tx, caller: Caller) -> sa.Select[Any]:
    """All limits for those who may see all, else those of the caller's scope."""
    may(caller, "list_limits")
    if can(caller, "get_limit"):
        return _LIMITS
    if caller.domain_id:
        inside = sa.select(projects.project.c.id).where(projects.project.c.domain_id == caller.domain_id)
        return _LIMITS.where(sa.or_(limit.c.domain_id == caller.domain_id, limit.c.project_id.in_(inside)))
    return _LIMITS.where(limit.c.project_id == caller.project_id)


def update(tx: Tx, cloud: Cloud, caller: Caller, id: str, change: dict[str, Any]) -> Row:
    """Raises as `fits` does."""
    row = get(tx, caller, id, "update_limit")
    owner = projects.find(tx, row.project_id or row.domain_id)
    if owner is not None and "resource_limit" in change:
        fits(tx, cloud, _base(tx, row), owner, change["resource_limit"])
    if change:
        tx.execute(sa.update(limit).where(limit.c.id == id).values(**change))
    return tx.execute(_LIMITS.where(limit.c.id == id)).one()


def _base(tx: Tx, row: Row) -> Row:
    """What a limit was registered for."""
    return tx.execute(
        sa.select(registered_limit).where(registered_limit.c.id == row.registered_limit_id)
    ).one()


def delete(tx: Tx, caller: Caller, id: str) -> None:
    get(tx, caller, id, "delete_limit")
    tx.execute(sa.delete(limit).where(limit.c.id == id))
