"""/v3/users/{user_id}/application_credentials and access_rules"""

from typing import Annotated, Any, Literal

import msgspec
from falcon import Request, Response
from msgspec import Meta

from stackling.base import clock, rest
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest
from stackling.identity.actions import application_credential as actions
from stackling.identity.actions import secret
from stackling.identity.api.resource import Id, Name, Resource, empty, filtered
from stackling.identity.state import credential


class Rule(msgspec.Struct, kw_only=True):
    id: Id | None = None
    service: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9-]+$")] | None = None
    path: Annotated[str, Meta(max_length=225, pattern=r"^/")] | None = None
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] | None = None


class Role(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    id: str | None = None
    name: str | None = None


class Create(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: Name
    description: str | None = None
    secret: str | None = None
    expires_at: str | None = None
    roles: list[Role] | None = None
    unrestricted: bool | None = False
    access_rules: list[Rule] | None = None
    id: str | None = None
    project_id: str | None = None
    user_id: str | None = None
    system: str | None = None


def instant(text: str | None, name: str) -> Any:
    """A time in a body. Raises BadRequest naming the field."""
    if not text:
        return None
    try:
        return clock.parse(text)
    except (ValueError, OverflowError):
        raise BadRequest(
            f"Invalid input for field/attribute {name}: {text[:64]!r} is not an ISO 8601 time."
        ) from None


def shown(tx: Tx, row: Row) -> dict[str, Any]:
    made = {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "user_id": row.user_id,
        "project_id": row.project_id,
        "system": row.system,
        "expires_at": clock.bare_micros(row.expires_at),
        "unrestricted": row.unrestricted,
        "roles": [
            {
                "id": r.id,
                "name": r.name,
                "domain_id": r.domain_id,
                "description": r.description,
                "options": r.options,
            }
            for r in actions.roles_of(tx, row.id)
        ],
    }
    rules = credential.access_rules_of(tx, row.id)
    if rules:
        made["access_rules"] = [rule_shown(r) for r in rules]
    return made


def rule_shown(row: Row) -> dict[str, Any]:
    return {"id": row.id, "service": row.service, "path": row.path, "method": row.method}


class ApplicationCredentials(Resource):
    """/v3/users/{user_id}/application_credentials"""

    def on_get(self, req: Request, resp: Response, user_id: str) -> None:
        with self.db.read() as tx:
            query = actions.listing(rest.caller(req), user_id)
            table = credential.application_credential
            rows = tx.execute(filtered(req, query, table, "name").order_by(table.c.id)).all()
            root = f"/users/{user_id}/application_credentials"
            made = [self.linked(req, f"{root}/{r.id}", shown(tx, r)) for r in rows]
        resp.media = self.listed(req, "application_credentials", made)

    def on_post(self, req: Request, resp: Response, user_id: str) -> None:
        want = rest.body(req, Create, key="application_credential")
        plain = want.secret or actions.make_secret()
        if len(plain) > secret.LONGEST:
            raise BadRequest(
                f"Invalid input for field/attribute secret: it is longer than {secret.LONGEST} characters."
            )
        new = actions.New(
            name=want.name,
            description=want.description,
            expires_at=instant(want.expires_at, "expires_at"),
            unrestricted=bool(want.unrestricted),
            roles=[actions.RoleRef(id=r.id, name=r.name) for r in want.roles] if want.roles else None,
            rules=[
                actions.NewRule(id=r.id, service=r.service, path=r.path, method=r.method)
                for r in want.access_rules or []
            ],
        )
        hashed = secret.digest(self.cloud, plain)
        with self.db.begin() as tx:
            row = actions.create(tx, self.cloud, rest.caller(req), user_id, new, hashed)
            made = {**shown(tx, row), "secret": plain}
        link = f"/users/{user_id}/application_credentials/{row.id}"
        resp.status, resp.media = "201 Created", {"application_credential": self.linked(req, link, made)}


class ApplicationCredential(Resource):
    """/v3/users/{user_id}/application_credentials/{application_credential_id}"""

    def on_get(self, req: Request, resp: Response, user_id: str, application_credential_id: str) -> None:
        with self.db.read() as tx:
            made = shown(tx, actions.get(tx, rest.caller(req), user_id, application_credential_id))
        link = f"/users/{user_id}/application_credentials/{application_credential_id}"
        resp.media = {"application_credential": self.linked(req, link, made)}

    def on_delete(self, req: Request, resp: Response, user_id: str, application_credential_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete(tx, rest.caller(req), user_id, application_credential_id)
        empty(resp)


class AccessRules(Resource):
    """/v3/users/{user_id}/access_rules"""

    def on_get(self, req: Request, resp: Response, user_id: str) -> None:
        table = credential.access_rule
        with self.db.read() as tx:
            query = filtered(
                req, actions.rules(tx, rest.caller(req), user_id), table, "service", "path", "method"
            )
            rows = tx.execute(query.order_by(table.c.id)).all()
        made = [self.linked(req, f"/users/{user_id}/access_rules/{r.id}", rule_shown(r)) for r in rows]
        resp.media = self.listed(req, "access_rules", made)


class AccessRule(Resource):
    """/v3/users/{user_id}/access_rules/{access_rule_id}"""

    def on_get(self, req: Request, resp: Response, user_id: str, access_rule_id: str) -> None:
        with self.db.read() as tx:
            row = actions.get_rule(tx, rest.caller(req), user_id, access_rule_id)
        link = f"/users/{user_id}/access_rules/{row.id}"
        resp.media = {"access_rule": self.linked(req, link, rule_shown(row))}

    def on_delete(self, req: Request, resp: Response, user_id: str, access_rule_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete_rule(tx, rest.caller(req), user_id, access_rule_id)
        empty(resp)


ROUTES = (
    ("/v3/users/{user_id}/application_credentials", ApplicationCredentials),
    ("/v3/users/{user_id}/application_credentials/{application_credential_id}", ApplicationCredential),
    ("/v3/users/{user_id}/access_rules", AccessRules),
    ("/v3/users/{user_id}/access_rules/{access_rule_id}", AccessRule),
)
