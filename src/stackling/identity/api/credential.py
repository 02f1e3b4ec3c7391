"""/v3/credentials, a user's EC2 keys, /v3/ec2tokens and /v3/s3tokens"""

from typing import Any

import msgspec
from falcon import Request, Response
from msgspec import UNSET, UnsetType

from stackling.base import rest
from stackling.base.db import Row
from stackling.base.errors import BadRequest
from stackling.identity.actions import credential as actions
from stackling.identity.actions import ec2, encryption
from stackling.identity.api.resource import Resource, empty, filtered, given, wanted
from stackling.identity.state.credential import credential


class Create(msgspec.Struct, kw_only=True):
    blob: str
    type: str
    user_id: str
    project_id: str | None = None


class Update(msgspec.Struct, kw_only=True):
    blob: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    user_id: str | UnsetType = UNSET
    project_id: str | UnsetType | None = UNSET


class _Credentials(Resource):
    def shown(self, req: Request, row: Row) -> dict[str, Any]:
        made = {
            **row.extra,
            "id": row.id,
            "user_id": row.user_id,
            "project_id": row.project_id,
            "type": row.type,
            "blob": encryption.decrypt(self.cloud, row.blob),
        }
        return self.linked(req, f"/credentials/{row.id}", made)


class Credentials(_Credentials):
    """/v3/credentials"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            query = filtered(req, actions.listing(rest.caller(req)), credential, "user_id", "type")
            rows = list(tx.execute(query.order_by(credential.c.id)))
        resp.media = self.listed(req, "credentials", [self.shown(req, r) for r in rows])

    def on_post(self, req: Request, resp: Response) -> None:
        want, extra = wanted(req, "credential", Create)
        new = actions.New(
            user_id=want.user_id, type=want.type, blob=want.blob, project_id=want.project_id, extra=extra
        )
        with self.db.begin() as tx:
            row = actions.create(tx, self.cloud, rest.caller(req), new)
        resp.status, resp.media = "201 Created", {"credential": self.shown(req, row)}


class Credential(_Credentials):
    """/v3/credentials/{credential_id}"""

    def on_get(self, req: Request, resp: Response, credential_id: str) -> None:
        with self.db.read() as tx:
            row = actions.get(tx, rest.caller(req), credential_id)
        resp.media = {"credential": self.shown(req, row)}

    def on_patch(self, req: Request, resp: Response, credential_id: str) -> None:
        want, extra = wanted(req, "credential", Update)
        change = given(want)
        if extra:
            change["extra"] = extra
        if not change:
            raise BadRequest("Invalid input for field/attribute credential: nothing to change is named.")
        with self.db.begin() as tx:
            row = actions.update(tx, self.cloud, rest.caller(req), credential_id, change)
        resp.media = {"credential": self.shown(req, row)}

    def on_delete(self, req: Request, resp: Response, credential_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete(tx, rest.caller(req), credential_id)
        empty(resp)


# -- EC2 ---------------------------------------------------------------------------------------------------------------


class _Keys(Resource):
    def shown(self, req: Request, key: ec2.Key) -> dict[str, Any]:
        made = {
            "user_id": key.row.user_id,
            "tenant_id": key.row.project_id,
            "access": key.access,
            "secret": key.secret,
            "trust_id": key.trust_id,
        }
        return self.linked(req, f"/users/{key.row.user_id}/credentials/OS-EC2/{key.access}", made)


class CreateKey(msgspec.Struct, kw_only=True):
    tenant_id: str


class Keys(_Keys):
    """/v3/users/{user_id}/credentials/OS-EC2"""

    def on_get(self, req: Request, resp: Response, user_id: str) -> None:
        with self.db.read() as tx:
            found = ec2.listing(tx, self.cloud, rest.caller(req), user_id)
        resp.media = self.listed(req, "credentials", [self.shown(req, k) for k in found])

    def on_post(self, req: Request, resp: Response, user_id: str) -> None:
        want = rest.body(req, CreateKey)
        with self.db.begin() as tx:
            key = ec2.create(tx, self.cloud, rest.caller(req), user_id, want.tenant_id)
        resp.status, resp.media = "201 Created", {"credential": self.shown(req, key)}


class Key(_Keys):
    """/v3/users/{user_id}/credentials/OS-EC2/{credential_id}"""

    def on_get(self, req: Request, resp: Response, user_id: str, credential_id: str) -> None:
        with self.db.read() as tx:
            key = ec2.get(tx, self.cloud, rest.caller(req), user_id, credential_id)
        resp.media = {"credential": self.shown(req, key)}

    def on_delete(self, req: Request, resp: Response, user_id: str, credential_id: str) -> None:
        with self.db.begin() as tx:
            ec2.delete(tx, self.cloud, rest.caller(req), user_id, credential_id)
        empty(resp)


class _SignedTokens(Resource):
    s3 = False
    audited = {"POST": "authenticate"}

    def on_post(self, req: Request, resp: Response) -> None:
        value = rest.json_body(req)
        if not isinstance(value, dict):
            raise BadRequest("Expecting to find credentials in the request body.")
        made = ec2.login(self.cloud, rest.caller(req), value, s3=self.s3)
        resp.content_type, resp.data = "application/json", made.encoded(True)
        if not self.s3:
            resp.set_header("X-Subject-Token", made.text)


class Ec2Tokens(_SignedTokens):
    """/v3/ec2tokens"""


class S3Tokens(_SignedTokens):
    """/v3/s3tokens"""

    s3 = True


ROUTES = (
    ("/v3/credentials", Credentials),
    ("/v3/credentials/{credential_id}", Credential),
    ("/v3/users/{user_id}/credentials/OS-EC2", Keys),
    ("/v3/users/{user_id}/credentials/OS-EC2/{credential_id}", Key),
    ("/v3/ec2tokens", Ec2Tokens),
    ("/v3/s3tokens", S3Tokens),
)
