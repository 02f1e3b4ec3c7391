"""Images as compute spoke of them before 2.36 (their metadata before 2.39); all of it is the image service's."""

from typing import Any

from falcon import Request, Response

from stackling.base.clock import parse, zulu
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.base.microversion import Body
from stackling.base.rest import body, caller, integer, one_param
from stackling.compute.actions import limits
from stackling.compute.api.body import Items, Key
from stackling.compute.api.link import Links, limit_of, paged
from stackling.compute.api.version import only
from stackling.image.actions import image as images
from stackling.image.actions.search import Search, listed
from stackling.image.state.image import State

LAST, METADATA_LAST = "2.35", "2.38"
_STATUS = {
    State.QUEUED: "SAVING",
    State.SAVING: "SAVING",
    State.UPLOADING: "SAVING",
    State.IMPORTING: "SAVING",
    State.ACTIVE: "ACTIVE",
}
_EQUAL = {"name": "name", "minDisk": "min_disk", "minRam": "min_ram"}
_PROPERTIES = {"server": "instance_uuid", "type": "image_type"}


class Metadata(Body, kw_only=True):
    metadata: Items


class MetadataItem(Body, kw_only=True):
    meta: dict[Key, str]


class _Room:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def _found(self, tx: Tx, req: Request, id: str) -> Row:
        try:
            return images.get(tx, caller(req), id)
        except NotFound:
            raise NotFound("Image not found.") from None


class Images(_Room):
    """/images and /images/detail"""

    def __init__(self, cloud: Cloud, *, detail: bool) -> None:
        super().__init__(cloud)
        self.detail = detail

    def on_get(self, req: Request, resp: Response) -> None:
        only(req, last=LAST)
        want = _search(req)
        links = Links(req, self.cloud)
        with self.cloud.db.read() as tx:
            try:
                rows = listed(tx, caller(req), want)
            except NotFound as e:
                raise BadRequest(e.says) from None
            known = images.properties_of(tx, [r.id for r in rows])
        shown = [_detailed(r, known.get(r.id, {}), links) if self.detail else _brief(r, links) for r in rows]
        resp.media = paged(req, self.cloud, "images", shown, [r.id for r in rows], want.limit)


class Image(_Room):
    """/images/{image_id}"""

    def on_get(self, req: Request, resp: Response, image_id: str) -> None:
        only(req, last=LAST)
        with self.cloud.db.read() as tx:
            row = self._found(tx, req, image_id)
            shown = _detailed(row, images.properties(tx, row.id), Links(req, self.cloud))
        resp.media = {"image": shown}

    def on_delete(self, req: Request, resp: Response, image_id: str) -> None:
        only(req, last=LAST)
        with self.cloud.db.begin() as tx:
            self._found(tx, req, image_id)
            images.delete(tx, self.cloud, caller(req), image_id)
        resp.status = 204


class ImageMetadata(_Room):
    """/images/{image_id}/metadata"""

    def on_get(self, req: Request, resp: Response, image_id: str) -> None:
        only(req, last=METADATA_LAST)
        with self.cloud.db.read() as tx:
            resp.media = {"metadata": images.properties(tx, self._found(tx, req, image_id).id)}

    def on_post(self, req: Request, resp: Response, image_id: str) -> None:
        self._write(req, resp, image_id, replace=False)

    def on_put(self, req: Request, resp: Response, image_id: str) -> None:
        self._write(req, resp, image_id, replace=True)

    def _write(self, req: Request, resp: Response, image_id: str, *, replace: bool) -> None:
        only(req, last=METADATA_LAST)
        sent = body(req, Metadata).metadata
        with self.cloud.db.begin() as tx:
            row = self._found(tx, req, image_id)
            made = {**({} if replace else images.properties(tx, row.id)), **sent}
            _keep(tx, self.cloud, req, row, made)
        resp.media = {"metadata": made}


class ImageMetadataItem(_Room):
    """/images/{image_id}/metadata/{key}"""

    def on_get(self, req: Request, resp: Response, image_id: str, key: str) -> None:
        only(req, last=METADATA_LAST)
        with self.cloud.db.read() as tx:
            known = images.properties(tx, self._found(tx, req, image_id).id)
        resp.media = {"meta": {key: _item(known, key)}}

    def on_put(self, req: Request, resp: Response, image_id: str, key: str) -> None:
        only(req, last=METADATA_LAST)
        sent = body(req, MetadataItem).meta
        if list(sent) != [key]:
            raise BadRequest("Request body and URI mismatch")
        with self.cloud.db.begin() as tx:
            row = self._found(tx, req, image_id)
            _keep(tx, self.cloud, req, row, {**images.properties(tx, row.id), **sent})
        resp.media = {"meta": sent}

    def on_delete(self, req: Request, resp: Response, image_id: str, key: str) -> None:
        only(req, last=METADATA_LAST)
        with self.cloud.db.begin() as tx:
            row = self._found(tx, req, image_id)
            known = images.properties(tx, row.id)
            _item(known, key)
            del known[key]
            _keep(tx, self.cloud, req, row, known)
        resp.status = 204


def _item(known: dict[str, str | None], key: str) -> str | None:
    if key not in known:
        raise NotFound("Metadata item was not found")
    return known[key]


def _keep(tx: Tx, cloud: Cloud, req: Request, row: Row, properties: dict[str, str | None]) -> None:
    who = caller(req)
    limits.check_metadata(tx, cloud, who.project_id or "", len(properties))
    images.update(tx, cloud, who, row, columns={}, properties=properties, tags=None)


def _search(req: Request) -> Search:
    """The filters of the old list; those that the image service does not know are passed over."""
    equal: list[tuple[str, list[Any]]] = []
    properties: list[tuple[str, str]] = []
    for name, column in _EQUAL.items():
        if (text := one_param(req, name)) is not None:
            equal.append((column, [text if column == "name" else integer(text, name, most=2**31 - 1)]))
    if (text := one_param(req, "status")) is not None:
        equal.append(("status", [s for s, word in _STATUS.items() if word == text.upper()] or [""]))
    for name, key in _PROPERTIES.items():
        if (text := one_param(req, name)) is not None:
            properties.append((key, text.rstrip("/").rpartition("/")[2]))
    times = []
    if (text := one_param(req, "changes-since")) is not None:
        try:
            times.append(("updated_at", "gte", parse(text.replace(" ", "+"))))
        except ValueError:
            raise BadRequest(
                f"Invalid input for field/attribute changes-since: {text[:64]!r} is not a date-time"
            ) from None
    return Search(
        equal=equal,
        properties=properties,
        times=times,
        limit=limit_of(req),
        marker=one_param(req, "marker"),
    )


def _brief(row: Row, links: Links) -> dict[str, Any]:
    alternate = {
        "rel": "alternate",
        "type": "application/vnd.openstack.image",
        "href": f"{links.images}/{row.id}",
    }
    return {"id": row.id, "name": row.name, "links": [*links.of("images", row.id), alternate]}


def _detailed(row: Row, properties: dict[str, str | None], links: Links) -> dict[str, Any]:
    made = {
        **_brief(row, links),
        "status": _STATUS.get(row.state, "UNKNOWN"),
        "created": zulu(row.created_at),
        "updated": zulu(row.updated_at),
        "minDisk": row.min_disk,
        "minRam": row.min_ram,
        "progress": 100 if row.state == State.ACTIVE else 25,
        "metadata": properties,
        "OS-EXT-IMG-SIZE:size": row.size,
    }
    if server := properties.get("instance_uuid"):
        made["server"] = {"id": server, "links": links.of("servers", server)}
    return made
