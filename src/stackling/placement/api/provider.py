"""Resource providers, their inventories, traits, aggregates and usages."""

from typing import Annotated, Any

from falcon import Request, Response
from msgspec import UNSET, Meta, UnsetType

from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.base.ids import is_uuid
from stackling.base.microversion import Body
from stackling.base.microversion import since as from_version
from stackling.base.rest import base_url, body, caller, json_body, one_param
from stackling.placement.actions import allocation, search
from stackling.placement.actions import provider as actions
from stackling.placement.actions.problem import ConcurrentUpdate
from stackling.placement.actions.provider import MOST, Inventory
from stackling.placement.actions.search import Group
from stackling.placement.api import query
from stackling.placement.api.version import only, since, stamp

Uuid = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Count = Annotated[int, Meta(ge=1, le=MOST)]


class CreateProvider(Body, kw_only=True):
    name: Name
    uuid: Uuid | UnsetType = UNSET
    parent_provider_uuid: Annotated[Uuid | UnsetType | None, from_version("1.14")] = UNSET


class UpdateProvider(Body, kw_only=True):
    name: Name
    parent_provider_uuid: Annotated[Uuid | UnsetType | None, from_version("1.14")] = UNSET


class InventoryBody(Body, kw_only=True):
    total: Count
    reserved: Annotated[int, Meta(ge=0, le=MOST)] = 0
    min_unit: Count = 1
    max_unit: Count = MOST
    step_size: Count = 1
    allocation_ratio: Annotated[float, Meta(gt=0, le=3.4e38)] = 1.0


class OneInventory(InventoryBody, kw_only=True):
    resource_provider_generation: int


class PostInventory(InventoryBody, kw_only=True):
    resource_class: str
    resource_provider_generation: int | UnsetType = UNSET


class Inventories(Body, kw_only=True):
    resource_provider_generation: int
    inventories: dict[Annotated[str, Meta(pattern=r"^[A-Z0-9_]+$")], InventoryBody]


class TraitsBody(Body, kw_only=True):
    resource_provider_generation: int
    traits: list[str]


class AggregatesBody(Body, kw_only=True):
    aggregates: list[Uuid]
    resource_provider_generation: Annotated[int, from_version("1.19")]


class _Room:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud


def _links(req: Request, row: Row) -> list[dict[str, str]]:
    rels = ["inventories", "usages"]
    for minor, rel in ((1, "aggregates"), (6, "traits"), (11, "allocations")):
        if since(req, 1, minor):
            rels.append(rel)
    base = f"/placement/resource_providers/{row.id}"
    return [{"rel": "self", "href": base}, *({"rel": rel, "href": f"{base}/{rel}"} for rel in rels)]


def _shown(req: Request, row: Row) -> dict[str, Any]:
    made = {"uuid": row.id, "name": row.name, "generation": row.generation, "links": _links(req, row)}
    if since(req, 1, 14):
        made |= {"parent_provider_uuid": row.parent_id, "root_provider_uuid": row.root_id}
    return made


def inventory_of(req: Request, given: Any) -> Inventory:
    made = Inventory(**{n: getattr(given, n) for n in Inventory.__struct_fields__})
    if made.reserved > made.total or (made.reserved == made.total and not since(req, 1, 26)):
        raise BadRequest(
            f"Unable to update inventory: reserved {made.reserved} must be less than total {made.total}."
        )
    return made


def _plain(row: Row) -> dict[str, Any]:
    return {n: getattr(row, n) for n in Inventory.__struct_fields__}


class Providers(_Room):
    """/resource_providers"""

    def on_get(self, req: Request, resp: Response) -> None:
        caller(req).may("placement:resource_providers:list")
        allowed = {"name", "uuid"}
        for minor, name in ((3, "member_of"), (4, "resources"), (14, "in_tree"), (18, "required")):
            if since(req, 1, minor):
                allowed.add(name)
        repeated = {n for minor, n in ((24, "member_of"), (39, "required")) if since(req, 1, minor)}
        query.check(req, allowed, repeated=repeated)
        with self.cloud.db.read() as tx:
            group = Group()
            if text := one_param(req, "resources"):
                group.resources = query.resources(tx, text)
            query.traits(req, tx, req.get_param_as_list("required") or [], group)
            query.aggregates(req, req.get_param_as_list("member_of") or [], group)
            if text := one_param(req, "in_tree"):
                group.in_tree = query.uuid_of(text, "in_tree")
            id = one_param(req, "uuid")
            rows = search.providers(
                tx,
                group,
                name=one_param(req, "name"),
                id=query.uuid_of(id, "uuid") if id is not None else None,
            )
        stamp(req, resp, self.cloud, max((r.updated_at or r.created_at for r in rows), default=None))
        resp.media = {"resource_providers": [_shown(req, r) for r in rows]}

    def on_post(self, req: Request, resp: Response) -> None:
        caller(req).may("placement:resource_providers:create")
        want = body(req, CreateProvider)
        id = query.uuid_of(want.uuid, "uuid") if want.uuid is not UNSET else None
        parent = (
            query.uuid_of(want.parent_provider_uuid, "parent_provider_uuid")
            if want.parent_provider_uuid
            else None
        )
        with self.cloud.db.begin() as tx:
            row = actions.create(tx, self.cloud, name=want.name, id=id, parent_id=parent)
        resp.set_header("Location", f"{base_url(req, self.cloud)}/placement/resource_providers/{row.id}")
        if since(req, 1, 20):
            stamp(req, resp, self.cloud, row.created_at)
            resp.media = _shown(req, row)
        else:
            resp.status = 201


class Provider(_Room):
    """/resource_providers/{id}"""

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        caller(req).may("placement:resource_providers:show")
        with self.cloud.db.read() as tx:
            row = actions.get(tx, id)
        stamp(req, resp, self.cloud, row.updated_at or row.created_at)
        resp.media = _shown(req, row)

    def on_put(self, req: Request, resp: Response, id: str) -> None:
        caller(req).may("placement:resource_providers:update")
        want = body(req, UpdateProvider)
        parent = (
            query.uuid_of(want.parent_provider_uuid, "parent_provider_uuid")
            if want.parent_provider_uuid
            else None
        )
        with self.cloud.db.begin() as tx:
            row = actions.get(tx, id)
            if (
                parent is None
                and row.parent_id is not None
                and want.parent_provider_uuid is None
                and not since(req, 1, 37)
            ):
                raise BadRequest(
                    "Unable to save resource provider: un-parenting a provider is not currently allowed."
                )
            row = actions.update(
                tx,
                self.cloud,
                row,
                name=want.name,
                parent_id=parent,
                move=since(req, 1, 37),
                keep_parent=want.parent_provider_uuid is UNSET,
            )
        stamp(req, resp, self.cloud, row.updated_at)
        resp.media = _shown(req, row)

    def on_delete(self, req: Request, resp: Response, id: str) -> None:
        caller(req).may("placement:resource_providers:delete")
        with self.cloud.db.begin() as tx:
            actions.remove(tx, actions.get(tx, id))
        resp.status = 204


# -- inventories -------------------------------------------------------------------------------------------------------


class ProviderInventories(_Room):
    """/resource_providers/{id}/inventories"""

    def _answer(self, req: Request, resp: Response, tx: Tx, id: str) -> None:
        rows = actions.inventories(tx, id)
        stamp(req, resp, self.cloud, max((r.updated_at for r in rows), default=None))
        resp.media = {
            "resource_provider_generation": actions.get(tx, id).generation,
            "inventories": {r.resource_class: _plain(r) for r in rows},
        }

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        caller(req).may("placement:resource_providers:inventories:list")
        with self.cloud.db.read() as tx:
            self._answer(req, resp, tx, actions.get(tx, id).id)

    def on_put(self, req: Request, resp: Response, id: str) -> None:
        caller(req).may("placement:resource_providers:inventories:update")
        want = body(req, Inventories)
        with self.cloud.db.begin() as tx:
            row = actions.get(tx, id)
            actions.advance(tx, self.cloud, row, want.resource_provider_generation)
            actions.set_inventories(
                tx, self.cloud, row, {n: inventory_of(req, i) for n, i in want.inventories.items()}
            )
            self._answer(req, resp, tx, row.id)

    def on_post(self, req: Request, resp: Response, id: str) -> None:
        caller(req).may("placement:resource_providers:inventories:create")
        want = body(req, PostInventory)
        with self.cloud.db.begin() as tx:
            row = actions.get(tx, id)
            if any(i.resource_class == want.resource_class for i in actions.inventories(tx, row.id)):
                raise ConcurrentUpdate(f"Update conflict: inventory of {want.resource_class} exists already")
            generation = actions.advance(
                tx,
                self.cloud,
                row,
                None if want.resource_provider_generation is UNSET else want.resource_provider_generation,
            )
            actions.set_inventories(
                tx, self.cloud, row, {want.resource_class: inventory_of(req, want)}, only=want.resource_class
            )
            made = next(i for i in actions.inventories(tx, row.id) if i.resource_class == want.resource_class)
        resp.status = 201
        resp.set_header(
            "Location",
            f"{base_url(req, self.cloud)}/placement/resource_providers/{row.id}/inventories/{want.resource_class}",
        )
        stamp(req, resp, self.cloud)
        resp.media = {"resource_provider_generation": generation, **_plain(made)}

    def on_delete(self, req: Request, resp: Response, id: str) -> None:
        only(req, 5)
        caller(req).may("placement:resource_providers:inventories:delete")
        with self.cloud.db.begin() as tx:
            row = actions.get(tx, id)
            actions.set_inventories(tx, self.cloud, row, {})
            actions.advance(tx, self.cloud, row, None)
        resp.status = 204


class ProviderInventory(_Room):
    """/resource_providers/{id}/inventories/{name}"""

    def on_get(self, req: Request, resp: Response, id: str, name: str) -> None:
        caller(req).may("placement:resource_providers:inventories:show")
        with self.cloud.db.read() as tx:
            row = actions.get(tx, id)
            found = [i for i in actions.inventories(tx, row.id) if i.resource_class == name]
        if not found:
            raise NotFound(f"No inventory of class {name[:255]} for {row.id}")
        stamp(req, resp, self.cloud, found[0].updated_at)
        resp.media = {"resource_provider_generation": row.generation, **_plain(found[0])}

    def on_put(self, req: Request, resp: Response, id: str, name: str) -> None:
        caller(req).may("placement:resource_providers:inventories:update")
        want = body(req, OneInventory)
        with self.cloud.db.begin() as tx:
            row = actions.get(tx, id)
            if not any(i.resource_class == name for i in actions.inventories(tx, row.id)):
                raise BadRequest(f"No inventory of class {name[:255]} found for provider {row.id}")
            generation = actions.advance(tx, self.cloud, row, want.resource_provider_generation)
            actions.set_inventories(tx, self.cloud, row, {name: inventory_of(req, want)}, only=name)
            made = next(i for i in actions.inventories(tx, row.id) if i.resource_class == name)
        stamp(req, resp, self.cloud)
        resp.media = {"resource_provider_generation": generation, **_plain(made)}

    def on_delete(self, req: Request, resp: Response, id: str, name: str) -> None:
        caller(req).may("placement:resource_providers:inventories:delete")
        with self.cloud.db.begin() as tx:
            row = actions.get(tx, id)
            if not any(i.resource_class == name for i in actions.inventories(tx, row.id)):
                raise NotFound(f"No inventory of class {name[:255]} found for delete: {row.id}")
            actions.set_inventories(tx, self.cloud, row, {}, only=name)
            actions.advance(tx, self.cloud, row, None)
        resp.status = 204


# -- usages, aggregates, traits, allocations ---------------------------------------------------------------------------


class ProviderUsages(_Room):
    """/resource_providers/{id}/usages"""

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        caller(req).may("placement:resource_providers:usages")
        with self.cloud.db.read() as tx:
            row = actions.get(tx, id)
            used = allocation.usages(tx, row.id)
        stamp(req, resp, self.cloud)
        resp.media = {"resource_provider_generation": row.generation, "usages": used}


class ProviderAllocations(_Room):
    """/resource_providers/{id}/allocations"""

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        caller(req).may("placement:resource_providers:allocations:list")
        with self.cloud.db.read() as tx:
            row = actions.get(tx, id)
            rows = allocation.of_provider(tx, row.id)
        made: dict[str, Any] = {}
        for a in rows:
            one = made.setdefault(a.consumer_id, {"resources": {}})
            one["resources"][a.resource_class] = a.used
            if since(req, 1, 28):
                one["consumer_generation"] = a.generation
        stamp(req, resp, self.cloud)
        resp.media = {"resource_provider_generation": row.generation, "allocations": made}


class ProviderAggregates(_Room):
    """/resource_providers/{id}/aggregates"""

    def _answer(self, req: Request, resp: Response, tx: Tx, id: str) -> None:
        resp.media = {"aggregates": actions.aggregates_of(tx, id)}
        if since(req, 1, 19):
            resp.media["resource_provider_generation"] = actions.get(tx, id).generation
        stamp(req, resp, self.cloud)

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        only(req, 1)
        caller(req).may("placement:resource_providers:aggregates:list")
        with self.cloud.db.read() as tx:
            self._answer(req, resp, tx, actions.get(tx, id).id)

    def on_put(self, req: Request, resp: Response, id: str) -> None:
        only(req, 1)
        caller(req).may("placement:resource_providers:aggregates:update")
        if since(req, 1, 19):
            want = body(req, AggregatesBody)
            listed, generation = want.aggregates, want.resource_provider_generation
        else:
            listed, generation = json_body(req), None
            if not isinstance(listed, list) or not all(isinstance(a, str) and is_uuid(a) for a in listed):
                raise BadRequest("Invalid input: the body is a list of UUIDs")
        if len(set(listed)) != len(listed):
            raise BadRequest("Invalid input: an aggregate is named twice")
        with self.cloud.db.begin() as tx:
            row = actions.get(tx, id)
            if generation is not None:
                actions.advance(tx, self.cloud, row, generation)
            actions.set_aggregates(tx, row.id, listed)
            self._answer(req, resp, tx, row.id)


class ProviderTraits(_Room):
    """/resource_providers/{id}/traits"""

    def _answer(self, req: Request, resp: Response, tx: Tx, id: str) -> None:
        stamp(req, resp, self.cloud)
        resp.media = {
            "resource_provider_generation": actions.get(tx, id).generation,
            "traits": actions.traits_of(tx, id),
        }

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        only(req, 6)
        caller(req).may("placement:resource_providers:traits:list")
        with self.cloud.db.read() as tx:
            self._answer(req, resp, tx, actions.get(tx, id).id)

    def on_put(self, req: Request, resp: Response, id: str) -> None:
        only(req, 6)
        caller(req).may("placement:resource_providers:traits:update")
        want = body(req, TraitsBody)
        with self.cloud.db.begin() as tx:
            row = actions.get(tx, id)
            actions.advance(tx, self.cloud, row, want.resource_provider_generation)
            actions.set_traits(tx, row.id, want.traits)
            self._answer(req, resp, tx, row.id)

    def on_delete(self, req: Request, resp: Response, id: str) -> None:
        only(req, 6)
        caller(req).may("placement:resource_providers:traits:delete")
        with self.cloud.db.begin() as tx:
            row = actions.get(tx, id)
            actions.set_traits(tx, row.id, [])
            actions.advance(tx, self.cloud, row, None)
        resp.status = 204
