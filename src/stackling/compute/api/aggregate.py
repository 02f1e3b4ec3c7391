"""Host aggregates."""

from typing import Annotated, Any

from falcon import Request, Response
from msgspec import UNSET, Meta

from stackling.base.clock import bare_micros
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest
from stackling.base.microversion import Body
from stackling.base.rest import body, caller, convert, json_body
from stackling.compute.actions import aggregate as actions
from stackling.compute.api.body import Id, Key, Name, Unset, name_of, or_none
from stackling.compute.api.version import only, since
from stackling.compute.state import aggregate as state

Zone = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^:]*$")]


class CreateAggregate(Body, kw_only=True):
    name: Name
    availability_zone: Zone | Unset | None = UNSET


class UpdateAggregate(Body, kw_only=True):
    name: Name | Unset = UNSET
    availability_zone: Zone | Unset | None = UNSET


class HostName(Body, kw_only=True):
    host: Name


class Items(Body, kw_only=True):
    metadata: dict[Key, Annotated[str, Meta(max_length=255)] | None]


def _shown(tx: Tx, req: Request, row: Row) -> dict[str, Any]:
    made = {
        "id": row.number,
        "name": row.name,
        "availability_zone": row.meta.get("availability_zone"),
        "hosts": state.hosts_of(tx).get(row.number, []),
        "metadata": row.meta,
        "created_at": bare_micros(row.created_at),
        "updated_at": bare_micros(row.updated_at),
        "deleted": False,
        "deleted_at": None,
    }
    return made | ({"uuid": row.uuid} if since(req, "2.41") else {})


class Aggregates:
    """/os-aggregates"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        caller(req).may("os_compute_api:os-aggregates:index")
        with self.cloud.db.read() as tx:
            resp.media = {"aggregates": [_shown(tx, req, r) for r in state.everyone(tx)]}

    def on_post(self, req: Request, resp: Response) -> None:
        caller(req).may("os_compute_api:os-aggregates:create")
        want = body(req, CreateAggregate, key="aggregate")
        with self.cloud.db.begin() as tx:
            made = _shown(
                tx, req, actions.create(tx, self.cloud, name_of(want.name), or_none(want.availability_zone))
            )
        del made["hosts"], made["metadata"]  # upstream leaves them out just here
        resp.media = {"aggregate": made}


class Aggregate:
    """/os-aggregates/{id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        caller(req).may("os_compute_api:os-aggregates:show")
        with self.cloud.db.read() as tx:
            resp.media = {"aggregate": _shown(tx, req, actions.get(tx, id))}

    def on_put(self, req: Request, resp: Response, id: str) -> None:
        caller(req).may("os_compute_api:os-aggregates:update")
        want = body(req, UpdateAggregate, key="aggregate")
        if want.name is UNSET and want.availability_zone is UNSET:
            raise BadRequest(
                "Invalid input for field/attribute aggregate: give a name or an availability_zone"
            )
        name = name_of(want.name) if want.name is not UNSET else None
        with self.cloud.db.begin() as tx:
            row = actions.update(
                tx,
                self.cloud,
                id,
                name=name,
                zone=or_none(want.availability_zone),
                set_zone=want.availability_zone is not UNSET,
            )
            resp.media = {"aggregate": _shown(tx, req, row)}

    def on_delete(self, req: Request, resp: Response, id: str) -> None:
        caller(req).may("os_compute_api:os-aggregates:delete")
        with self.cloud.db.begin() as tx:
            actions.delete(tx, id)
        resp.status = 200


class Action:
    """/os-aggregates/{id}/action"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_post(self, req: Request, resp: Response, id: str) -> None:
        given = json_body(req)
        if not isinstance(given, dict) or len(given) != 1:
            raise BadRequest("Malformed request body: an action is an object with one key")
        name, value = next(iter(given.items()))
        if name not in ("add_host", "remove_host", "set_metadata"):
            raise BadRequest(f"There is no such action: {str(name)[:64]}")
        caller(req).may(f"os_compute_api:os-aggregates:{name}")
        with self.cloud.db.begin() as tx:
            if name == "set_metadata":
                row = actions.set_metadata(tx, self.cloud, id, convert(value, Items).metadata)
            elif name == "add_host":
                row = actions.add_host(tx, id, convert(value, HostName).host)
            else:
                row = actions.remove_host(tx, id, convert(value, HostName).host)
            resp.media = {"aggregate": _shown(tx, req, row)}


class ImageId(Body, kw_only=True):
    id: Id


class CacheImages(Body, kw_only=True):
    cache: Annotated[list[ImageId], Meta(min_length=1)]


class Images:
    """/os-aggregates/{id}/images"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_post(self, req: Request, resp: Response, id: str) -> None:
        only(req, first="2.81")
        who = caller(req)
        who.may("compute:aggregates:images")
        wanted = [image.id for image in body(req, CacheImages).cache]
        if len(set(wanted)) != len(wanted):
            raise BadRequest("Invalid input for field/attribute cache: an image is named twice")
        with self.cloud.db.begin() as tx:
            actions.cache_images(tx, self.cloud, who, id, wanted)
        resp.status = 202
