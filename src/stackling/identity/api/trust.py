"""/v3/OS-TRUST/trusts"""

from typing import Annotated, Any

import msgspec
from falcon import Request, Response
from msgspec import Meta

from stackling.base import clock, rest
from stackling.base.db import Row, Tx
from stackling.base.errors import NotFound
from stackling.identity.actions import trust as actions
from stackling.identity.api import role as role_api
from stackling.identity.api.application_credential import Role as RoleRef
from stackling.identity.api.application_credential import instant
from stackling.identity.api.resource import Resource, empty, wanted

_BELOW = "/OS-TRUST/trusts"


class Create(msgspec.Struct, kw_only=True):
    trustor_user_id: str
    trustee_user_id: str
    impersonation: bool
    project_id: str | None = None
    roles: list[RoleRef] = []
    expires_at: str | None = None
    remaining_uses: Annotated[int, Meta(ge=1)] | None = None
    allow_redelegation: bool | None = False
    redelegation_count: Annotated[int, Meta(ge=0)] | None = None
    redelegated_trust_id: str | None = None


def summary(row: Row) -> dict[str, Any]:
    return {
        **row.extra,
        "id": row.id,
        "trustor_user_id": row.trustor_user_id,
        "trustee_user_id": row.trustee_user_id,
        "project_id": row.project_id,
        "impersonation": row.impersonation,
        "expires_at": clock.zulu_micros(row.expires_at),
        "remaining_uses": row.remaining_uses,
        "redelegation_count": row.redelegation_count,
        "redelegated_trust_id": row.redelegated_trust_id,
        "deleted_at": None,
    }


class _Trusts(Resource):
    def shown(self, req: Request, tx: Tx, row: Row) -> dict[str, Any]:
        made = summary(row)
        made["roles"] = [
            self.linked(req, f"/roles/{r.id}", role_api.shown(r)) for r in actions.roles_of(tx, row.id)
        ]
        link = self.url(req, f"{_BELOW}/{row.id}/roles")
        made["roles_links"] = {"self": link, "next": None, "previous": None}
        return self.linked(req, f"{_BELOW}/{row.id}", made)


class Trusts(_Trusts):
    """/v3/OS-TRUST/trusts"""

    def on_get(self, req: Request, resp: Response) -> None:
        trustor, trustee = rest.one_param(req, "trustor_user_id"), rest.one_param(req, "trustee_user_id")
        with self.db.read() as tx:
            rows = tx.execute(actions.listing(self.cloud, rest.caller(req), trustor, trustee)).all()
        made = [self.linked(req, f"{_BELOW}/{r.id}", summary(r)) for r in rows]
        resp.media = self.listed(req, "trusts", made)

    def on_post(self, req: Request, resp: Response) -> None:
        want, extra = wanted(req, "trust", Create)
        new = actions.New(
            trustor_user_id=want.trustor_user_id,
            trustee_user_id=want.trustee_user_id,
            impersonation=want.impersonation,
            project_id=want.project_id,
            roles=want.roles,
            expires_at=instant(want.expires_at, "expires_at"),
            remaining_uses=want.remaining_uses,
            allow_redelegation=bool(want.allow_redelegation),
            redelegation_count=want.redelegation_count,
            extra=extra,
        )
        with self.db.begin() as tx:
            made = self.shown(req, tx, actions.create(tx, self.cloud, rest.caller(req), new))
        resp.status, resp.media = "201 Created", {"trust": made}


class Trust(_Trusts):
    """/v3/OS-TRUST/trusts/{trust_id}"""

    def on_get(self, req: Request, resp: Response, trust_id: str) -> None:
        with self.db.read() as tx:
            made = self.shown(req, tx, actions.get(tx, self.cloud, rest.caller(req), trust_id))
        resp.media = {"trust": made}

    def on_delete(self, req: Request, resp: Response, trust_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete(tx, self.cloud, rest.caller(req), trust_id)
        empty(resp)


class Roles(_Trusts):
    """/v3/OS-TRUST/trusts/{trust_id}/roles"""

    def on_get(self, req: Request, resp: Response, trust_id: str) -> None:
        with self.db.read() as tx:
            row = actions.get(tx, self.cloud, rest.caller(req), trust_id, "list_roles_for_trust")
            found = actions.roles_of(tx, row.id)
        made = [self.linked(req, f"/roles/{r.id}", role_api.shown(r)) for r in found]
        resp.media = self.listed(req, "roles", made)


class Role(_Trusts):
    """/v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}"""

    def on_get(self, req: Request, resp: Response, trust_id: str, role_id: str) -> None:
        with self.db.read() as tx:
            row = actions.get(tx, self.cloud, rest.caller(req), trust_id, "get_role_for_trust")
            found = [r for r in actions.roles_of(tx, row.id) if r.id == role_id]
        if not found:
            raise NotFound(f"Could not find role: {role_id[:64]}.")
        resp.media = {"role": self.linked(req, f"/roles/{role_id}", role_api.shown(found[0]))}


ROUTES = (
    ("/v3/OS-TRUST/trusts", Trusts),
    ("/v3/OS-TRUST/trusts/{trust_id}", Trust),
    ("/v3/OS-TRUST/trusts/{trust_id}/roles", Roles),
    ("/v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}", Role),
)
