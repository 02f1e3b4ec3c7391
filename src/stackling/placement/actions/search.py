"""Finding providers: by what they have, and whole sets of them that could serve a request."""

import itertools
from collections.abc import Iterator

import sqlalchemy as sa
from msgspec import Struct, field

from stackling.base.db import Row, Tx
from stackling.placement.state.inventory import inventory
from stackling.placement.state.provider import provider, provider_aggregate, provider_trait

SHARES = "MISC_SHARES_VIA_AGGREGATE"
MOST = 1000  # candidates worked out at most
_TRIES = 100_000  # combinations looked at before giving up


class Group(Struct, kw_only=True):
    """What one provider (or, without a suffix, the tree together) must offer.

    `required` and `member_of` are lists of sets: one of each set must be there.
    """

    suffix: str = ""
    resources: dict[str, int] = field(default_factory=dict)
    required: list[frozenset[str]] = field(default_factory=list)
    forbidden: set[str] = field(default_factory=set)
    member_of: list[frozenset[str]] = field(default_factory=list)
    not_member_of: set[str] = field(default_factory=set)
    in_tree: str | None = None


class Request(Struct, kw_only=True):
    groups: list[Group]
    isolate: bool = False
    limit: int | None = None
    root_required: set[str] = field(default_factory=set)
    root_forbidden: set[str] = field(default_factory=set)
    same_subtree: list[list[str]] = field(default_factory=list)
    nested: bool = True


class Candidate(Struct):
    """How much of what from which provider, and which providers serve each group."""

    take: dict[str, dict[str, int]]
    mappings: dict[str, list[str]]


class Stock:
    """All providers with what they have, read in four statements."""

    def __init__(self, tx: Tx) -> None:
        self.rows: dict[str, Row] = {
            r.id: r for r in tx.execute(sa.select(provider).order_by(provider.c.name))
        }
        self.have: dict[str, dict[str, Row]] = {id: {} for id in self.rows}
        for i in tx.execute(sa.select(inventory)):
            self.have[i.provider_id][i.resource_class] = i
        self.traits: dict[str, set[str]] = {id: set() for id in self.rows}
        for t in tx.execute(sa.select(provider_trait)):
            self.traits[t.provider_id].add(t.trait)
        self.aggregates: dict[str, set[str]] = {id: set() for id in self.rows}
        for a in tx.execute(sa.select(provider_aggregate)):
            self.aggregates[a.provider_id].add(a.aggregate_id)

    def room(self, id: str, name: str, amount: int) -> bool:
        """The provider could give `amount` of a class to one consumer now."""
        row = self.have[id].get(name)
        if row is None:
            return False
        free = int((row.total - row.reserved) * row.allocation_ratio) - row.used
        return bool(amount <= free and row.min_unit <= amount <= row.max_unit and amount % row.step_size == 0)

    def tree(self, root_id: str) -> list[str]:
        return [id for id, r in self.rows.items() if r.root_id == root_id]

    def below(self, ancestor: str, id: str) -> bool:
        """`id` is `ancestor` or nested in it."""
        at: str | None = id
        while at is not None:
            if at == ancestor:
                return True
            at = self.rows[at].parent_id if at in self.rows else None
        return False

    def member(self, id: str, group: Group) -> bool:
        """A provider belongs to what its root belongs to."""
        mine = self.aggregates[id] | self.aggregates.get(self.rows[id].root_id, set())
        return all(mine & wanted for wanted in group.member_of) and not mine & group.not_member_of


def providers(tx: Tx, group: Group, *, name: str | None = None, id: str | None = None) -> list[Row]:
    """The providers that have room for the group's resources, its traits and aggregates, and are in its tree."""
    query = sa.select(provider).order_by(provider.c.name)
    if name is not None:
        query = query.where(provider.c.name == name)
    if id is not None:
        query = query.where(provider.c.id == id)
    plain = not (
        group.resources
        or group.required
        or group.forbidden
        or group.member_of
        or group.not_member_of
        or group.in_tree
    )
    rows = list(tx.execute(query))
    if plain:
        return rows
    stock = Stock(tx)
    root = stock.rows[group.in_tree].root_id if group.in_tree in stock.rows else None
    found = []
    for row in rows:
        if group.in_tree and row.root_id != root:
            continue
        traits = stock.traits[row.id]
        if not all(traits & wanted for wanted in group.required) or traits & group.forbidden:
            continue
        if stock.member(row.id, group) and all(stock.room(row.id, c, n) for c, n in group.resources.items()):
            found.append(row)
    return found


def candidates(tx: Tx, request: Request) -> tuple[list[Candidate], Stock]:
    """Every way to serve a request from one tree and what is shared with it."""
    stock = Stock(tx)
    found: list[Candidate] = []
    seen: set[str] = set()
    tries = itertools.count()
    for root in (r for r in stock.rows.values() if r.parent_id is None):
        traits = stock.traits[root.id]
        if not request.root_required <= traits or traits & request.root_forbidden:
            continue
        for one in _of_tree(stock, request, root.id):
            key = repr(
                (sorted((p, sorted(n.items())) for p, n in one.take.items()), sorted(one.mappings.items()))
            )
            if key not in seen:
                seen.add(key)
                found.append(one)
            if len(found) >= (request.limit or MOST) or next(tries) > _TRIES:
                return found, stock
    return found, stock


def _of_tree(stock: Stock, request: Request, root: str) -> Iterator[Candidate]:
    tree = stock.tree(root) if request.nested else [root]
    near = set().union(*(stock.aggregates[id] for id in tree))
    shared = [
        id
        for id in stock.rows
        if id not in tree and SHARES in stock.traits[id] and stock.aggregates[id] & near
    ]
    choices = []
    for group in request.groups:
        ways = list(itertools.islice(_ways(stock, group, tree, shared), MOST))
        if not ways:
            return
        choices.append(ways)
    for combined in itertools.islice(itertools.product(*choices), _TRIES):
        take: dict[str, dict[str, int]] = {}
        mappings: dict[str, list[str]] = {}
        for group, way in zip(request.groups, combined, strict=True):
            mappings[group.suffix] = sorted(set(way.values()))
            for name, id in way.items():
                if name in group.resources:
                    held = take.setdefault(id, {})
                    held[name] = held.get(name, 0) + group.resources[name]
        if not any(id in tree for id in take) or not all(
            stock.room(id, c, n) for id, need in take.items() for c, n in need.items()
        ):
            continue
        single = [mappings[g.suffix][0] for g in request.groups if g.suffix and mappings[g.suffix]]
        if request.isolate and len(single) != len(set(single)):
            continue
        if all(_one_subtree(stock, mappings, suffixes) for suffixes in request.same_subtree):
            yield Candidate(take, mappings)


def _ways(stock: Stock, group: Group, tree: list[str], shared: list[str]) -> Iterator[dict[str, str]]:
    """How one group can be served: resource class (or "" for a group without resources) → provider."""

    def allowed(id: str) -> bool:
        if group.in_tree and (
            group.in_tree not in stock.rows or stock.rows[id].root_id != stock.rows[group.in_tree].root_id
        ):
            return False
        return stock.member(id, group) and not stock.traits[id] & group.forbidden

    usable = [id for id in [*tree, *shared] if allowed(id)]
    if group.suffix:
        for id in usable:
            if all(stock.traits[id] & wanted for wanted in group.required) and all(
                stock.room(id, c, n) for c, n in group.resources.items()
            ):
                yield dict.fromkeys(group.resources or [""], id)
        return
    names = list(group.resources)
    for ids in itertools.product(
        *([id for id in usable if stock.room(id, c, group.resources[c])] for c in names)
    ):
        together = set().union(
            *(stock.traits[id] for id in ids), stock.traits[tree[0]] if any(i in tree for i in ids) else set()
        )
        if all(together & wanted for wanted in group.required):
            yield dict(zip(names, ids, strict=True))


def _one_subtree(stock: Stock, mappings: dict[str, list[str]], suffixes: list[str]) -> bool:
    """One of the providers of these groups is above all others."""
    ids = [id for s in suffixes for id in mappings.get(s, [])]
    return any(all(stock.below(top, id) for id in ids) for top in ids)
