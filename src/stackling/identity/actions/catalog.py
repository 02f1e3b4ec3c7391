"""The catalog: which services there are and where, as one caller sees it."""

import re
from typing import Any

import sqlalchemy as sa

from stackling.base.db import Row, Tx
from stackling.base.statement import Statement
from stackling.identity.state.catalog import (
    endpoint,
    endpoint_group,
    project_endpoint,
    project_endpoint_group,
    service,
)
from stackling.identity.state.federation import service_provider

_PLACE = re.compile(r"[$%]\((\w+)\)s")


def url_of(template: str, *, user_id: str | None, project_id: str | None) -> str | None:
    """The URL with its places filled: `%(project_id)s`, `$(user_id)s`. None when the caller has nothing to fill in."""
    known = {"project_id": project_id, "tenant_id": project_id, "user_id": user_id}
    if any(known.get(name) is None for name in _PLACE.findall(template)):
        return None
    return _PLACE.sub(lambda m: str(known[m.group(1)]), template)


def rows(tx: Tx) -> list[Row]:
    """All enabled services with their enabled endpoints: the same for everybody."""
    return _ALL.all(tx)


def service_providers(tx: Tx) -> list[dict[str, str]]:
    """The enabled service providers, as tokens carry them."""
    table = service_provider.c
    query = (
        sa.select(table.id, table.auth_url, table.sp_url).where(table.enabled.is_(True)).order_by(table.id)
    )
    return [{"id": row.id, "auth_url": row.auth_url, "sp_url": row.sp_url} for row in tx.execute(query)]


def shown(tx: Tx, every: list[Row], *, user_id: str, project_id: str | None) -> list[dict[str, Any]]:
    """The catalog as a token carries it, made of what `rows` found."""
    only = associated(tx, project_id) if project_id else None
    made: dict[str, dict[str, Any]] = {}
    for row in every:
        entry = made.setdefault(
            row.service_id, {"endpoints": [], "id": row.service_id, "type": row.type, "name": row.name or ""}
        )
        if row.id is None or (only is not None and row.id not in only):
            continue
        url = url_of(row.url, user_id=user_id, project_id=project_id)
        if url is not None:
            entry["endpoints"].append(
                {
                    "id": row.id,
                    "interface": row.interface,
                    "region_id": row.region_id,
                    "url": url,
                    "region": row.region_id,
                }
            )
    return list(made.values())


_ALL = Statement(
    sa.select(
        service.c.id.label("service_id"),
        service.c.type,
        service.c.name,
        endpoint.c.id,
        endpoint.c.interface,
        endpoint.c.region_id,
        endpoint.c.url,
    )
    .outerjoin(endpoint, sa.and_(endpoint.c.service_id == service.c.id, endpoint.c.enabled.is_(True)))
    .where(service.c.enabled.is_(True))
    .order_by(service.c.type, service.c.id, endpoint.c.interface, endpoint.c.id)
)


def associated(tx: Tx, project_id: str) -> set[str] | None:
    """The endpoints that the project was narrowed to; None where it never was."""
    own = {row.endpoint_id for row in _OWN.all(tx, project_id=project_id)}
    groups = [row.filters for row in _GROUPS.all(tx, project_id=project_id)]
    if not own and not groups:
        return None
    for filters in groups:
        own |= {row.id for row in tx.execute(matching(filters))}
    return own


_OWN = Statement(
    sa.select(project_endpoint.c.endpoint_id).where(
        project_endpoint.c.project_id == sa.bindparam("project_id")
    )
)
_GROUPS = Statement(
    sa.select(endpoint_group.c.filters)
    .join(project_endpoint_group, project_endpoint_group.c.endpoint_group_id == endpoint_group.c.id)
    .where(project_endpoint_group.c.project_id == sa.bindparam("project_id"))
)


def matching(filters: dict[str, str]) -> sa.Select[Any]:
    """The endpoints that an endpoint group's filters select."""
    columns = {
        "service_id": endpoint.c.service_id,
        "region_id": endpoint.c.region_id,
        "interface": endpoint.c.interface,
        "enabled": endpoint.c.enabled,
    }
    wanted = [columns[name] == value for name, value in filters.items() if name in columns]
    return sa.select(endpoint).where(*wanted).order_by(endpoint.c.id)
