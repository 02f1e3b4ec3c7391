"""Flavors, their extra specs, and who may use private ones."""

from typing import Annotated, Any

import sqlalchemy as sa
from falcon import Request, Response
from msgspec import UNSET, Meta, field

from stackling.base import listing
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.base.microversion import Body
from stackling.base.microversion import since as from_version
from stackling.base.rest import body, boolean, caller, integer, json_body, one_param, view
from stackling.compute.actions import flavor as actions
from stackling.compute.actions.flavor import NewFlavor
from stackling.compute.api import extra_spec
from stackling.compute.api.body import Flag, Name, Unset, Whole, first, flag, name_of, or_none, present, whole
from stackling.compute.api.link import Links, known_queries, limit_of, paged
from stackling.compute.api.version import only, since
from stackling.compute.state.flavor import flavor

Description = Annotated[str, Meta(max_length=65535)] | None


class CreateFlavor(Body, kw_only=True):
    name: Name
    ram: Whole
    vcpus: Whole
    disk: Whole
    id: Annotated[str, Meta(min_length=1, max_length=255)] | int | Unset | None = UNSET
    swap: Whole | Unset = UNSET
    rxtx_factor: float | str | Unset = UNSET
    ephemeral: Whole | Unset = field(name="OS-FLV-EXT-DATA:ephemeral", default=UNSET)
    is_public: Flag | Unset = field(name="os-flavor-access:is_public", default=UNSET)
    description: Annotated[Description | Unset, from_version("2.55")] = UNSET


class UpdateFlavor(Body, kw_only=True):
    description: Description


class FlavorView(Body, kw_only=True):
    id: str
    name: str
    ram: int
    disk: int
    vcpus: int
    swap: int | str
    ephemeral: int = field(name="OS-FLV-EXT-DATA:ephemeral")
    disabled: bool = field(name="OS-FLV-DISABLED:disabled")
    is_public: bool = field(name="os-flavor-access:is_public")
    rxtx_factor: float
    links: list[dict[str, str]]
    description: Annotated[str | None, from_version("2.55")]
    extra_specs: Annotated[dict[str, str] | Unset, from_version("2.61")] = UNSET


def shown(req: Request, row: Row, links: Links) -> dict[str, Any]:
    swap = row.swap_mib or (0 if since(req, "2.75") else "")
    specs = row.extra_specs if caller(req).can("os_compute_api:os-flavor-extra-specs:index") else UNSET
    made = FlavorView(
        id=row.id,
        name=row.name,
        ram=row.ram_mib,
        disk=row.disk_gib,
        vcpus=row.vcpus,
        swap=swap,
        ephemeral=row.ephemeral_gib,
        disabled=False,
        is_public=row.is_public,
        rxtx_factor=row.rxtx_factor,
        links=links.of("flavors", row.id),
        description=row.description,
        extra_specs=specs,
    )
    return dict(view(req, made))


class _Room:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud


_SORT = {
    "flavorid": flavor.c.id,
    "id": flavor.c.id,
    "name": flavor.c.name,
    "memory_mb": flavor.c.ram_mib,
    "vcpus": flavor.c.vcpus,
    "root_gb": flavor.c.disk_gib,
    "created_at": flavor.c.created_at,
    "updated_at": flavor.c.updated_at,
    "ephemeral_gb": flavor.c.ephemeral_gib,
    "swap": flavor.c.swap_mib,
    "rxtx_factor": flavor.c.rxtx_factor,
    "is_public": flavor.c.is_public,
}


def _page(tx: Tx, req: Request, who: Caller) -> list[Row]:
    if since(req, "2.75"):
        known_queries(req, "limit", "marker", "is_public", "minRam", "minDisk", "sort_key", "sort_dir")
    query = sa.select(flavor)
    wanted = one_param(req, "is_public")
    if not who.is_admin:
        query = query.where(actions.visible(who))
    elif wanted is None:
        query = query.where(flavor.c.is_public.is_(True))
    elif wanted.lower() != "none":
        query = query.where(flavor.c.is_public.is_(boolean(wanted, "is_public")))
    for name, column in (("minRam", flavor.c.ram_mib), ("minDisk", flavor.c.disk_gib)):
        if (text := one_param(req, name)) is not None:
            query = query.where(column >= integer(text, name))
    key, way = one_param(req, "sort_key") or "flavorid", one_param(req, "sort_dir") or "asc"
    if key not in _SORT or way not in ("asc", "desc"):
        raise BadRequest(f"Invalid sort key or direction: {key[:64]!r}, {way[:64]!r}")
    after = None
    if marker := one_param(req, "marker"):
        after = tx.execute(sa.select(flavor).where(flavor.c.id == marker)).first()
        if after is None:
            raise BadRequest(f"marker [{marker[:64]}] not found")
    sort = [(_SORT[key], way == "desc")] + (
        [(flavor.c.id, way == "desc")] if key not in ("flavorid", "id") else []
    )
    return listing.page(tx, query, sort, limit=limit_of(req), after=after)


class Flavors(_Room):
    """/flavors"""

    def on_get(self, req: Request, resp: Response) -> None:
        links = Links(req, self.cloud)
        with self.cloud.db.read() as tx:
            rows = _page(tx, req, caller(req))
        made = [
            {"id": r.id, "name": r.name, "links": links.of("flavors", r.id)}
            | ({"description": r.description} if since(req, "2.55") else {})
            for r in rows
        ]
        resp.media = paged(req, self.cloud, "flavors", made, [r.id for r in rows], limit_of(req))

    def on_post(self, req: Request, resp: Response) -> None:
        caller(req).may("os_compute_api:os-flavor-manage:create")
        want = body(req, CreateFlavor, key="flavor")
        id = str(want.id) if present(want.id) else None
        if id is not None and (
            id != id.strip()
            or not id.replace("-", "").replace("_", "").replace(".", "").replace(" ", "").isalnum()
        ):
            raise BadRequest(
                "Invalid input for field/attribute id: it can have letters, digits, '.', '-', '_' and blanks inside"
            )
        try:
            factor = float(first(want.rxtx_factor) or 0) if present(want.rxtx_factor) else 1.0
        except ValueError:
            factor = -1.0
        if not 0 < factor < 3.4e38:
            raise BadRequest("Invalid input for field/attribute rxtx_factor: it is a number above 0")
        wanted = NewFlavor(
            name=name_of(want.name),
            vcpus=whole(want.vcpus, "vcpus", least=1),
            ram_mib=whole(want.ram, "ram", least=1),
            disk_gib=whole(want.disk, "disk"),
            ephemeral_gib=whole(want.ephemeral, "OS-FLV-EXT-DATA:ephemeral")
            if present(want.ephemeral)
            else 0,
            swap_mib=whole(want.swap, "swap") if present(want.swap) else 0,
            rxtx_factor=factor,
            is_public=flag(want.is_public, "os-flavor-access:is_public") if present(want.is_public) else True,
            id=id,
            description=or_none(want.description),
        )
        with self.cloud.db.begin() as tx:
            row = actions.create(tx, self.cloud, caller(req), wanted)
        resp.media = {"flavor": shown(req, row, Links(req, self.cloud))}


class FlavorsDetail(_Room):
    """/flavors/detail"""

    def on_get(self, req: Request, resp: Response) -> None:
        links = Links(req, self.cloud)
        with self.cloud.db.read() as tx:
            rows = _page(tx, req, caller(req))
        made = [shown(req, r, links) for r in rows]
        resp.media = paged(req, self.cloud, "flavors", made, [r.id for r in rows], limit_of(req))


class Flavor(_Room):
    """/flavors/{flavor_id}"""

    def on_get(self, req: Request, resp: Response, flavor_id: str) -> None:
        with self.cloud.db.read() as tx:
            row = actions.get(tx, caller(req), flavor_id)
        resp.media = {"flavor": shown(req, row, Links(req, self.cloud))}

    def on_put(self, req: Request, resp: Response, flavor_id: str) -> None:
        only(req, first="2.55")
        caller(req).may("os_compute_api:os-flavor-manage:update")
        want = body(req, UpdateFlavor, key="flavor")
        with self.cloud.db.begin() as tx:
            row = actions.update(tx, self.cloud, caller(req), flavor_id, want.description)
        resp.media = {"flavor": shown(req, row, Links(req, self.cloud))}

    def on_delete(self, req: Request, resp: Response, flavor_id: str) -> None:
        with self.cloud.db.begin() as tx:
            actions.delete(tx, caller(req), flavor_id)
        resp.status = 202


class Action(_Room):
    """/flavors/{flavor_id}/action"""

    def on_post(self, req: Request, resp: Response, flavor_id: str) -> None:
        given = json_body(req)
        if not isinstance(given, dict) or len(given) != 1:
            raise BadRequest("Malformed request body: an action is an object with one key")
        (name, value), who = next(iter(given.items())), caller(req)
        verbs = {"addTenantAccess": "add_tenant_access", "removeTenantAccess": "remove_tenant_access"}
        if name not in verbs:
            raise BadRequest(f"There is no such action: {name[:64]}")
        who.may(f"os_compute_api:os-flavor-access:{verbs[name]}")
        tenant = value.get("tenant") if isinstance(value, dict) else None
        if not isinstance(tenant, str) or not 0 < len(tenant) <= 255 or len(value) != 1:
            raise BadRequest("Invalid input for field/attribute tenant: it is the id of a project")
        with self.cloud.db.begin() as tx:
            if name == "addTenantAccess":
                found = actions.add_access(tx, who, flavor_id, tenant, refuse_public=since(req, "2.7"))
            else:
                found = actions.remove_access(tx, who, flavor_id, tenant)
        resp.media = {"flavor_access": [{"flavor_id": flavor_id, "tenant_id": p} for p in found]}


class Access(_Room):
    """/flavors/{flavor_id}/os-flavor-access"""

    def on_get(self, req: Request, resp: Response, flavor_id: str) -> None:
        with self.cloud.db.read() as tx:
            found = actions.accesses(tx, caller(req), flavor_id)
        resp.media = {"flavor_access": [{"flavor_id": flavor_id, "tenant_id": p} for p in found]}


def _specs(req: Request, given: Any) -> dict[str, str]:
    if not isinstance(given, dict) or not given:
        raise BadRequest(
            "Invalid input for field/attribute extra_specs: it is an object with at least one item"
        )
    made = {}
    for key, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (str, int, float)) or len(str(value)) > 255:
            raise BadRequest(
                f"Invalid input for field/attribute {key[:64]}: extra specs are texts or numbers of at most 255 characters"
            )
        made[key] = str(value)
        if since(req, "2.86"):
            extra_spec.validate(key, made[key])
    return made


class Specs(_Room):
    """/flavors/{flavor_id}/os-extra_specs"""

    def on_get(self, req: Request, resp: Response, flavor_id: str) -> None:
        caller(req).may("os_compute_api:os-flavor-extra-specs:index")
        with self.cloud.db.read() as tx:
            resp.media = {"extra_specs": actions.get(tx, caller(req), flavor_id).extra_specs}

    def on_post(self, req: Request, resp: Response, flavor_id: str) -> None:
        rule = "os_compute_api:os-flavor-extra-specs:create"
        caller(req).may(rule)
        given = json_body(req)
        if not isinstance(given, dict) or set(given) != {"extra_specs"}:
            raise BadRequest(
                "Invalid input for field/attribute extra_specs: 'extra_specs' is a required property"
            )
        specs = _specs(req, given["extra_specs"])
        with self.cloud.db.begin() as tx:
            actions.set_specs(tx, caller(req), flavor_id, specs, rule)
        resp.media = {"extra_specs": specs}


class Spec(_Room):
    """/flavors/{flavor_id}/os-extra_specs/{name}"""

    def on_get(self, req: Request, resp: Response, flavor_id: str, name: str) -> None:
        caller(req).may("os_compute_api:os-flavor-extra-specs:show")
        with self.cloud.db.read() as tx:
            row = actions.get(tx, caller(req), flavor_id)
        if name not in row.extra_specs:
            raise NotFound(f"Flavor {row.id} has no extra specs with key {name}.")
        resp.media = {name: row.extra_specs[name]}

    def on_put(self, req: Request, resp: Response, flavor_id: str, name: str) -> None:
        rule = "os_compute_api:os-flavor-extra-specs:update"
        caller(req).may(rule)
        specs = _specs(req, json_body(req))
        if set(specs) != {name}:
            raise BadRequest("Request body and URI mismatch")
        with self.cloud.db.begin() as tx:
            actions.set_specs(tx, caller(req), flavor_id, specs, rule)
        resp.media = specs

    def on_delete(self, req: Request, resp: Response, flavor_id: str, name: str) -> None:
        with self.cloud.db.begin() as tx:
            actions.delete_spec(tx, caller(req), flavor_id, name)
        resp.status = 200
