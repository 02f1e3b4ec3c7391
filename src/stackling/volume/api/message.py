"""Messages (from 3.3 on): why something that ran after its request went wrong."""

from typing import Any

from falcon import Request, Response

from stackling.base.clock import bare_micros
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.rest import caller, one_param
from stackling.volume.actions import message
from stackling.volume.api import listing
from stackling.volume.api.version import since
from stackling.volume.state.message import message as table

_SORT_KEYS = {
    "id": "id",
    "created_at": "created_at",
    "event_id": "event_id",
    "resource_type": "resource_type",
    "resource_uuid": "resource_id",
    "request_id": "request_id",
    "guaranteed_until": "until",
}
_FILTERS = {
    "event_id": "event_id",
    "resource_type": "resource_type",
    "resource_uuid": "resource_id",
    "request_id": "request_id",
}


def view(req: Request, cloud: Cloud, row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "event_id": row.event_id,
        "user_message": row.says,
        "message_level": "ERROR",
        "resource_type": row.resource_type,
        "resource_uuid": row.resource_id,
        "request_id": row.request_id,
        "created_at": bare_micros(row.created_at),
        "guaranteed_until": bare_micros(row.until),
        "links": listing.links(req, cloud, "messages", row.id),
    }


class Messages:
    """/v3/messages"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        since(req, 3)
        want = listing.paging(req, _SORT_KEYS)
        filters = {
            column: text for name, column in _FILTERS.items() if (text := one_param(req, name)) is not None
        }
        sort = [(table.c[key], down) for key, down in want.sort if key != "id"] + [
            (table.c.id, want.sort[-1][1])
        ]
        with self.cloud.db.read() as tx:
            rows = message.listed(tx, caller(req), filters, sort, limit=want.limit, marker=want.marker)
        resp.media = listing.collection(
            req, self.cloud, "messages", [view(req, self.cloud, r) for r in rows], rows, want
        )


class Message:
    """/v3/messages/{message_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, message_id: str) -> None:
        since(req, 3)
        with self.cloud.db.read() as tx:
            resp.media = {"message": view(req, self.cloud, message.get(tx, caller(req), message_id))}

    def on_delete(self, req: Request, resp: Response, message_id: str) -> None:
        since(req, 3)
        with self.cloud.db.begin() as tx:
            message.delete(tx, caller(req), message_id)
        resp.status = "204 No Content"
