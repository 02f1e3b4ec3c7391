"""/v3/regions, /v3/services, /v3/endpoints"""

from typing import Annotated, Any, Literal, get_args

import msgspec
from falcon import Request, Response
from msgspec import UNSET, Meta, UnsetType

from stackling.base import rest
from stackling.base.db import Row
from stackling.base.errors import BadRequest
from stackling.identity.actions import region as regions
from stackling.identity.actions import service as services
from stackling.identity.api.resource import Resource, empty, filtered, given, paged, wanted
from stackling.identity.state.catalog import endpoint, region, service

RegionId = Annotated[str, Meta(max_length=255)]
Word = Annotated[str, Meta(min_length=1, max_length=255)]
Interface = Literal["public", "internal", "admin"]
Url = Annotated[str, Meta(max_length=225, pattern=r"^[a-zA-Z0-9+.-]+:.+")]


class CreateRegion(msgspec.Struct, kw_only=True):
    description: str | None = ""
    parent_region_id: RegionId | None = None
    id: RegionId | None = None


class UpdateRegion(msgspec.Struct, kw_only=True):
    description: str | UnsetType | None = UNSET
    parent_region_id: RegionId | UnsetType | None = UNSET


def region_shown(row: Row) -> dict[str, Any]:
    return {
        **row.extra,
        "id": row.id,
        "description": row.description,
        "parent_region_id": row.parent_region_id,
    }


class Regions(Resource):
    """/v3/regions"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            query = filtered(req, regions.listing(rest.caller(req)), region, "parent_region_id", "id")
            rows = list(tx.execute(query.order_by(region.c.id)))
        made = [self.linked(req, f"/regions/{r.id}", region_shown(r)) for r in rows]
        resp.media = self.listed(req, "regions", made)

    def on_post(self, req: Request, resp: Response) -> None:
        _make_region(self, req, resp, None)


def _make_region(self: Resource, req: Request, resp: Response, region_id: str | None) -> None:
    want, extra = wanted(req, "region", CreateRegion)
    if region_id is not None and want.id not in (None, region_id):
        raise BadRequest(f"Cannot create a region {region_id} with another id in the body.")
    if want.id and "/" in want.id:
        raise BadRequest("Invalid input for field/attribute id: a region's id has no slash.")
    new = regions.NewRegion(
        id=region_id or want.id,
        description=want.description or "",
        parent_region_id=want.parent_region_id,
        extra=extra,
    )
    with self.db.begin() as tx:
        row = regions.create(tx, rest.caller(req), new)
    resp.status, resp.media = (
        "201 Created",
        {"region": self.linked(req, f"/regions/{row.id}", region_shown(row))},
    )


class Region(Resource):
    """/v3/regions/{region_id}"""

    def on_get(self, req: Request, resp: Response, region_id: str) -> None:
        with self.db.read() as tx:
            row = regions.get(tx, rest.caller(req), region_id)
        resp.media = {"region": self.linked(req, f"/regions/{region_id}", region_shown(row))}

    def on_put(self, req: Request, resp: Response, region_id: str) -> None:
        _make_region(self, req, resp, region_id)

    def on_patch(self, req: Request, resp: Response, region_id: str) -> None:
        want, extra = wanted(req, "region", UpdateRegion)
        change = given(want)
        if "description" in change:
            change["description"] = change["description"] or ""
        if extra:
            change["extra"] = extra
        with self.db.begin() as tx:
            row = regions.update(tx, rest.caller(req), region_id, change)
        resp.media = {"region": self.linked(req, f"/regions/{region_id}", region_shown(row))}

    def on_delete(self, req: Request, resp: Response, region_id: str) -> None:
        with self.db.begin() as tx:
            regions.delete(tx, rest.caller(req), region_id)
        empty(resp)


# -- services ----------------------------------------------------------------------------------------------------------


class CreateService(msgspec.Struct, kw_only=True):
    type: Word
    name: Word | None = None
    description: str | UnsetType | None = UNSET
    enabled: bool = True


class UpdateService(msgspec.Struct, kw_only=True):
    type: Word | UnsetType = UNSET
    name: Word | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


def _with_description(extra: dict[str, Any], want: CreateService | UpdateService) -> dict[str, Any]:
    """A service's description is kept among its other attributes, and is text."""
    return extra if want.description is UNSET else {**extra, "description": want.description}


def service_shown(row: Row) -> dict[str, Any]:
    made = {**row.extra, "id": row.id, "type": row.type, "enabled": row.enabled}
    if row.name is not None:
        made["name"] = row.name
    return made


class Services(Resource):
    """/v3/services"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            query = filtered(req, services.listing(rest.caller(req)), service, "type", "name")
            rows, more = paged(req, tx, query, service)
        made = [self.linked(req, f"/services/{r.id}", service_shown(r)) for r in rows]
        resp.media = self.listed(req, "services", made, next_marker=more)

    def on_post(self, req: Request, resp: Response) -> None:
        want, extra = wanted(req, "service", CreateService)
        extra = _with_description(extra, want)
        new = services.NewService(type=want.type, name=want.name, enabled=want.enabled, extra=extra)
        with self.db.begin() as tx:
            row = services.create(tx, rest.caller(req), new)
        resp.status, resp.media = (
            "201 Created",
            {"service": self.linked(req, f"/services/{row.id}", service_shown(row))},
        )


class Service(Resource):
    """/v3/services/{service_id}"""

    def on_get(self, req: Request, resp: Response, service_id: str) -> None:
        with self.db.read() as tx:
            row = services.get(tx, rest.caller(req), service_id)
        resp.media = {"service": self.linked(req, f"/services/{service_id}", service_shown(row))}

    def on_patch(self, req: Request, resp: Response, service_id: str) -> None:
        want, extra = wanted(req, "service", UpdateService)
        extra = _with_description(extra, want)
        change = given(want)
        change.pop("description", None)
        if extra:
            change["extra"] = extra
        with self.db.begin() as tx:
            row = services.update(tx, rest.caller(req), service_id, change)
        resp.media = {"service": self.linked(req, f"/services/{service_id}", service_shown(row))}

    def on_delete(self, req: Request, resp: Response, service_id: str) -> None:
        with self.db.begin() as tx:
            services.delete(tx, rest.caller(req), service_id)
        empty(resp)


# -- endpoints ---------------------------------------------------------------------------------------------------------


class CreateEndpoint(msgspec.Struct, kw_only=True):
    service_id: str
    interface: Interface
    url: Url
    region_id: RegionId | None = None
    region: RegionId | None = None
    enabled: bool = True


class UpdateEndpoint(msgspec.Struct, kw_only=True):
    service_id: str | UnsetType = UNSET
    interface: Interface | UnsetType = UNSET
    url: Url | UnsetType = UNSET
    region_id: RegionId | UnsetType | None = UNSET
    region: RegionId | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


def endpoint_shown(row: Row) -> dict[str, Any]:
    return {
        **row.extra,
        "id": row.id,
        "interface": row.interface,
        "region_id": row.region_id,
        "region": row.region_id,
        "service_id": row.service_id,
        "url": row.url,
        "enabled": row.enabled,
    }


def many_endpoints(self: Resource, req: Request, rows: list[Row]) -> list[dict[str, Any]]:
    return [self.linked(req, f"/endpoints/{r.id}", endpoint_shown(r)) for r in rows]


class Endpoints(Resource):
    """/v3/endpoints"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            query = services.endpoint_listing(rest.caller(req))
            if rest.one_param(req, "interface") not in (None, *get_args(Interface)):
                raise BadRequest("Invalid input for query parameter interface: there is no such interface")
            old = rest.one_param(req, "region")
            if old is not None:
                query = query.where(endpoint.c.region_id == old)
            query = filtered(req, query, endpoint, "interface", "service_id", "region_id", "enabled")
            rows, more = paged(req, tx, query, endpoint)
        resp.media = self.listed(req, "endpoints", many_endpoints(self, req, rows), next_marker=more)

    def on_post(self, req: Request, resp: Response) -> None:
        want, extra = wanted(req, "endpoint", CreateEndpoint)
        new = services.NewEndpoint(
            service_id=want.service_id,
            interface=want.interface,
            url=want.url.strip(),
            region_id=want.region_id or want.region or None,
            enabled=want.enabled,
            extra=extra,
            make_region=not want.region_id,
        )
        with self.db.begin() as tx:
            row = services.create_endpoint(tx, rest.caller(req), new)
        resp.status, resp.media = "201 Created", {"endpoint": many_endpoints(self, req, [row])[0]}


class Endpoint(Resource):
    """/v3/endpoints/{endpoint_id}"""

    def on_get(self, req: Request, resp: Response, endpoint_id: str) -> None:
        with self.db.read() as tx:
            row = services.get_endpoint(tx, rest.caller(req), endpoint_id)
        resp.media = {"endpoint": many_endpoints(self, req, [row])[0]}

    def on_patch(self, req: Request, resp: Response, endpoint_id: str) -> None:
        want, extra = wanted(req, "endpoint", UpdateEndpoint)
        change = given(want)
        old = change.pop("region", UNSET)
        make_region = old is not UNSET and "region_id" not in change
        if make_region:
            change["region_id"] = old
        if extra:
            change["extra"] = extra
        with self.db.begin() as tx:
            row = services.update_endpoint(tx, rest.caller(req), endpoint_id, change, make_region=make_region)
        resp.media = {"endpoint": many_endpoints(self, req, [row])[0]}

    def on_delete(self, req: Request, resp: Response, endpoint_id: str) -> None:
        with self.db.begin() as tx:
            services.delete_endpoint(tx, rest.caller(req), endpoint_id)
        empty(resp)


ROUTES = (
    ("/v3/regions", Regions),
    ("/v3/regions/{region_id}", Region),
    ("/v3/services", Services),
    ("/v3/services/{service_id}", Service),
    ("/v3/endpoints", Endpoints),
    ("/v3/endpoints/{endpoint_id}", Endpoint),
)
