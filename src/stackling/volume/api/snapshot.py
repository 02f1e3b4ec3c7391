"""Snapshots: bodies, views, actions and metadata."""

from collections.abc import Sequence
from typing import Annotated, Any

from falcon import Request, Response
from msgspec import UNSET, UnsetType

from stackling.base.clock import bare_micros
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.base.microversion import Body, since
from stackling.base.rest import caller, convert, view
from stackling.volume.actions import search, snapshot
from stackling.volume.api import listing
from stackling.volume.api.body import Items, Lenient, Name, action, flag, loose
from stackling.volume.api.volume_metadata import item, items
from stackling.volume.state.snapshot import State

_FILTERS = {
    "id": "id",
    "name": "name",
    "display_name": "name",
    "status": "state",
    "volume_id": "volume_id",
    "metadata": "",
}
_ADMIN_FILTERS = {"project_id": "project_id", "tenant_id": "project_id", "user_id": "user_id", "host": "host"}
_SORT_KEYS = {
    "id": "id",
    "name": "name",
    "display_name": "name",
    "status": "state",
    "volume_id": "volume_id",
    "created_at": "created_at",
    "updated_at": "updated_at",
}


class CreateSnapshot(Body):
    volume_id: Name | None
    name: Name | None = None
    description: Name | None = None
    display_name: Name | None = None
    display_description: Name | None = None
    force: Lenient | None = None
    metadata: Items | None = None


class UpdateSnapshot(Body):
    name: Name | UnsetType | None = UNSET
    description: Name | UnsetType | None = UNSET
    display_name: Name | UnsetType | None = UNSET
    display_description: Name | UnsetType | None = UNSET


class ResetSnapshot(Body):
    status: str


class SnapshotStatus(Body):
    status: str
    progress: str | None = None


class SnapshotView(Body):
    id: str
    name: str | None
    description: str | None
    status: str
    size: int
    volume_id: str
    created_at: str | None
    updated_at: str | None
    metadata: dict[str, str]
    user_id: Annotated[str | UnsetType, since("3.41")] = UNSET


def shown(tx: Tx, req: Request, rows: Sequence[Row], *, extended: bool) -> list[dict[str, Any]]:
    """Many snapshots, with a fixed number of statements."""
    who = caller(req)
    metadata = snapshot.metadata_of(tx, [r.id for r in rows])
    made = []
    for row in rows:
        one = SnapshotView(
            id=row.id,
            name=row.name,
            description=row.description,
            status=row.state,
            size=row.size,
            volume_id=row.volume_id,
            created_at=bare_micros(row.created_at),
            updated_at=bare_micros(row.updated_at),
            metadata=metadata.get(row.id, {}),
            user_id=row.user_id,
        )
        plain = view(req, one)
        if extended and who.can(
            "volume_extension:extended_snapshot_attributes", {"project_id": row.project_id}
        ):
            plain["os-extended-snapshot-attributes:progress"] = (
                "100%" if row.state == State.AVAILABLE else "0%"
            )
            plain["os-extended-snapshot-attributes:project_id"] = row.project_id
        made.append(plain)
    return made


class Snapshots:
    """/v3/snapshots"""

    extended = False

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        want = listing.search(
            req,
            filters=_FILTERS,
            admin_filters=_ADMIN_FILTERS,
            sort_keys=_SORT_KEYS,
            like=("name", "display_name", "status"),
        )
        with self.cloud.db.read() as tx:
            rows, count = search.snapshots(tx, caller(req), want)
            made = shown(tx, req, rows, extended=self.extended)
        resp.media = listing.collection(req, self.cloud, "snapshots", made, rows, want, count)

    def on_post(self, req: Request, resp: Response) -> None:
        given, _ = loose(req, CreateSnapshot, "snapshot")
        if given.volume_id is None:
            raise NotFound("Volume None could not be found.")
        with self.cloud.db.begin() as tx:
            row = snapshot.create(
                tx,
                self.cloud,
                caller(req),
                volume_id=given.volume_id,
                name=given.name if given.name is not None else given.display_name,
                description=given.description if given.description is not None else given.display_description,
                metadata=given.metadata or {},
                force=given.force is not None and flag(given.force, "force"),
            )
            made = shown(tx, req, [row], extended=False)[0]
        resp.status, resp.media = "202 Accepted", {"snapshot": made}


class SnapshotsDetail(Snapshots):
    """/v3/snapshots/detail"""

    extended = True

    def on_post(self, req: Request, resp: Response) -> None:
        raise NotFound("The resource could not be found.")


class Snapshot:
    """/v3/snapshots/{snapshot_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, snapshot_id: str) -> None:
        with self.cloud.db.read() as tx:
            row = snapshot.get(tx, caller(req), snapshot_id)
            resp.media = {"snapshot": shown(tx, req, [row], extended=True)[0]}

    def on_put(self, req: Request, resp: Response, snapshot_id: str) -> None:
        given, _ = loose(req, UpdateSnapshot, "snapshot")
        columns: dict[str, Any] = {}
        for field, column in (
            ("display_name", "name"),
            ("display_description", "description"),
            ("name", "name"),
            ("description", "description"),
        ):
            if getattr(given, field) is not UNSET:
                columns[column] = getattr(given, field)
        if not columns:
            raise BadRequest("Invalid input for field/attribute snapshot: there is nothing to change")
        with self.cloud.db.begin() as tx:
            row = snapshot.update(tx, self.cloud, caller(req), snapshot_id, columns)
            resp.media = {"snapshot": shown(tx, req, [row], extended=False)[0]}

    def on_delete(self, req: Request, resp: Response, snapshot_id: str) -> None:
        with self.cloud.db.begin() as tx:
            snapshot.delete(tx, self.cloud, caller(req), snapshot_id)
        resp.status = "202 Accepted"


def _state(word: str, allowed: Sequence[str]) -> State:
    if word not in allowed:
        raise BadRequest(
            f"Invalid input for field/attribute status: {word[:64]!r} is none of {', '.join(allowed)}"
        )
    return State(word)


class Actions:
    """/v3/snapshots/{snapshot_id}/action"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_post(self, req: Request, resp: Response, snapshot_id: str) -> None:
        name, given = action(req)
        who = caller(req)
        with self.cloud.db.begin() as tx:
            if name == "os-reset_status":
                state = _state(convert(given, ResetSnapshot).status, list(State))
                snapshot.reset(
                    tx,
                    self.cloud,
                    who,
                    snapshot_id,
                    state,
                    "volume_extension:snapshot_admin_actions:reset_status",
                )
            elif name == "os-force_delete":
                snapshot.delete(tx, self.cloud, who, snapshot_id, force=True)
            elif name == "os-update_snapshot_status":
                state = _state(
                    convert(given, SnapshotStatus).status,
                    (State.CREATING, State.AVAILABLE, State.DELETING, State.ERROR, State.ERROR_DELETING),
                )
                snapshot.reset(
                    tx,
                    self.cloud,
                    who,
                    snapshot_id,
                    state,
                    "snapshot_extension:snapshot_actions:update_snapshot_status",
                )
            else:
                raise BadRequest(f"There is no such action: {name[:64]}")
        resp.status = "202 Accepted"


class Metadata:
    """/v3/snapshots/{snapshot_id}/metadata"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, snapshot_id: str) -> None:
        with self.cloud.db.read() as tx:
            resp.media = {"metadata": snapshot.metadata(tx, caller(req), snapshot_id)}

    def _set(self, req: Request, resp: Response, snapshot_id: str, replace: bool) -> None:
        wanted = items(req)
        with self.cloud.db.begin() as tx:
            resp.media = {
                "metadata": snapshot.set_metadata(
                    tx, self.cloud, caller(req), snapshot_id, wanted, replace=replace
                )
            }

    def on_post(self, req: Request, resp: Response, snapshot_id: str) -> None:
        self._set(req, resp, snapshot_id, False)

    def on_put(self, req: Request, resp: Response, snapshot_id: str) -> None:
        self._set(req, resp, snapshot_id, True)


class MetadataItem:
    """/v3/snapshots/{snapshot_id}/metadata/{key}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, snapshot_id: str, key: str) -> None:
        with self.cloud.db.read() as tx:
            found = snapshot.metadata(tx, caller(req), snapshot_id)
        if key not in found:
            raise NotFound("Metadata item was not found")
        resp.media = {"meta": {key: found[key]}}

    def on_put(self, req: Request, resp: Response, snapshot_id: str, key: str) -> None:
        wanted = item(req, key)
        with self.cloud.db.begin() as tx:
            snapshot.set_metadata(tx, self.cloud, caller(req), snapshot_id, wanted, replace=False)
        resp.media = {"meta": wanted}

    def on_delete(self, req: Request, resp: Response, snapshot_id: str, key: str) -> None:
        with self.cloud.db.begin() as tx:
            snapshot.remove_metadata(tx, self.cloud, caller(req), snapshot_id, key)
