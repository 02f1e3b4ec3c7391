"""The hosts' image caches on the wire; upstream's cache of its API nodes, in shape."""

from datetime import UTC, datetime
from typing import Any

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import BadRequest
from stackling.base.rest import caller
from stackling.image.actions import cached
from stackling.image.state.cached import State

_CLEARED = {"": tuple(State), "both": tuple(State), "cache": (State.CACHED,), "queue": (State.QUEUED,)}


def _stamp(when: datetime) -> float:
    return when.replace(tzinfo=UTC).timestamp()


def _view(rows: list[Row]) -> dict[str, Any]:
    """One image on however many hosts."""
    return {
        "image_id": rows[0].image_id,
        "hits": sum(r.hits for r in rows),
        "last_accessed": max(_stamp(r.used_at) for r in rows),
        "last_modified": max(_stamp(r.updated_at or r.created_at) for r in rows),
        "size": max(r.size for r in rows),
        "hosts": [r.host for r in rows],
    }


class Cache:
    """/v2/cache"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        with self.cloud.db.read() as tx:
            rows = cached.listed(tx, caller(req))
        there: dict[str, list[Row]] = {}
        for row in rows:
            if row.state == State.CACHED:
                there.setdefault(row.image_id, []).append(row)
        queued = dict.fromkeys(r.image_id for r in rows if r.state == State.QUEUED)
        resp.media = {
            "cached_images": [_view(found) for found in there.values()],
            "queued_images": list(queued),
        }

    def on_delete(self, req: Request, resp: Response) -> None:
        target = (req.get_header("x-image-cache-clear-target") or "").lower()
        if target not in _CLEARED:
            raise BadRequest(
                "If provided 'x-image-cache-clear-target' must be 'cache', 'queue' or empty string."
            )
        with self.cloud.db.begin() as tx:
            cached.clear(tx, self.cloud, caller(req), _CLEARED[target])
        resp.status = "204 No Content"


class Cached:
    """/v2/cache/{image_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_put(self, req: Request, resp: Response, image_id: str) -> None:
        with self.cloud.db.begin() as tx:
            cached.queue(tx, self.cloud, caller(req), image_id)
        resp.status = "202 Accepted"

    def on_delete(self, req: Request, resp: Response, image_id: str) -> None:
        with self.cloud.db.begin() as tx:
            cached.drop(tx, self.cloud, caller(req), image_id)
        resp.status = "204 No Content"


class Nodes:
    """/v2/cache/nodes/{image_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, image_id: str) -> None:
        with self.cloud.db.read() as tx:
            resp.media = {"cached_nodes": cached.hosts_of(tx, caller(req), image_id)}


class Look:
    """/v2/cache/clean and /v2/cache/prune: what the periodic look at each host does, now."""

    def __init__(self, cloud: Cloud, rule: str) -> None:
        self.cloud, self.rule = cloud, rule

    def on_post(self, req: Request, resp: Response) -> None:
        with self.cloud.db.begin() as tx:
            cached.look(tx, self.cloud, caller(req), self.rule)
        resp.media = {}
