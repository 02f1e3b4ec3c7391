"""Services in the catalog, and the endpoints where they answer."""

import re
from typing import Any

import msgspec
import sqlalchemy as sa

from stackling.base import db, ids
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden, NotFound
from stackling.identity.actions.permission import may
from stackling.identity.state import revision
from stackling.identity.state.catalog import endpoint, region, service
from stackling.identity.state.limit import registered_limit

_PLACES = ("project_id", "tenant_id", "user_id")


class NewService(msgspec.Struct, kw_only=True):
    type: str
    name: str | None = None
    enabled: bool = True
    extra: dict[str, Any] = {}


class NewEndpoint(msgspec.Struct, kw_only=True):
    service_id: str
    interface: str
    url: str
    region_id: str | None = None
    enabled: bool = True
    extra: dict[str, Any] = {}
    make_region: bool = False  # the old field `region` makes what it names


def create(tx: Tx, caller: Caller, want: NewService) -> Row:
    may(caller, "create_service")
    revision.bump(tx)
    return tx.execute(
        service.insert().values(id=ids.hex32(), **msgspec.structs.asdict(want)).returning(service)
    ).one()


def get(tx: Tx, caller: Caller, service_id: str, rule: str = "get_service") -> Row:
    may(caller, rule)
    row = tx.execute(sa.select(service).where(service.c.id == service_id)).one_or_none()
    if row is None:
        raise NotFound(f"Could not find service: {service_id[:64]}.")
    return row


def listing(caller: Caller) -> sa.Select[Any]:
    may(caller, "list_services")
    return sa.select(service)


def update(tx: Tx, caller: Caller, service_id: str, change: dict[str, Any]) -> Row:
    row = get(tx, caller, service_id, "update_service")
    values = dict(change)
    if "extra" in values:
        values["extra"] = {**row.extra, **values["extra"]}
    if values:
        tx.execute(sa.update(service).where(service.c.id == service_id).values(**values))
    revision.bump(tx)
    return tx.execute(sa.select(service).where(service.c.id == service_id)).one()


def delete(tx: Tx, caller: Caller, service_id: str) -> None:
    get(tx, caller, service_id, "delete_service")
    if tx.execute(
        sa.select(registered_limit.c.id).where(registered_limit.c.service_id == service_id)
    ).first():
        raise Forbidden(f"Unable to delete service {service_id} because it has registered limits.")
    tx.execute(sa.delete(service).where(service.c.id == service_id))
    revision.bump(tx)


# -- endpoints ---------------------------------------------------------------------------------------------------------


def check_url(url: str) -> None:
    """Raise BadRequest for a URL with places that the catalog can't fill."""
    for name in re.findall(r"[$%]\(([^)]*)\)", url):
        if name not in _PLACES:
            raise BadRequest(
                f"Invalid input for field/attribute url: %({name[:32]})s is not one of {', '.join(_PLACES)}."
            )
    if re.search(r"[$%]\([^)]*(\)(?!s)|$)", url):
        raise BadRequest("Invalid input for field/attribute url: a place has the form %(project_id)s.")


def _check(tx: Tx, service_id: str | None, region_id: str | None, url: str | None) -> None:
    if (
        service_id is not None
        and not tx.execute(sa.select(service.c.id).where(service.c.id == service_id)).first()
    ):
        raise BadRequest("Expecting to find valid service_id in endpoint: there is no such service.")
    if (
        region_id is not None
        and not tx.execute(sa.select(region.c.id).where(region.c.id == region_id)).first()
    ):
        raise BadRequest("Expecting to find valid region_id in endpoint: there is no such region.")
    if url is not None:
        check_url(url)


def create_endpoint(tx: Tx, caller: Caller, want: NewEndpoint) -> Row:
    may(caller, "create_endpoint")
    if want.make_region and want.region_id:
        db.upsert(tx, region, {"id": want.region_id, "description": "", "extra": {}}, {}, key=("id",))
    _check(tx, want.service_id, want.region_id, want.url)
    values = {k: v for k, v in msgspec.structs.asdict(want).items() if k != "make_region"}
    revision.bump(tx)
    return tx.execute(endpoint.insert().values(id=ids.hex32(), **values).returning(endpoint)).one()


def get_endpoint(tx: Tx, caller: Caller, endpoint_id: str, rule: str = "get_endpoint") -> Row:
    may(caller, rule)
    row = tx.execute(sa.select(endpoint).where(endpoint.c.id == endpoint_id)).one_or_none()
    if row is None:
        raise NotFound(f"Could not find endpoint: {endpoint_id[:64]}.")
    return row


def endpoint_listing(caller: Caller) -> sa.Select[Any]:
    may(caller, "list_endpoints")
    return sa.select(endpoint)


def update_endpoint(
    tx: Tx, caller: Caller, endpoint_id: str, change: dict[str, Any], *, make_region: bool
) -> Row:
    """Change an endpoint. One that was given a URL of its own no longer follows the cloud's."""
    row = get_endpoint(tx, caller, endpoint_id, "update_endpoint")
    values = dict(change)
    if make_region and values.get("region_id"):
        db.upsert(tx, region, {"id": values["region_id"], "description": "", "extra": {}}, {}, key=("id",))
    _check(tx, values.get("service_id"), values.get("region_id"), values.get("url"))
    if "extra" in values:
        values["extra"] = {**row.extra, **values["extra"]}
    if "url" in values:
        values["path"] = None
    if values:
        tx.execute(sa.update(endpoint).where(endpoint.c.id == endpoint_id).values(**values))
    revision.bump(tx)
    return tx.execute(sa.select(endpoint).where(endpoint.c.id == endpoint_id)).one()


def delete_endpoint(tx: Tx, caller: Caller, endpoint_id: str) -> None:
    get_endpoint(tx, caller, endpoint_id, "delete_endpoint")
    tx.execute(sa.delete(endpoint).where(endpoint.c.id == endpoint_id))
    revision.bump(tx)
