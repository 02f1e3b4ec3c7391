"""/v3/OS-OAUTH1: consumers, request tokens and access tokens"""

from typing import Any
from urllib.parse import parse_qsl

import msgspec
from falcon import Request, Response
from msgspec import UNSET, UnsetType

from stackling.base import clock, rest
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import NotFound
from stackling.identity.actions import oauth1 as actions
from stackling.identity.api import role as role_api
from stackling.identity.api.resource import Resource, empty, given, wanted


class Create(msgspec.Struct, kw_only=True):
    description: str | None = None


class Update(msgspec.Struct, kw_only=True):
    description: str | UnsetType | None = UNSET


def signed(req: Request, cloud: Cloud) -> actions.Signed:
    """The request as its sender signed it."""
    params = parse_qsl(req.query_string or "", keep_blank_values=True)
    return actions.Signed(
        verb=req.method,
        url=rest.self_url(req, cloud),
        oauth=actions.parse_header(req.get_header("Authorization")),
        params=params,
    )


class _Consumers(Resource):
    def shown(self, req: Request, row: Row) -> dict[str, Any]:
        made = {**row.extra, "id": row.id, "description": row.description}
        return self.linked(req, f"/OS-OAUTH1/consumers/{row.id}", made)


class Consumers(_Consumers):
    """/v3/OS-OAUTH1/consumers"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            rows = tx.execute(actions.consumers(rest.caller(req))).all()
        resp.media = self.listed(req, "consumers", [self.shown(req, r) for r in rows])

    def on_post(self, req: Request, resp: Response) -> None:
        want, extra = wanted(req, "consumer", Create)
        extra.pop("secret", None)
        with self.db.begin() as tx:
            row, secret = actions.create_consumer(tx, self.cloud, rest.caller(req), want.description, extra)
        resp.status, resp.media = "201 Created", {"consumer": {**self.shown(req, row), "secret": secret}}


class Consumer(_Consumers):
    """/v3/OS-OAUTH1/consumers/{consumer_id}"""

    def on_get(self, req: Request, resp: Response, consumer_id: str) -> None:
        with self.db.read() as tx:
            row = actions.get_consumer(tx, rest.caller(req), consumer_id)
        resp.media = {"consumer": self.shown(req, row)}

    def on_patch(self, req: Request, resp: Response, consumer_id: str) -> None:
        want, extra = wanted(req, "consumer", Update)
        change = given(want)
        if extra:
            change["extra"] = extra
        with self.db.begin() as tx:
            row = actions.update_consumer(tx, rest.caller(req), consumer_id, change)
        resp.media = {"consumer": self.shown(req, row)}

    def on_delete(self, req: Request, resp: Response, consumer_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete_consumer(tx, rest.caller(req), consumer_id)
        empty(resp)


class _Handed(Resource):
    """A token and its secret, in the form that OAuth has it."""

    public = True  # the consumer's signature stands for a token

    def hand(self, resp: Response, row: Row, secret: str) -> None:
        resp.status, resp.content_type = "201 Created", "application/x-www-form-urlencoded"
        ends = f"&oauth_expires_at={clock.zulu_micros(row.expires_at)}" if row.expires_at else ""
        resp.text = f"oauth_token={row.id}&oauth_token_secret={secret}{ends}"


class RequestToken(_Handed):
    """/v3/OS-OAUTH1/request_token"""

    def on_post(self, req: Request, resp: Response) -> None:
        request = signed(req, self.cloud)
        with self.db.begin() as tx:
            self.hand(resp, *actions.request(tx, self.cloud, request, req.get_header("Requested-Project-Id")))


class AccessToken(_Handed):
    """/v3/OS-OAUTH1/access_token"""

    def on_post(self, req: Request, resp: Response) -> None:
        request = signed(req, self.cloud)
        with self.db.begin() as tx:
            self.hand(resp, *actions.access(tx, self.cloud, request))


class Authorize(Resource):
    """/v3/OS-OAUTH1/authorize/{request_token_id}"""

    def on_put(self, req: Request, resp: Response, request_token_id: str) -> None:
        roles = rest.convert(rest.json_body(req), list[dict[str, str]], key="roles")
        with self.db.begin() as tx:
            verifier = actions.authorize(tx, self.cloud, rest.caller(req), request_token_id, roles)
        resp.media = {"token": {"oauth_verifier": verifier}}


class _Tokens(Resource):
    def shown(self, req: Request, row: Row) -> dict[str, Any]:
        root = f"/users/{row.user_id}/OS-OAUTH1/access_tokens/{row.id}"
        made = self.linked(
            req,
            root,
            {
                "id": row.id,
                "consumer_id": row.consumer_id,
                "project_id": row.project_id,
                "authorizing_user_id": row.user_id,
                "expires_at": clock.zulu_micros(row.expires_at),
            },
        )
        made["links"]["roles"] = self.url(req, f"{root}/roles")
        return made


class Tokens(_Tokens):
    """/v3/users/{user_id}/OS-OAUTH1/access_tokens"""

    def on_get(self, req: Request, resp: Response, user_id: str) -> None:
        with self.db.read() as tx:
            rows = actions.access_tokens(tx, rest.caller(req), user_id)
        resp.media = self.listed(req, "access_tokens", [self.shown(req, r) for r in rows])


class Token(_Tokens):
    """/v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}"""

    def on_get(self, req: Request, resp: Response, user_id: str, access_token_id: str) -> None:
        with self.db.read() as tx:
            row = actions.access_token_of(tx, rest.caller(req), user_id, access_token_id)
        resp.media = {"access_token": self.shown(req, row)}

    def on_delete(self, req: Request, resp: Response, user_id: str, access_token_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete_access_token(tx, rest.caller(req), user_id, access_token_id)
        empty(resp)


class TokenRoles(Resource):
    """/v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}/roles[/{role_id}]"""

    def on_get(
        self, req: Request, resp: Response, user_id: str, access_token_id: str, role_id: str | None = None
    ) -> None:
        rule = "get_access_token_role" if role_id else "list_access_token_roles"
        with self.db.read() as tx:
            row = actions.access_token_of(tx, rest.caller(req), user_id, access_token_id, rule)
            rows = actions.roles_of(tx, row)
        made = {r.id: self.linked(req, f"/roles/{r.id}", role_api.shown(r)) for r in rows}
        if role_id is None:
            resp.media = self.listed(req, "roles", list(made.values()))
        elif role_id not in made:
            raise NotFound(f"Could not find role: {role_id[:64]}.")
        else:
            resp.media = {"role": made[role_id]}


_USER = "/v3/users/{user_id}/OS-OAUTH1/access_tokens"
ROUTES = (
    ("/v3/OS-OAUTH1/consumers", Consumers),
    ("/v3/OS-OAUTH1/consumers/{consumer_id}", Consumer),
    ("/v3/OS-OAUTH1/request_token", RequestToken),
    ("/v3/OS-OAUTH1/access_token", AccessToken),
    ("/v3/OS-OAUTH1/authorize/{request_token_id}", Authorize),
    (_USER, Tokens),
    (f"{_USER}/{{access_token_id}}", Token),
    (f"{_USER}/{{access_token_id}}/roles", TokenRoles),
    (f"{_USER}/{{access_token_id}}/roles/{{role_id}}", TokenRoles),
)
