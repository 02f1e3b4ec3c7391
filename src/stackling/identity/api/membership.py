"""Who is in which group: /v3/groups/{id}/users and /v3/users/{id}/groups"""

from datetime import datetime

from falcon import Request, Response

from stackling.base import rest
from stackling.identity.actions import directory
from stackling.identity.actions import group as groups
from stackling.identity.actions.permission import may, target
from stackling.identity.api import group, user
from stackling.identity.api.resource import Resource, empty, filtered
from stackling.identity.state import user as users


class Members(Resource):
    """/v3/groups/{group_id}/users"""

    def on_get(self, req: Request, resp: Response, group_id: str) -> None:
        rest.caller(req)
        directory.refresh_one(self.cloud, group_id, members=True)
        with self.db.read() as tx:
            query = filtered(
                req, groups.members(tx, rest.caller(req), group_id), users.user, "name", "enabled"
            )
            query = user.narrowed_by_password(req, query)
            rows = tx.execute(query.with_only_columns(*users.LISTED).order_by(users.user.c.id)).all()
        root = self.url(req, "/users/")
        made = [user.shown(row, row.password_expires_at, root + row.id) for row in rows]
        resp.media = self.listed(req, "users", made)


class Member(Resource):
    """/v3/groups/{group_id}/users/{user_id}"""

    def on_get(self, req: Request, resp: Response, group_id: str, user_id: str) -> None:
        rest.caller(req)
        directory.refresh_one(self.cloud, group_id, members=True)
        with self.db.read() as tx:
            groups.check(tx, rest.caller(req), group_id, user_id)
        empty(resp)

    def on_put(self, req: Request, resp: Response, group_id: str, user_id: str) -> None:
        with self.db.begin() as tx:
            groups.add(tx, rest.caller(req), group_id, user_id)
        empty(resp)

    def on_delete(self, req: Request, resp: Response, group_id: str, user_id: str) -> None:
        with self.db.begin() as tx:
            groups.remove(tx, rest.caller(req), group_id, user_id)
        empty(resp)


class GroupsOfUser(Resource):
    """/v3/users/{user_id}/groups"""

    def on_get(self, req: Request, resp: Response, user_id: str) -> None:
        rest.caller(req)
        directory.refresh_one(self.cloud, user_id)
        with self.db.read() as tx:
            row = users.find(tx, user_id)
            may(
                rest.caller(req),
                "list_groups_for_user",
                target(user=row if row is not None else {"id": user_id}),
            )
            query = filtered(
                req, groups.of_user(tx, self.cloud, rest.caller(req), user_id), users.group, "name"
            )
            rows = list(tx.execute(query.order_by(users.group.c.id)))
        made = [
            self.linked(
                req, f"/groups/{r.id}", {**group.shown(r), "membership_expires_at": _bare(r.expires_at)}
            )
            for r in rows
        ]
        resp.media = self.listed(req, "groups", made)


def _bare(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat(timespec="microseconds")


ROUTES = (
    ("/v3/groups/{group_id}/users", Members),
    ("/v3/groups/{group_id}/users/{user_id}", Member),
    ("/v3/users/{user_id}/groups", GroupsOfUser),
)
