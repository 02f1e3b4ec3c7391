"""Allocations, usages of projects, candidates, and the reshaper."""

from typing import Annotated, Any

from falcon import Request, Response
from msgspec import Meta

from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.base.microversion import Body, Version
from stackling.base.microversion import since as from_version
from stackling.base.rest import body, caller, convert, json_body, one_param, version
from stackling.placement.actions import allocation as actions
from stackling.placement.actions import provider as providers
from stackling.placement.actions import search, vocabulary
from stackling.placement.actions.problem import BadQuery
from stackling.placement.actions.search import Candidate, Stock
from stackling.placement.api import query
from stackling.placement.api.provider import Inventories, Uuid, inventory_of
from stackling.placement.api.version import only, since, stamp

Amounts = Annotated[
    dict[Annotated[str, Meta(pattern=r"^[A-Z0-9_]+$")], Annotated[int, Meta(ge=1, le=providers.MOST)]],
    Meta(min_length=1),
]
Who = Annotated[str, Meta(min_length=1, max_length=255)]
Kind = Annotated[str, Meta(pattern=r"^[A-Z0-9_]+$", min_length=1, max_length=255)]


class _Id(Body, kw_only=True):
    uuid: Uuid


class _Entry(Body, kw_only=True):
    resource_provider: _Id
    resources: Amounts


class OldAllocations(Body, kw_only=True):
    """Below 1.12: a list of providers."""

    allocations: Annotated[list[_Entry], Meta(min_length=1)]
    project_id: Annotated[Who, from_version("1.8")]
    user_id: Annotated[Who, from_version("1.8")]


class _Take(Body, kw_only=True):
    resources: Amounts
    generation: int | None = None


class Allocations(Body, kw_only=True):
    """From 1.12: by provider."""

    allocations: dict[Uuid, _Take]
    project_id: Who
    user_id: Who
    consumer_generation: Annotated[int | None, from_version("1.28")]
    mappings: Annotated[dict[str, list[Uuid]], from_version("1.34")] = {}
    consumer_type: Annotated[Kind, from_version("1.38")]


class Reshape(Body, kw_only=True):
    inventories: dict[Uuid, Inventories]
    allocations: dict[Uuid, Allocations]


class _Room:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud


def _keep(req: Request, tx: Tx, cloud: Cloud, consumer: str, want: Any) -> None:
    if not since(req, 1, 28) and not want.allocations:
        raise BadRequest("Invalid input: allocations is empty; DELETE them instead")
    actions.replace(
        tx,
        cloud,
        consumer,
        {query.uuid_of(p, "allocations"): _known(tx, t.resources) for p, t in want.allocations.items()},
        project_id=want.project_id,
        user_id=want.user_id,
        consumer_type=want.consumer_type if since(req, 1, 38) else None,
        generation=want.consumer_generation if since(req, 1, 28) else None,
        check_generation=since(req, 1, 28),
    )


def _known(tx: Tx, resources: dict[str, int]) -> dict[str, int]:
    vocabulary.check_classes(tx, resources)
    return resources


class OfConsumer(_Room):
    """/allocations/{consumer}"""

    def on_get(self, req: Request, resp: Response, consumer: str) -> None:
        caller(req).may("placement:allocations:list")
        with self.cloud.db.read() as tx:
            rows, who = actions.of(tx, consumer), actions.get_consumer(tx, consumer)
        made: dict[str, Any] = {}
        for row in rows:
            made.setdefault(row.provider_id, {"generation": row.generation, "resources": {}})["resources"][
                row.resource_class
            ] = row.used
        stamp(req, resp, self.cloud, who.updated_at if who else None)
        resp.media = {"allocations": made}
        if who is not None and made and since(req, 1, 12):
            resp.media |= {"project_id": who.project_id, "user_id": who.user_id}
            if since(req, 1, 28):
                resp.media["consumer_generation"] = who.generation
            if since(req, 1, 38):
                resp.media["consumer_type"] = who.consumer_type or "unknown"

    def on_put(self, req: Request, resp: Response, consumer: str) -> None:
        caller(req).may("placement:allocations:update")
        consumer = query.uuid_of(consumer, "consumer_uuid")
        if since(req, 1, 12):
            want: Any = body(req, Allocations)
            with self.cloud.db.begin() as tx:
                _keep(req, tx, self.cloud, consumer, want)
        else:
            want = body(req, OldAllocations)
            wanted = {query.uuid_of(e.resource_provider.uuid, "uuid"): e.resources for e in want.allocations}
            nobody = "00000000-0000-0000-0000-000000000000"  # who it is for is not asked below 1.8
            with self.cloud.db.begin() as tx:
                for amounts in wanted.values():
                    _known(tx, amounts)
                actions.replace(
                    tx,
                    self.cloud,
                    consumer,
                    wanted,
                    project_id=want.project_id if since(req, 1, 8) else nobody,
                    user_id=want.user_id if since(req, 1, 8) else nobody,
                )
        resp.status = 204

    def on_delete(self, req: Request, resp: Response, consumer: str) -> None:
        caller(req).may("placement:allocations:delete")
        with self.cloud.db.begin() as tx:
            if not actions.release(tx, consumer):
                raise NotFound(f"No allocations for consumer '{consumer[:64]}'")
        resp.status = 204


class Many(_Room):
    """/allocations"""

    def on_post(self, req: Request, resp: Response) -> None:
        only(req, 13)
        caller(req).may("placement:allocations:manage")
        given = json_body(req)
        if not isinstance(given, dict) or not given:
            raise BadRequest("Invalid input: the body is an object with at least one consumer")
        wanted = {
            query.uuid_of(c, "consumer_uuid"): convert(v, Allocations, version=_version(req))
            for c, v in given.items()
        }
        with self.cloud.db.begin() as tx:
            _move(req, tx, self.cloud, wanted)
        resp.status = 204


def _version(req: Request) -> Version:
    return version(req)


def _move(req: Request, tx: Tx, cloud: Cloud, wanted: dict[str, Any]) -> None:
    """First what is given back, so that what it frees can be taken in the same call."""
    for consumer, want in sorted(wanted.items(), key=lambda w: bool(w[1].allocations)):
        if not want.allocations and not since(req, 1, 28):
            actions.release(tx, consumer)
        else:
            _keep(req, tx, cloud, consumer, want)


class Reshaper(_Room):
    """/reshaper"""

    def on_post(self, req: Request, resp: Response) -> None:
        only(req, 30)
        caller(req).may("placement:reshaper:reshape")
        want = body(req, Reshape)
        with self.cloud.db.begin() as tx:
            wanted = {query.uuid_of(c, "allocations"): a for c, a in want.allocations.items()}
            rows = {}
            for id, stock in want.inventories.items():
                row = providers.get(tx, query.uuid_of(id, "inventories"))
                providers.advance(tx, self.cloud, row, stock.resource_provider_generation)
                have = {i.resource_class: providers.value(i) for i in providers.inventories(tx, row.id)}
                new = {n: inventory_of(req, i) for n, i in stock.inventories.items()}
                providers.set_inventories(tx, self.cloud, row, {**have, **new})
                rows[row.id] = (row, new)
            _move(req, tx, self.cloud, wanted)
            for row, new in rows.values():
                providers.set_inventories(tx, self.cloud, row, new)
        resp.status = 204


class Usages(_Room):
    """/usages"""

    def on_get(self, req: Request, resp: Response) -> None:
        only(req, 9)
        query.check(req, {"project_id", "user_id", *(["consumer_type"] if since(req, 1, 38) else [])})
        project_id = one_param(req, "project_id")
        if not project_id:
            raise BadQuery("Invalid query string parameters: 'project_id' is a required property")
        caller(req).may("placement:usages", {"project_id": project_id})
        user_id, wanted = one_param(req, "user_id"), one_param(req, "consumer_type")
        with self.cloud.db.read() as tx:
            rows = actions.project_usages(tx, project_id, user_id)
            counts = actions.consumers_by_type(tx, project_id, user_id)
        stamp(req, resp, self.cloud)
        made: dict[str, Any] = {}
        if not since(req, 1, 38):
            for row in rows:
                made[row.resource_class] = made.get(row.resource_class, 0) + int(row.used)
            resp.media = {"usages": made}
            return
        for row in rows:
            kind = row.consumer_type or "unknown"
            if wanted not in (None, "all", kind):
                continue
            into = made.setdefault("all" if wanted == "all" else kind, {"consumer_count": 0})
            into[row.resource_class] = into.get(row.resource_class, 0) + int(row.used)
        for name, into in made.items():
            into["consumer_count"] = (
                sum(counts.values()) if name == "all" else counts.get(None if name == "unknown" else name, 0)
            )
        resp.media = {"usages": made}


class Candidates(_Room):
    """/allocation_candidates"""

    def on_get(self, req: Request, resp: Response) -> None:
        only(req, 10)
        caller(req).may("placement:allocation_candidates:list")
        with self.cloud.db.read() as tx:
            asked = query.candidates(req, tx)
            found, stock = search.candidates(tx, asked)
        classes = {c for g in asked.groups for c in g.resources}
        stamp(req, resp, self.cloud)
        resp.media = {
            "allocation_requests": [_request(req, c) for c in found],
            "provider_summaries": _summaries(req, found, stock, classes),
        }


def _request(req: Request, one: Candidate) -> dict[str, Any]:
    if not since(req, 1, 12):
        return {
            "allocations": [
                {"resource_provider": {"uuid": id}, "resources": take} for id, take in one.take.items()
            ]
        }
    made: dict[str, Any] = {"allocations": {id: {"resources": take} for id, take in one.take.items()}}
    return made | ({"mappings": one.mappings} if since(req, 1, 34) else {})


def _summaries(req: Request, found: list[Candidate], stock: Stock, classes: set[str]) -> dict[str, Any]:
    ids = {id for c in found for id in c.take}
    if since(req, 1, 29):
        ids = {id for used in ids for id in stock.tree(stock.rows[used].root_id)}
    made: dict[str, Any] = {}
    for id in sorted(ids):
        row = stock.rows[id]
        shown = {
            name: {"capacity": int((i.total - i.reserved) * i.allocation_ratio), "used": i.used}
            for name, i in stock.have[id].items()
            if since(req, 1, 27) or name in classes
        }
        one: dict[str, Any] = {"resources": shown}
        if since(req, 1, 17):
            one["traits"] = sorted(stock.traits[id])
        if since(req, 1, 29):
            one |= {"parent_provider_uuid": row.parent_id, "root_provider_uuid": row.root_id}
        made[id] = one
    return made
