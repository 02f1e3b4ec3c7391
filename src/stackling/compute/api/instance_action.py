"""What was done to a server."""

import hashlib
from typing import Any

from falcon import Request, Response

from stackling.base.clock import bare_micros, parse
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.base.rest import caller, one_param
from stackling.compute.actions import instance_action as actions
from stackling.compute.actions import server
from stackling.compute.api.link import known_queries, limit_of, next_page
from stackling.compute.api.version import since
from stackling.compute.state.server import server as table


def _server(tx: Tx, req: Request, who: Caller, server_id: str, rule: str) -> Row:
    """A server, from 2.21 on a deleted one as well."""
    if since(req, "2.21"):
        row = tx.execute(table.select().where(table.c.id == server_id)).first()
        says = f"Instance {server_id[:255]} could not be found."
        if row is None:
            raise NotFound(says)
        who.may_see(row.project_id, rule, says)
        return row
    return server.get(tx, who, server_id, rule)


def _shown(req: Request, row: Row) -> dict[str, Any]:
    made = {
        "action": row.action,
        "instance_uuid": row.server_id,
        "request_id": row.request_id,
        "user_id": row.user_id,
        "project_id": row.project_id,
        "start_time": bare_micros(row.started_at),
        "message": row.message,
    }
    return made | ({"updated_at": bare_micros(row.updated_at)} if since(req, "2.58") else {})


class InstanceActions:
    """/servers/{server_id}/os-instance-actions"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, server_id: str) -> None:
        rule = "os_compute_api:os-instance-actions:list"
        with self.cloud.db.read() as tx:
            row = _server(tx, req, caller(req), server_id, rule)
            rows = actions.of(tx, row.id)
        made: dict[str, Any] = {}
        if since(req, "2.58"):
            known_queries(
                req, "limit", "marker", "changes-since", *(["changes-before"] if since(req, "2.66") else [])
            )
            rows, full = self._paged(req, rows)
            if full:
                made["links"] = next_page(req, self.cloud, rows[-1].request_id)
        resp.media = {"instanceActions": [_shown(req, r) for r in rows], **made}

    def _paged(self, req: Request, rows: list[Row]) -> tuple[list[Row], bool]:
        for name, keeps in (
            ("changes-since", lambda r, t: r.updated_at >= t),
            ("changes-before", lambda r, t: r.updated_at <= t),
        ):
            if text := one_param(req, name):
                try:
                    when = parse(text.replace(" ", "+"))
                except (ValueError, OverflowError):
                    raise BadRequest(
                        f"Invalid input for query parameter {name}: {text[:64]!r} is not a 'date-time'"
                    ) from None
                rows = [r for r in rows if keeps(r, when)]
        if marker := one_param(req, "marker"):
            places = [i for i, r in enumerate(rows) if r.request_id == marker]
            if not places:
                raise BadRequest(f"marker [{marker[:64]}] not found")
            rows = rows[places[0] + 1 :]
        limit = limit_of(req)
        return rows[:limit], len(rows) >= limit and limit > 0


class InstanceAction:
    """/servers/{server_id}/os-instance-actions/{request_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, server_id: str, request_id: str) -> None:
        who = caller(req)
        with self.cloud.db.read() as tx:
            row = _server(tx, req, who, server_id, "os_compute_api:os-instance-actions:show")
            found = actions.get(tx, row.id, request_id)
        made = _shown(req, found)
        full = who.can("os_compute_api:os-instance-actions:events")
        details = since(req, "2.84") and who.can("os_compute_api:os-instance-actions:events:details")
        if full or since(req, "2.51"):
            made["events"] = [
                self._event(req, e, row, full) | ({"details": e["details"]} if details else {})
                for e in found.events
            ]
        resp.media = {"instanceAction": made}

    def _event(self, req: Request, event: dict[str, Any], row: Row, full: bool) -> dict[str, Any]:
        made = {
            "event": event["event"],
            "start_time": event["start"],
            "finish_time": event["finish"],
            "result": event["result"],
        }
        if full:
            made["traceback"] = event["details"]
        if since(req, "2.62"):
            made["hostId"] = _host_id(row.project_id, event["host"])
            if full:
                made["host"] = event["host"]
        return made


def _host_id(project_id: str, host: str | None) -> str:
    return hashlib.sha224(f"{project_id}{host}".encode()).hexdigest() if host else ""
