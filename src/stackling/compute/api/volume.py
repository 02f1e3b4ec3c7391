"""Volumes and snapshots as compute spoke of them before 2.36; all of it is block storage's."""

from typing import Annotated, Any

from falcon import Request, Response
from msgspec import UNSET, Meta

from stackling.base.clock import bare_micros
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.microversion import Body
from stackling.base.rest import body, caller, integer, one_param
from stackling.compute.api.body import Flag, Items, Unset, Whole, flag, or_none, present, whole
from stackling.compute.api.link import limit_of
from stackling.compute.api.version import only
from stackling.volume.actions import attachment as attachments
from stackling.volume.actions import search, volume_metadata, volume_type
from stackling.volume.actions import snapshot as snapshots
from stackling.volume.actions import volume as volumes
from stackling.volume.actions.volume import NewVolume

LAST = "2.35"
Text = Annotated[str, Meta(max_length=255)]


class CreateVolume(Body, kw_only=True):
    size: Whole
    display_name: Text | Unset | None = UNSET
    display_description: Text | Unset | None = UNSET
    volume_type: Text | Unset | None = UNSET
    metadata: Items | Unset | None = UNSET
    snapshot_id: Text | Unset | None = UNSET
    availability_zone: Text | Unset | None = UNSET


class CreateSnapshot(Body, kw_only=True):
    volume_id: Annotated[str, Meta(min_length=1, max_length=64)]
    display_name: Text | Unset | None = UNSET
    display_description: Text | Unset | None = UNSET
    force: Flag | Unset | None = UNSET


class _Room:
    """A collection; `verb` is the last word of the rule that guards its list."""

    def __init__(self, cloud: Cloud, verb: str = "list") -> None:
        self.cloud, self.verb = cloud, verb

    def _may(self, req: Request, rule: str) -> None:
        only(req, last=LAST)
        caller(req).may(f"os_compute_api:os-volumes:{rule}")


class Volumes(_Room):
    """/os-volumes and /os-volumes/detail"""

    def on_get(self, req: Request, resp: Response) -> None:
        self._may(req, self.verb)
        with self.cloud.db.read() as tx:
            rows, _ = search.volumes(tx, caller(req), _page(req))
            resp.media = {"volumes": _volumes(tx, rows)}

    def on_post(self, req: Request, resp: Response) -> None:
        self._may(req, "create")
        sent = body(req, CreateVolume, key="volume")
        want = NewVolume(
            size=whole(sent.size, "size", least=1),
            name=or_none(sent.display_name),
            description=or_none(sent.display_description),
            volume_type=or_none(sent.volume_type) or None,
            metadata=or_none(sent.metadata) or {},
            snapshot_id=or_none(sent.snapshot_id) or None,
            availability_zone=or_none(sent.availability_zone) or None,
        )
        with self.cloud.db.begin() as tx:
            row = volumes.create(tx, self.cloud, caller(req), want)
            resp.media = {"volume": _volumes(tx, [row])[0]}


class Volume(_Room):
    """/os-volumes/{volume_id}"""

    def on_get(self, req: Request, resp: Response, volume_id: str) -> None:
        self._may(req, "show")
        with self.cloud.db.read() as tx:
            resp.media = {"volume": _volumes(tx, [volumes.get(tx, caller(req), volume_id)])[0]}

    def on_delete(self, req: Request, resp: Response, volume_id: str) -> None:
        self._may(req, "delete")
        with self.cloud.db.begin() as tx:
            volumes.delete(tx, self.cloud, caller(req), volume_id)
        resp.status = 202


class Snapshots(_Room):
    """/os-snapshots and /os-snapshots/detail"""

    def on_get(self, req: Request, resp: Response) -> None:
        self._may(req, f"snapshots:{self.verb}")
        with self.cloud.db.read() as tx:
            rows, _ = search.snapshots(tx, caller(req), _page(req))
        resp.media = {"snapshots": [_snapshot(r) for r in rows]}

    def on_post(self, req: Request, resp: Response) -> None:
        self._may(req, "snapshots:create")
        sent = body(req, CreateSnapshot, key="snapshot")
        with self.cloud.db.begin() as tx:
            row = snapshots.create(
                tx,
                self.cloud,
                caller(req),
                volume_id=sent.volume_id,
                name=or_none(sent.display_name),
                description=or_none(sent.display_description),
                metadata={},
                force=present(sent.force) and flag(sent.force, "force"),
            )
        resp.media = {"snapshot": _snapshot(row)}


class Snapshot(_Room):
    """/os-snapshots/{snapshot_id}"""

    def on_get(self, req: Request, resp: Response, snapshot_id: str) -> None:
        self._may(req, "snapshots:show")
        with self.cloud.db.read() as tx:
            resp.media = {"snapshot": _snapshot(snapshots.get(tx, caller(req), snapshot_id))}

    def on_delete(self, req: Request, resp: Response, snapshot_id: str) -> None:
        self._may(req, "snapshots:delete")
        with self.cloud.db.begin() as tx:
            snapshots.delete(tx, self.cloud, caller(req), snapshot_id)
        resp.status = 202


def _page(req: Request) -> search.Search:
    offset = one_param(req, "offset")
    return search.Search(
        limit=limit_of(req), offset=integer(offset, "offset", most=2**31 - 1) if offset is not None else 0
    )


def _volumes(tx: Tx, rows: list[Row]) -> list[dict[str, Any]]:
    kept = [r.id for r in rows]
    metadata, held = volume_metadata.metadata_of(tx, kept), attachments.of_volumes(tx, kept)
    kinds = volume_type.names(tx, {r.volume_type_id for r in rows})
    return [
        {
            "id": row.id,
            "status": row.state,
            "size": row.size,
            "availabilityZone": row.availability_zone,
            "createdAt": bare_micros(row.created_at),
            "displayName": row.name,
            "displayDescription": row.description,
            "volumeType": kinds.get(row.volume_type_id),
            "snapshotId": row.snapshot_id,
            "metadata": metadata.get(row.id, {}),
            "attachments": [
                {"id": row.id, "volumeId": row.id, "serverId": a.server_id, "device": a.device}
                for a in held.get(row.id, [])
                if a.server_id and a.device
            ]
            or [{}],
        }
        for row in rows
    ]


def _snapshot(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "volumeId": row.volume_id,
        "status": row.state,
        "size": row.size,
        "createdAt": bare_micros(row.created_at),
        "displayName": row.name,
        "displayDescription": row.description,
    }
