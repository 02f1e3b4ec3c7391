"""/v3/users and what stands below one user in the way of membership and passwords."""

import operator
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from falcon import Request, Response
from msgspec import UNSET, UnsetType

from stackling.base import peer, rest
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest
from stackling.identity.actions import directory, federated_attribute, login_rate
from stackling.identity.actions import password as passwords
from stackling.identity.actions import project as project_actions
from stackling.identity.actions import user as actions
from stackling.identity.actions.login import UserRef
from stackling.identity.api import project as project_api
from stackling.identity.api.application_credential import instant
from stackling.identity.api.resource import (
    Id,
    Name,
    Resource,
    Truth,
    empty,
    filtered,
    given,
    lenient,
    paged,
    wanted,
)
from stackling.identity.state import project as projects
from stackling.identity.state import user as users


class CreateUser(msgspec.Struct, kw_only=True):
    name: Name
    domain_id: Id | None = None
    default_project_id: Id | None = None
    password: str | None = None
    enabled: Truth = True
    options: dict[str, Any] = {}
    federated: list[federated_attribute.Federated] = []


class UpdateUser(msgspec.Struct, kw_only=True):
    name: Name | UnsetType = UNSET
    domain_id: Id | UnsetType = UNSET
    default_project_id: Id | UnsetType | None = UNSET
    password: str | UnsetType | None = UNSET
    enabled: Truth | UnsetType = UNSET
    options: dict[str, Any] | UnsetType = UNSET
    federated: list[federated_attribute.Federated] | UnsetType = UNSET


def shown(row: Row, expires_at: datetime | None, link: str) -> dict[str, Any]:
    made = {
        **row.extra,
        "id": row.id,
        "name": row.name,
        "domain_id": row.domain_id,
        "enabled": row.enabled,
        "options": row.options,
        "password_expires_at": None if expires_at is None else expires_at.isoformat(timespec="microseconds"),
        "links": {"self": link},
    }
    if row.default_project_id:
        made["default_project_id"] = row.default_project_id
    return made


def one(tx: Tx, row: Row, root: str) -> dict[str, Any]:
    kept = users.current_password(tx, row.id)
    made = shown(row, kept.expires_at if kept is not None else None, root + row.id)
    federated = federated_attribute.shown(tx, row.id)
    return {**made, "federated": federated} if federated else made


_COMPARE = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "eq": operator.eq,
    "neq": operator.ne,
}


def narrowed_by_password(req: Request, query: sa.Select[Any]) -> sa.Select[Any]:
    """`query` narrowed by `password_expires_at`, such as `lt:2026-01-01T00:00:00Z`. Raises BadRequest."""
    text = rest.one_param(req, "password_expires_at")
    if text is None:
        return query
    word, _, when = text.partition(":")
    if word not in _COMPARE:
        word, when = "eq", text
    at = instant(when, "password_expires_at")
    if at is None:
        raise BadRequest("Invalid input for query parameter password_expires_at: it names no time")
    held = users.password.c
    latest = sa.select(sa.func.max(held.id)).group_by(held.user_id)
    fits = _COMPARE[word](held.expires_at, at)
    return query.where(users.user.c.id.in_(sa.select(held.user_id).where(held.id.in_(latest), fits)))


class Users(Resource):
    """/v3/users"""

    def on_get(self, req: Request, resp: Response) -> None:
        caller, domain_id = rest.caller(req), rest.one_param(req, "domain_id")
        actions.look(self.cloud, caller, domain_id, rest.one_param(req, "name"))
        with self.db.read() as tx:
            query = actions.listing(caller, domain_id)
            query = filtered(req, query.with_only_columns(*users.LISTED), users.user, "name", "enabled", "id")
            query = narrowed_by_password(req, query)
            origin = {n: rest.one_param(req, n) for n in ("idp_id", "protocol_id", "unique_id")}
            query = federated_attribute.narrowed(query, **origin)
            rows, more = paged(req, tx, query, users.user)
        root = self.url(req, "/users/")
        made = [shown(row, row.password_expires_at, root + row.id) for row in rows]
        resp.media = self.listed(req, "users", made, next_marker=more)

    def on_post(self, req: Request, resp: Response) -> None:
        want, extra = wanted(req, "user", CreateUser)
        hashed = actions.digest(self.cloud, want.password)
        new = actions.NewUser(
            name=want.name,
            domain_id=want.domain_id,
            default_project_id=want.default_project_id,
            enabled=lenient(want.enabled, "enabled"),
            options=want.options,
            extra=extra,
        )
        with self.db.begin() as tx:
            row = actions.create(tx, self.cloud, rest.caller(req), new, hashed)
            federated_attribute.put(tx, rest.caller(req), row.id, row.name, want.federated)
            made = one(tx, row, self.url(req, "/users/"))
        resp.status, resp.media = "201 Created", {"user": made}


class User(Resource):
    """/v3/users/{user_id}"""

    def on_get(self, req: Request, resp: Response, user_id: str) -> None:
        rest.caller(req)
        directory.refresh_one(self.cloud, user_id)
        with self.db.read() as tx:
            row = actions.get(tx, rest.caller(req), user_id)
            made = one(tx, row, self.url(req, "/users/"))
        resp.media = {"user": made}

    def on_patch(self, req: Request, resp: Response, user_id: str) -> None:
        want, extra = wanted(req, "user", UpdateUser)
        change = given(want)
        plain = change.pop("password", UNSET)
        federated = change.pop("federated", None)
        if "enabled" in change:
            change["enabled"] = lenient(change["enabled"], "enabled")
        hashed = actions.digest(self.cloud, plain) if isinstance(plain, str) else None
        if extra:
            change["extra"] = extra
        with self.db.begin() as tx:
            row = actions.update(
                tx, self.cloud, rest.caller(req), user_id, change, hashed, no_password=plain is None
            )
            if federated is not None:
                federated_attribute.put(tx, rest.caller(req), row.id, row.name, federated)
            made = one(tx, row, self.url(req, "/users/"))
        resp.media = {"user": made}

    def on_delete(self, req: Request, resp: Response, user_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete(tx, self.cloud, rest.caller(req), user_id)
        empty(resp)


class ChangePassword(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    original_password: str
    password: str


class Password(Resource):
    """/v3/users/{user_id}/password: needs no token, as a user whose password has expired has none."""

    public = True
    audited = {"POST": "update/password"}

    def on_post(self, req: Request, resp: Response, user_id: str) -> None:
        want = rest.body(req, ChangePassword, key="user")
        login_rate.check(self.cloud, peer.address(req, self.cloud.config.api), [UserRef(id=user_id)])
        passwords.change(self.cloud, user_id, want.original_password, want.password)
        empty(resp)


class Projects(Resource):
    """/v3/users/{user_id}/projects"""

    def on_get(self, req: Request, resp: Response, user_id: str) -> None:
        with self.db.read() as tx:
            actions.get(tx, rest.caller(req), user_id, "list_user_projects")
            query = filtered(
                req, project_actions.of_user(tx, user_id), projects.project, "name", "enabled", "domain_id"
            )
            rows = list(tx.execute(query.order_by(projects.project.c.id)))
            made = project_api.many(self, req, tx, rows)
        resp.media = self.listed(req, "projects", made)


class Tokens(Resource):
    """/v3/users/{user_id}/tokens"""

    def on_delete(self, req: Request, resp: Response, user_id: str) -> None:
        with self.db.begin() as tx:
            actions.revoke_tokens(tx, rest.caller(req), user_id)
        empty(resp)


ROUTES = (
    ("/v3/users", Users),
    ("/v3/users/{user_id}", User),
    ("/v3/users/{user_id}/password", Password),
    ("/v3/users/{user_id}/projects", Projects),
    ("/v3/users/{user_id}/tokens", Tokens),
)
