"""Claims: taking and giving back what providers have. The only place that writes allocations and `used`."""

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from stackling.base import db
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.placement.actions import provider as providers
from stackling.placement.actions.problem import ConcurrentUpdate, ProviderNotFound
from stackling.placement.state.allocation import allocation, consumer
from stackling.placement.state.inventory import inventory
from stackling.placement.state.provider import provider, provider_aggregate, provider_trait

Wanted = Mapping[str, Mapping[str, int]]  # provider id → resource class → how much


class NoHost(Exception):
    """No host can take it. `reasons`: hostname → the sentence that says what it lacked."""

    def __init__(self, reasons: dict[str, str]) -> None:
        super().__init__(
            "; ".join(f"{host}: {why}" for host, why in sorted(reasons.items())) or "There are no hosts"
        )
        self.reasons = reasons


_UNITS = {"VCPU": "", "MEMORY_MB": " MiB", "DISK_GB": " GiB"}


def claim(
    tx: Tx,
    cloud: Cloud,
    consumer_id: str,
    project_id: str,
    user_id: str,
    resources: Mapping[str, int],
    candidates: Sequence[str] | None = None,
    *,
    required: Iterable[str] = (),
    forbidden: Iterable[str] = (),
    aggregates: Iterable[str] = (),
    weigh: Mapping[str, float] | None = None,
    consumer_type: str = "INSTANCE",
) -> str:
    """Take `resources` for one consumer from one host, and its name.

    `candidates`: hostnames that come into question, None for all. Among those with room the one with the highest
    `weigh` wins, then the one with most free memory. `aggregates`: in any of these. Raises NoHost.
    """
    query = sa.select(provider.c.id, provider.c.name).where(provider.c.parent_id.is_(None))
    if candidates is not None:
        query = query.where(provider.c.name.in_(candidates))
    hosts = {r.id: r.name for r in tx.execute(query)}
    reasons: dict[str, str] = {
        n: "it has not reported what it has yet" for n in candidates or () if n not in hosts.values()
    }
    need = {c: n for c, n in sorted(resources.items()) if n > 0}
    fit = _fitting(tx, hosts, need, set(required), set(forbidden), set(aggregates), reasons)
    fit.sort(key=lambda found: (-(weigh or {}).get(hosts[found[0]], 0.0), -found[1], hosts[found[0]]))
    for host_id, _ in fit:
        if _take(tx, cloud, host_id, need):
            now = cloud.clock.now()
            row = {"id": consumer_id, "generation": 1, "project_id": project_id, "user_id": user_id}
            row |= {"consumer_type": consumer_type, "created_at": now, "updated_at": now}
            tx.execute(sa.insert(consumer).values(**row))
            if need:
                rows = [
                    {"consumer_id": consumer_id, "provider_id": host_id, "resource_class": c, "used": n}
                    for c, n in need.items()
                ]
                tx.execute(sa.insert(allocation), rows)
            return hosts[host_id]
        reasons[hosts[host_id]] = "its last free resources were taken by another server just now"
    raise NoHost(reasons)


def _fitting(
    tx: Tx,
    hosts: dict[str, str],
    need: dict[str, int],
    required: set[str],
    forbidden: set[str],
    aggregates: set[str],
    reasons: dict[str, str],
) -> list[tuple[str, int]]:
    """(provider id, free memory) of the hosts with room; why not for all others goes into `reasons`."""
    stock: dict[str, dict[str, Row]] = {id: {} for id in hosts}
    for i in tx.execute(sa.select(inventory).where(inventory.c.provider_id.in_(hosts))):
        stock[i.provider_id][i.resource_class] = i
    traits: dict[str, set[str]] = {id: set() for id in hosts}
    if required or forbidden:
        for t in tx.execute(sa.select(provider_trait).where(provider_trait.c.provider_id.in_(hosts))):
            traits[t.provider_id].add(t.trait)
    member: set[str] = set(hosts)
    if aggregates:
        inside = sa.select(provider_aggregate.c.provider_id).where(
            provider_aggregate.c.aggregate_id.in_(aggregates)
        )
        member = set(tx.execute(inside).scalars())
    fit = []
    for id, name in hosts.items():
        lacks = [_lack(stock[id].get(c), c, n) for c, n in need.items()]
        said = [why for why in lacks if why]
        if absent := sorted(required - traits[id]):
            said.append(f"lacks trait {', '.join(absent)}")
        if present := sorted(forbidden & traits[id]):
            said.append(f"has forbidden trait {', '.join(present)}")
        if id not in member:
            said.append("is in none of the aggregates asked for")
        if said:
            reasons[name] = "; ".join(said)
        else:
            memory = stock[id].get("MEMORY_MB")
            fit.append((id, _capacity(memory) - memory.used if memory is not None else 0))
    return fit


def _capacity(row: Row) -> int:
    return int((row.total - row.reserved) * row.allocation_ratio)


def _lack(row: Row | None, name: str, wanted: int) -> str | None:
    """What keeps `wanted` of a class from being taken from an inventory row."""
    unit = _UNITS.get(name, "")
    if row is None:
        return f"has no {name}"
    free = max(0, _capacity(row) - row.used)
    if wanted > free:
        return f"not enough {name}: {wanted}{unit} wanted, {free}{unit} free of {_capacity(row)}{unit}"
    if not row.min_unit <= wanted <= row.max_unit or wanted % row.step_size:
        return f"{name}: {wanted}{unit} wanted, but one server may take from {row.min_unit} to {row.max_unit} in steps of {row.step_size}"
    return None


def _take(tx: Tx, cloud: Cloud, provider_id: str, need: Mapping[str, int]) -> bool:
    """Add to `used`, unless somebody has taken the room meanwhile; all classes or none."""
    if tx.dialect.name == "postgresql":
        # One order for everybody, so that two claims never wait for each other.
        held = (
            sa.select(inventory)
            .where(inventory.c.provider_id == provider_id)
            .order_by(inventory.c.resource_class)
        )
        stock = {r.resource_class: r for r in tx.execute(held.with_for_update())}
        if any(_lack(stock.get(c), c, n) for c, n in need.items()):
            return False
    for name, amount in need.items():
        add_used(tx, provider_id, name, amount)
    tx.execute(
        sa.update(provider).where(provider.c.id == provider_id).values(generation=provider.c.generation + 1)
    )
    return True


def add_used(tx: Tx, provider_id: str, resource_class: str, amount: int) -> None:
    this = sa.and_(inventory.c.provider_id == provider_id, inventory.c.resource_class == resource_class)
    tx.execute(sa.update(inventory).where(this).values(used=inventory.c.used + amount))


def release(tx: Tx, consumer_id: str) -> bool:
    """Give back all that a consumer holds. False when it held nothing."""
    held = tx.execute(
        sa.delete(allocation).where(allocation.c.consumer_id == consumer_id).returning(allocation)
    ).all()
    for row in sorted(held, key=lambda r: (r.provider_id, r.resource_class)):
        add_used(tx, row.provider_id, row.resource_class, -row.used)
    for provider_id in sorted({r.provider_id for r in held}):
        tx.execute(
            sa.update(provider)
            .where(provider.c.id == provider_id)
            .values(generation=provider.c.generation + 1)
        )
    tx.execute(sa.delete(consumer).where(consumer.c.id == consumer_id))
    return bool(held)


def of(tx: Tx, consumer_id: str) -> list[Row]:
    """The allocations of a consumer: provider_id, resource_class, used, and the provider's `name` and `generation`."""
    return list(
        tx.execute(
            sa.select(allocation, provider.c.name, provider.c.generation)
            .join(provider, provider.c.id == allocation.c.provider_id)
            .where(allocation.c.consumer_id == consumer_id)
            .order_by(allocation.c.provider_id, allocation.c.resource_class)
        )
    )


def of_provider(tx: Tx, provider_id: str) -> list[Row]:
    return list(
        tx.execute(
            sa.select(allocation, consumer.c.generation)
            .join(consumer, consumer.c.id == allocation.c.consumer_id)
            .where(allocation.c.provider_id == provider_id)
            .order_by(allocation.c.consumer_id, allocation.c.resource_class)
        )
    )


def get_consumer(tx: Tx, consumer_id: str) -> Row | None:
    return tx.execute(sa.select(consumer).where(consumer.c.id == consumer_id)).first()


def replace(
    tx: Tx,
    cloud: Cloud,
    consumer_id: str,
    wanted: Wanted,
    *,
    project_id: str,
    user_id: str,
    consumer_type: str | None = None,
    generation: int | None = None,
    check_generation: bool = False,
) -> bool:
    """A consumer holds just `wanted`; True when the consumer is new.

    `check_generation`: `generation` must be the consumer's (None: it must be new). Raises ConcurrentUpdate when it
    is not, or when a provider has no room; ProviderNotFound.
    """
    db.lock(tx, f"consumer:{consumer_id}")
    found = get_consumer(tx, consumer_id)
    if check_generation and (found.generation if found else None) != generation:
        has = found.generation if found else "null"
        raise ConcurrentUpdate(
            f"consumer generation conflict - expected {has} but got {'null' if generation is None else generation}"
        )
    now = cloud.clock.now()
    release_rows(tx, consumer_id)
    for provider_id in sorted(wanted):
        need = dict(wanted[provider_id].items())
        if tx.execute(sa.select(provider.c.id).where(provider.c.id == provider_id)).first() is None:
            raise ProviderNotFound(f"Allocation for resource provider '{provider_id}' that does not exist.")
        stock = {i.resource_class: i for i in providers.inventories(tx, provider_id)}
        for name, amount in need.items():
            if why := _lack(stock.get(name), name, amount):
                raise ConcurrentUpdate(
                    f"Unable to allocate inventory: Unable to create allocation for '{name}' on resource provider '{provider_id}'. {why}."
                )
        _take(tx, cloud, provider_id, need)
        rows = [
            {"consumer_id": consumer_id, "provider_id": provider_id, "resource_class": c, "used": n}
            for c, n in need.items()
        ]
        tx.execute(sa.insert(allocation), rows)
    if not wanted:
        tx.execute(sa.delete(consumer).where(consumer.c.id == consumer_id))
        return found is None
    values = {"project_id": project_id, "user_id": user_id, "updated_at": now}
    if consumer_type is not None:
        values["consumer_type"] = consumer_type
    if found is None:
        tx.execute(sa.insert(consumer).values(id=consumer_id, generation=1, created_at=now, **values))
    else:
        tx.execute(
            sa.update(consumer)
            .where(consumer.c.id == consumer_id)
            .values(generation=consumer.c.generation + 1, **values)
        )
    return found is None


def release_rows(tx: Tx, consumer_id: str) -> None:
    """Give back what a consumer holds and keep the consumer (its allocations are about to be written anew)."""
    held = tx.execute(
        sa.delete(allocation).where(allocation.c.consumer_id == consumer_id).returning(allocation)
    ).all()
    for row in sorted(held, key=lambda r: (r.provider_id, r.resource_class)):
        add_used(tx, row.provider_id, row.resource_class, -row.used)


def usages(tx: Tx, provider_id: str) -> dict[str, int]:
    return {i.resource_class: i.used for i in providers.inventories(tx, provider_id)}


def project_usages(tx: Tx, project_id: str, user_id: str | None = None) -> list[Row]:
    """Rows (consumer_type, resource_class, used, consumers) of a project."""
    query = (
        sa.select(
            consumer.c.consumer_type,
            allocation.c.resource_class,
            sa.func.sum(allocation.c.used).label("used"),
        )
        .join(consumer, consumer.c.id == allocation.c.consumer_id)
        .where(consumer.c.project_id == project_id)
        .group_by(consumer.c.consumer_type, allocation.c.resource_class)
    )
    if user_id:
        query = query.where(consumer.c.user_id == user_id)
    return list(tx.execute(query))


def consumers_by_type(tx: Tx, project_id: str, user_id: str | None = None) -> dict[str | None, int]:
    query = sa.select(consumer.c.consumer_type, sa.func.count().label("n")).where(
        consumer.c.project_id == project_id
    )
    if user_id:
        query = query.where(consumer.c.user_id == user_id)
    return {r.consumer_type: r.n for r in tx.execute(query.group_by(consumer.c.consumer_type))}
