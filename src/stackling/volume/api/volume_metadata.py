"""Metadata of a volume."""

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest, NotFound
from stackling.base.rest import caller, convert, json_body
from stackling.volume.actions import volume_metadata
from stackling.volume.api.body import Items


def items(req: Request, key: str = "metadata") -> dict[str, str]:
    """The items under `key`. Raises BadRequest naming what is wrong."""
    given = json_body(req)
    return convert(given, Items, key=key)


def item(req: Request, key: str) -> dict[str, str]:
    """The one item of a body `{"meta": {key: value}}`."""
    made = items(req, "meta")
    if len(made) != 1:
        raise BadRequest("Invalid input for field/attribute meta: it must hold exactly one item")
    if key not in made:
        raise BadRequest("Request body and URI mismatch")
    return made


class Metadata:
    """/v3/volumes/{volume_id}/metadata"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, volume_id: str) -> None:
        with self.cloud.db.read() as tx:
            resp.media = {"metadata": volume_metadata.metadata(tx, caller(req), volume_id)}

    def _set(self, req: Request, resp: Response, volume_id: str, replace: bool) -> None:
        wanted = items(req)
        with self.cloud.db.begin() as tx:
            resp.media = {
                "metadata": volume_metadata.set_metadata(
                    tx, self.cloud, caller(req), volume_id, wanted, replace=replace
                )
            }

    def on_post(self, req: Request, resp: Response, volume_id: str) -> None:
        self._set(req, resp, volume_id, False)

    def on_put(self, req: Request, resp: Response, volume_id: str) -> None:
        self._set(req, resp, volume_id, True)


class Item:
    """/v3/volumes/{volume_id}/metadata/{key}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, volume_id: str, key: str) -> None:
        with self.cloud.db.read() as tx:
            found = volume_metadata.metadata(tx, caller(req), volume_id)
        if key not in found:
            raise NotFound("Metadata item was not found")
        resp.media = {"meta": {key: found[key]}}

    def on_put(self, req: Request, resp: Response, volume_id: str, key: str) -> None:
        wanted = item(req, key)
        with self.cloud.db.begin() as tx:
            volume_metadata.set_metadata(tx, self.cloud, caller(req), volume_id, wanted, replace=False)
        resp.media = {"meta": wanted}

    def on_delete(self, req: Request, resp: Response, volume_id: str, key: str) -> None:
        with self.cloud.db.begin() as tx:
            volume_metadata.remove_metadata(tx, self.cloud, caller(req), volume_id, key)
