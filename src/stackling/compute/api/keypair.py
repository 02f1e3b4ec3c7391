"""Key pairs."""

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from falcon import Request, Response
from msgspec import UNSET, Meta

from stackling.base.clock import bare_micros
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import BadRequest
from stackling.base.microversion import Body
from stackling.base.microversion import since as from_version
from stackling.base.rest import body, caller, one_param
from stackling.compute.actions import keypair as actions
from stackling.compute.api.body import Name, Unset, name_of, or_none, present
from stackling.compute.api.link import known_queries, limit_of, paged
from stackling.compute.api.version import since
from stackling.compute.state.keypair import keypair


class CreateKeypair(Body, kw_only=True):
    name: Name
    public_key: str | Unset = UNSET
    type: Annotated[Literal["ssh", "x509"] | Unset, from_version("2.2")] = UNSET
    user_id: Annotated[Annotated[str, Meta(min_length=1, max_length=255)] | Unset, from_version("2.10")] = (
        UNSET
    )


def shown(req: Request, row: Row) -> dict[str, Any]:
    made = {"name": row.name, "public_key": row.public_key, "fingerprint": row.fingerprint}
    return made | ({"type": row.type} if since(req, "2.2") else {})


def _user(req: Request) -> str:
    """The user whose keys are meant: the caller, or from 2.10 whom an admin names."""
    named = one_param(req, "user_id") if since(req, "2.10") else None
    return named or caller(req).user_id


class Keypairs:
    """/os-keypairs"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        user_id = _user(req)
        caller(req).may("os_compute_api:os-keypairs:index", {"user_id": user_id})
        if since(req, "2.75"):
            known_queries(req, "user_id", "limit", "marker")
        query = sa.select(keypair).where(keypair.c.user_id == user_id).order_by(keypair.c.name)
        paging = since(req, "2.35")
        with self.cloud.db.read() as tx:
            if paging:
                query = query.limit(limit_of(req))
                if marker := one_param(req, "marker"):
                    if (
                        tx.execute(
                            sa.select(keypair.c.number).where(
                                keypair.c.user_id == user_id, keypair.c.name == marker
                            )
                        ).first()
                        is None
                    ):
                        raise BadRequest(f"marker [{marker[:64]}] not found")
                    query = query.where(keypair.c.name > marker)
            rows = list(tx.execute(query))
        made = [{"keypair": shown(req, r)} for r in rows]
        resp.media = (
            paged(req, self.cloud, "keypairs", made, [r.name for r in rows], limit_of(req))
            if paging
            else {"keypairs": made}
        )

    def on_post(self, req: Request, resp: Response) -> None:
        want = body(req, CreateKeypair, key="keypair")
        name = name_of(want.name)
        marks = " -_@." if since(req, "2.92") else " -_"
        if not all(c.isascii() and (c.isalnum() or c in marks) for c in name):
            raise BadRequest("Keypair data is invalid: Keypair name contains unsafe characters")
        kind, user_id = or_none(want.type) or "ssh", or_none(want.user_id) or caller(req).user_id
        caller(req).may("os_compute_api:os-keypairs:create", {"user_id": user_id})
        private, public = None, or_none(want.public_key)
        if not present(public):
            if since(req, "2.92"):
                raise BadRequest(
                    "Invalid input for field/attribute public_key: 'public_key' is a required property; make the key pair yourself"
                )
            if kind != "ssh":
                raise BadRequest(
                    "A key pair of type x509 is imported: send public_key with a PEM certificate."
                )
            private, public = actions.generate("Generated-by-Stackling")
        with self.cloud.db.begin() as tx:
            row = actions.create(
                tx, self.cloud, caller(req), user_id=user_id, name=name, kind=kind, public_key=public
            )
        made = shown(req, row) | {"user_id": row.user_id}
        if private:
            made["private_key"] = private
        resp.status, resp.media = 201 if since(req, "2.2") else 200, {"keypair": made}


class Keypair:
    """/os-keypairs/{name}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, name: str) -> None:
        user_id = _user(req)
        caller(req).may("os_compute_api:os-keypairs:show", {"user_id": user_id})
        with self.cloud.db.read() as tx:
            row = actions.of(tx, user_id, name)
        more = {"user_id": row.user_id, "id": row.number, "created_at": bare_micros(row.created_at)}
        resp.media = {
            "keypair": shown(req, row) | more | {"updated_at": None, "deleted": False, "deleted_at": None}
        }

    def on_delete(self, req: Request, resp: Response, name: str) -> None:
        with self.cloud.db.begin() as tx:
            actions.delete(tx, caller(req), user_id=_user(req), name=name)
        resp.status = 204 if since(req, "2.2") else 202
