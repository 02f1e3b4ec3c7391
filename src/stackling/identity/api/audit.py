"""/stackling/v1/audit: what was done in the cloud, by whom. Ours; upstream hands such events to a message bus."""

from typing import Any

from falcon import Request, Response

from stackling.base import audit, listing, rest
from stackling.base.audit import event
from stackling.base.clock import parse
from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest, NotFound
from stackling.identity.policy import AUDIT

_SAME = (
    "action",
    "outcome",
    "service",
    "target_type",
    "target_id",
    "user_id",
    "project_id",
    "address",
    "request_id",
)
_KNOWN = (*_SAME, "since", "until", "limit", "marker", "sort_dir")
_MOST = 1000  # events in one answer


class _Audit:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.db = cloud, cloud.db


class Events(_Audit):
    """/stackling/v1/audit: the latest first, unless `sort_dir` is `asc`."""

    def on_get(self, req: Request, resp: Response) -> None:
        rest.caller(req).may(AUDIT, {})
        unknown = next((name for name in req.params if name not in _KNOWN), None)
        if unknown is not None:
            raise BadRequest(f"Invalid input for query parameter {unknown[:64]}: there is no such filter")
        limit = rest.integer(rest.one_param(req, "limit") or "100", "limit", least=1, most=_MOST)
        order = rest.one_param(req, "sort_dir") or "desc"
        if order not in ("asc", "desc"):
            raise BadRequest("Invalid input for query parameter sort_dir: it is asc or desc")
        query = audit.listing(
            since=_instant(req, "since"),
            until=_instant(req, "until"),
            **{name: rest.one_param(req, name) for name in _SAME},
        )
        marker = rest.one_param(req, "marker")
        with self.db.read() as tx:
            after = None
            if marker:
                after = tx.execute(audit.listing(id=marker)).one_or_none()
                if after is None:
                    raise BadRequest("Invalid input for query parameter marker: there is no such event")
            rows = listing.page(tx, query, [(event.c.number, order == "desc")], limit=limit + 1, after=after)
        made: dict[str, Any] = {"events": [audit.cadf(row) for row in rows[:limit]]}
        if len(rows) > limit:
            kept = [p for p in (req.query_string or "").split("&") if p and not p.startswith("marker=")]
            here = rest.self_url(req, self.cloud)
            made["next"] = here + "?" + "&".join([*kept, f"marker={rows[limit - 1].id}"])
        resp.media = made


class Event(_Audit):
    """/stackling/v1/audit/{event_id}"""

    def on_get(self, req: Request, resp: Response, event_id: str) -> None:
        rest.caller(req).may(AUDIT, {})
        with self.db.read() as tx:
            row = tx.execute(audit.listing(id=event_id)).one_or_none()
        if row is None:
            raise NotFound(f"Could not find audit event: {event_id[:64]}.")
        resp.media = {"event": audit.cadf(row)}


def _instant(req: Request, name: str) -> Any:
    text = rest.one_param(req, name)
    if text is None:
        return None
    try:
        return parse(text.replace(" ", "+"))  # a plus of a zone that was not escaped
    except (ValueError, OverflowError):
        raise BadRequest(
            f"Invalid input for query parameter {name}: {text[:64]!r} is not an ISO 8601 time"
        ) from None


def routes(cloud: Cloud) -> list[tuple[str, object]]:
    return [("/stackling/v1/audit", Events(cloud)), ("/stackling/v1/audit/{event_id}", Event(cloud))]
