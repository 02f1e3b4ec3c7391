"""Transfers of volumes between projects: os-volume-transfer, and volume-transfers from 3.55 on."""

from typing import Annotated, Any

from falcon import Request, Response
from msgspec import UNSET, UnsetType

from stackling.base.clock import bare_micros
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.microversion import Body, Version, since
from stackling.base.rest import body, boolean, caller, one_param, version, view
from stackling.volume.actions import transfer
from stackling.volume.api import listing
from stackling.volume.api.body import Key, Lenient, Name, flag
from stackling.volume.api.version import since as exists_since
from stackling.volume.state.transfer import transfer as table

_SORT_KEYS = {
    "id": "id",
    "name": "name",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "volume_id": "volume_id",
}


class CreateTransfer(Body):
    volume_id: Key
    name: Name | None = None
    no_snapshots: Annotated[Lenient, since("3.55")] = False


class AcceptTransfer(Body):
    auth_key: Key


class TransferView(Body):
    id: str
    name: str | None
    volume_id: str
    links: list[dict[str, str]]
    created_at: str | UnsetType | None = UNSET
    auth_key: str | UnsetType = UNSET
    no_snapshots: Annotated[bool | UnsetType, since("3.55")] = UNSET
    source_project_id: Annotated[str | UnsetType, since("3.57")] = UNSET
    destination_project_id: Annotated[str | UnsetType | None, since("3.57")] = UNSET
    accepted: Annotated[bool | UnsetType, since("3.57")] = UNSET


class _Transfers:
    """What both paths share; `word` is the collection's name in the path, `minor` the version it exists since."""

    def __init__(self, cloud: Cloud, word: str, minor: int, *, detail: bool = False) -> None:
        self.cloud, self.word, self.minor, self.detail = cloud, word, minor, detail

    def short(self, req: Request, row: Row) -> Any:
        return view(
            req, TransferView(id=row.id, name=row.name, volume_id=row.volume_id, links=self._links(req, row))
        )

    def full(self, req: Request, row: Row, key: str | UnsetType = UNSET) -> Any:
        made = TransferView(
            id=row.id,
            name=row.name,
            volume_id=row.volume_id,
            links=self._links(req, row),
            created_at=bare_micros(row.created_at),
            auth_key=key,
            no_snapshots=row.no_snapshots,
            source_project_id=row.project_id,
            destination_project_id=None,
            accepted=False,
        )
        return view(req, made)

    def _links(self, req: Request, row: Row) -> list[dict[str, str]]:
        return listing.links(req, self.cloud, self.word, row.id)


class Transfers(_Transfers):
    """/v3/os-volume-transfer, /v3/volume-transfers, and …/detail"""

    def on_get(self, req: Request, resp: Response) -> None:
        exists_since(req, self.minor)
        want = listing.paging(req, _SORT_KEYS)
        sort = [(table.c[key], down) for key, down in want.sort if key != "id"] + [
            (table.c.id, want.sort[-1][1])
        ]
        who = caller(req)
        everybody = who.is_admin and boolean(one_param(req, "all_tenants") or "0", "all_tenants")
        with self.cloud.db.read() as tx:
            rows = transfer.listed(tx, who, sort, all_tenants=everybody, limit=want.limit, marker=want.marker)
        made = [(self.full if self.detail else self.short)(req, r) for r in rows]
        resp.media = listing.collection(req, self.cloud, "transfers", made, rows, want)
        if version(req) < Version(3, 59):
            resp.media.pop("transfers_links", None)

    def on_post(self, req: Request, resp: Response) -> None:
        exists_since(req, 999 if self.detail else self.minor)
        given = body(req, CreateTransfer, key="transfer")
        no_snapshots = given.no_snapshots is not UNSET and flag(given.no_snapshots, "no_snapshots")
        with self.cloud.db.begin() as tx:
            row, key = transfer.create(
                tx, self.cloud, caller(req), given.volume_id, given.name, no_snapshots=no_snapshots
            )
        resp.status, resp.media = "202 Accepted", {"transfer": self.full(req, row, key)}


class Transfer(_Transfers):
    """/v3/os-volume-transfer/{transfer_id}, /v3/volume-transfers/{transfer_id}"""

    def on_get(self, req: Request, resp: Response, transfer_id: str) -> None:
        exists_since(req, self.minor)
        with self.cloud.db.read() as tx:
            row = transfer.get(tx, caller(req), transfer_id)
        resp.media = {"transfer": self.full(req, row)}

    def on_delete(self, req: Request, resp: Response, transfer_id: str) -> None:
        exists_since(req, self.minor)
        with self.cloud.db.begin() as tx:
            transfer.delete(tx, self.cloud, caller(req), transfer_id)
        resp.status = "202 Accepted"


class Accept(_Transfers):
    """…/{transfer_id}/accept"""

    def on_post(self, req: Request, resp: Response, transfer_id: str) -> None:
        exists_since(req, self.minor)
        given = body(req, AcceptTransfer, key="accept")
        with self.cloud.db.begin() as tx:
            row = transfer.accept(tx, self.cloud, caller(req), transfer_id, given.auth_key)
        resp.status, resp.media = "202 Accepted", {"transfer": self.short(req, row)}
