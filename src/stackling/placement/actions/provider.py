"""Resource providers and what they have."""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import db, ids
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.placement.actions import vocabulary
from stackling.placement.actions.problem import (
    ConcurrentUpdate,
    DuplicateName,
    InventoryInUse,
    ProviderHasChildren,
    ProviderInUse,
    ProviderNotFound,
)
from stackling.placement.state.allocation import allocation
from stackling.placement.state.inventory import inventory
from stackling.placement.state.provider import provider, provider_aggregate, provider_trait

MOST = 2**31 - 1


class Inventory(Struct, frozen=True, kw_only=True):
    """How much of one resource class a provider has; units are the class's own (MiB for MEMORY_MB, GiB for DISK_GB)."""

    total: int
    reserved: int = 0
    min_unit: int = 1
    max_unit: int = MOST
    step_size: int = 1
    allocation_ratio: float = 1.0

    @property
    def capacity(self) -> int:
        """What may be allocated at most."""
        return int((self.total - self.reserved) * self.allocation_ratio)


def get(tx: Tx, id: str) -> Row:
    """Raises NotFound."""
    found = tx.execute(sa.select(provider).where(provider.c.id == id)).first()
    if found is None:
        raise NotFound(
            f"No resource provider with uuid {id[:64]} found : No resource provider with uuid {id[:64]} found "
        )
    return found


def create(tx: Tx, cloud: Cloud, *, name: str, id: str | None = None, parent_id: str | None = None) -> Row:
    """A new provider without inventory. Raises DuplicateName, ProviderNotFound (its parent)."""
    id = id or ids.uuid4()
    taken = sa.select(provider.c.id, provider.c.name).where(
        sa.or_(provider.c.name == name, provider.c.id == id)
    )
    if found := tx.execute(taken).first():
        what = f"name: {name}" if found.name == name else f"uuid: {id}"
        raise DuplicateName(f"Conflicting resource provider {what} already exists.")
    root = id
    if parent_id:
        parent = tx.execute(sa.select(provider).where(provider.c.id == parent_id)).first()
        if parent is None or parent_id == id:
            raise ProviderNotFound(
                f'Unable to create resource provider "{name}", {id}: parent provider UUID {parent_id} does not exist'
            )
        root = parent.root_id
    values = {
        "id": id,
        "name": name,
        "generation": 0,
        "parent_id": parent_id,
        "root_id": root,
        "created_at": cloud.clock.now(),
    }
    return tx.execute(sa.insert(provider).values(**values).returning(provider)).one()


def update(
    tx: Tx, cloud: Cloud, row: Row, *, name: str, parent_id: str | None, move: bool, keep_parent: bool
) -> Row:
    """Rename, and give it a parent; with `move` (1.37) also another one or none.

    `keep_parent`: the body did not name a parent. Raises DuplicateName, BadRequest, ProviderNotFound.
    """
    if tx.execute(sa.select(provider.c.id).where(provider.c.name == name, provider.c.id != row.id)).first():
        raise DuplicateName(f"Conflicting resource provider name: {name} already exists.")
    values: dict[str, object] = {"name": name, "updated_at": cloud.clock.now()}
    if not keep_parent and parent_id != row.parent_id:
        if row.parent_id is not None and not move:
            raise BadRequest(
                f"Unable to save resource provider {row.id}: re-parenting a provider is not currently allowed."
            )
        root = row.id
        if parent_id is not None:
            parent = tx.execute(sa.select(provider).where(provider.c.id == parent_id)).first()
            if parent is None:
                raise ProviderNotFound(
                    f"Unable to save resource provider {row.id}: parent provider UUID {parent_id} does not exist"
                )
            if parent_id in _below(tx, row):
                raise BadRequest(
                    f"Unable to save resource provider {row.id}: creating loop in the provider tree is not allowed."
                )
            root = parent.root_id
        values |= {"parent_id": parent_id}
        tx.execute(sa.update(provider).where(provider.c.id.in_(_below(tx, row))).values(root_id=root))
    tx.execute(sa.update(provider).where(provider.c.id == row.id).values(**values))
    return get(tx, row.id)


def _below(tx: Tx, row: Row) -> set[str]:
    """The ids of a provider and all nested in it."""
    pairs = tx.execute(
        sa.select(provider.c.id, provider.c.parent_id).where(provider.c.root_id == row.root_id)
    ).all()
    found = {row.id}
    while more := {p.id for p in pairs if p.parent_id in found} - found:
        found |= more
    return found


def remove(tx: Tx, row: Row) -> None:
    """Raises ProviderHasChildren, ProviderInUse."""
    if tx.execute(sa.select(provider.c.id).where(provider.c.parent_id == row.id)).first():
        raise ProviderHasChildren(
            f"Unable to delete parent resource provider {row.id}: It has child resource providers."
        )
    if tx.execute(sa.select(allocation.c.consumer_id).where(allocation.c.provider_id == row.id)).first():
        raise ProviderInUse(
            f"Unable to delete resource provider {row.id}: Resource provider has allocations."
        )
    for table in (inventory, provider_trait, provider_aggregate):
        tx.execute(sa.delete(table).where(table.c.provider_id == row.id))
    tx.execute(sa.delete(provider).where(provider.c.id == row.id))


# -- inventory ---------------------------------------------------------------------------------------------------------


def inventories(tx: Tx, id: str) -> list[Row]:
    return list(
        tx.execute(
            sa.select(inventory).where(inventory.c.provider_id == id).order_by(inventory.c.resource_class)
        )
    )


def advance(tx: Tx, cloud: Cloud, row: Row, generation: int | None) -> int:
    """The next generation. Raises ConcurrentUpdate when it is no longer `generation`."""
    now = cloud.clock.now()
    this = sa.update(provider).where(provider.c.id == row.id)
    if generation is not None:
        this = this.where(provider.c.generation == generation)
    done = tx.execute(
        this.values(generation=provider.c.generation + 1, updated_at=now).returning(provider.c.generation)
    ).first()
    if done is None:
        raise ConcurrentUpdate("resource provider generation conflict")
    return int(done.generation)


def set_inventories(
    tx: Tx, cloud: Cloud, row: Row, wanted: Mapping[str, Inventory], *, only: str | None = None
) -> None:
    """The provider has just what `wanted` says (of the class `only`, if named).

    Raises InventoryInUse when a class that is in use would go, BadRequest for one that does not exist.
    """
    vocabulary.check_classes(tx, wanted)
    now = cloud.clock.now()
    present = {
        i.resource_class: i for i in inventories(tx, row.id) if only is None or i.resource_class == only
    }
    for name in present.keys() - wanted.keys():
        if present[name].used:
            raise InventoryInUse(f"Inventory for '{name}' on resource provider '{row.id}' in use.")
        tx.execute(
            sa.delete(inventory).where(inventory.c.provider_id == row.id, inventory.c.resource_class == name)
        )
    for name, have in wanted.items():
        values = {
            "total": have.total,
            "reserved": have.reserved,
            "min_unit": have.min_unit,
            "max_unit": have.max_unit,
            "step_size": have.step_size,
            "allocation_ratio": have.allocation_ratio,
            "updated_at": now,
        }
        fresh = {"provider_id": row.id, "resource_class": name, "used": 0, **values}
        db.upsert(tx, inventory, fresh, values, key=("provider_id", "resource_class"))


def ensure(
    tx: Tx, cloud: Cloud, *, name: str, inventory: Mapping[str, Inventory], traits: Iterable[str] = ()
) -> str:
    """The host `name` offers just this; its id. Classes in use stay, and standard traits given by admins too."""
    found = tx.execute(sa.select(provider).where(provider.c.name == name)).first()
    row = found or create(tx, cloud, name=name)
    present = {i.resource_class: value(i) for i in inventories(tx, row.id)}
    if any(present.get(n) != have for n, have in inventory.items()):
        set_inventories(tx, cloud, row, {**present, **inventory})
        advance(tx, cloud, row, None)
    have_traits = set(traits_of(tx, row.id))
    missing = [t for t in traits if t not in have_traits and vocabulary.trait_exists(tx, t)]
    if missing:
        tx.execute(sa.insert(provider_trait), [{"provider_id": row.id, "trait": t} for t in missing])
    return str(row.id)


def forget(tx: Tx, name: str) -> None:
    """The host `name` is no provider any more. Raises ProviderInUse."""
    found = tx.execute(sa.select(provider).where(provider.c.name == name)).first()
    if found is not None:
        remove(tx, found)


def by_name(tx: Tx, name: str) -> Row | None:
    return tx.execute(sa.select(provider).where(provider.c.name == name)).first()


def usage_by_name(tx: Tx) -> dict[str, dict[str, Row]]:
    """Inventory rows (with `used`) of every root provider, by its name and resource class."""
    query = (
        sa.select(provider.c.name, inventory)
        .join(inventory, inventory.c.provider_id == provider.c.id)
        .where(provider.c.parent_id.is_(None))
    )
    made: dict[str, dict[str, Row]] = {}
    for r in tx.execute(query):
        made.setdefault(r.name, {})[r.resource_class] = r
    return made


def value(row: Row) -> Inventory:
    return Inventory(
        total=row.total,
        reserved=row.reserved,
        min_unit=row.min_unit,
        max_unit=row.max_unit,
        step_size=row.step_size,
        allocation_ratio=row.allocation_ratio,
    )


# -- traits and aggregates ---------------------------------------------------------------------------------------------


def traits_of(tx: Tx, id: str) -> list[str]:
    return list(
        tx.execute(
            sa.select(provider_trait.c.trait)
            .where(provider_trait.c.provider_id == id)
            .order_by(provider_trait.c.trait)
        ).scalars()
    )


def set_traits(tx: Tx, id: str, names: Iterable[str]) -> None:
    """Raises BadRequest for a trait that does not exist."""
    wanted = sorted(set(names))
    vocabulary.check_traits(tx, wanted)
    tx.execute(sa.delete(provider_trait).where(provider_trait.c.provider_id == id))
    if wanted:
        tx.execute(sa.insert(provider_trait), [{"provider_id": id, "trait": t} for t in wanted])


def aggregates_of(tx: Tx, id: str) -> list[str]:
    return list(
        tx.execute(
            sa.select(provider_aggregate.c.aggregate_id).where(provider_aggregate.c.provider_id == id)
        ).scalars()
    )


def set_aggregates(tx: Tx, id: str, aggregate_ids: Iterable[str]) -> None:
    wanted = sorted(set(aggregate_ids))
    tx.execute(sa.delete(provider_aggregate).where(provider_aggregate.c.provider_id == id))
    if wanted:
        tx.execute(sa.insert(provider_aggregate), [{"provider_id": id, "aggregate_id": a} for a in wanted])
