"""Members of an image: the projects it is shared with."""

from typing import Any

from falcon import Request, Response

from stackling.base.clock import zulu
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import BadRequest
from stackling.base.rest import caller, json_body
from stackling.image.actions import member
from stackling.image.state.member import Status


def view(row: Row) -> dict[str, Any]:
    return {
        "member_id": row.member_id,
        "image_id": row.image_id,
        "status": row.status,
        "created_at": zulu(row.created_at),
        "updated_at": zulu(row.updated_at),
        "schema": "/v2/schemas/member",
    }


def _one_key(req: Request, key: str) -> str:
    given = json_body(req)
    if not isinstance(given, dict) or not isinstance(given.get(key), str) or not given[key]:
        raise BadRequest(f'Expected a member in the form: {{"{key}": "..."}}')
    return str(given[key])


class Members:
    """/v2/images/{image_id}/members"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, image_id: str) -> None:
        with self.cloud.db.read() as tx:
            rows = member.listed(tx, caller(req), image_id)
        resp.media = {"members": [view(r) for r in rows], "schema": "/v2/schemas/members"}

    def on_post(self, req: Request, resp: Response, image_id: str) -> None:
        wanted = _one_key(req, "member")
        if len(wanted) > 64:
            raise BadRequest(
                "Invalid input for field/attribute member: a project id has at most 64 characters"
            )
        with self.cloud.db.begin() as tx:
            row = member.create(tx, self.cloud, caller(req), image_id, wanted)
        resp.media = view(row)


class Member:
    """/v2/images/{image_id}/members/{member_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, image_id: str, member_id: str) -> None:
        with self.cloud.db.read() as tx:
            resp.media = view(member.get(tx, caller(req), image_id, member_id))

    def on_put(self, req: Request, resp: Response, image_id: str, member_id: str) -> None:
        word = _one_key(req, "status")
        if word not in list(Status):
            raise BadRequest(
                f"Invalid input for field/attribute status: {word[:64]!r} is none of {', '.join(Status)}"
            )
        with self.cloud.db.begin() as tx:
            resp.media = view(
                member.set_status(tx, self.cloud, caller(req), image_id, member_id, Status(word))
            )

    def on_delete(self, req: Request, resp: Response, image_id: str, member_id: str) -> None:
        with self.cloud.db.begin() as tx:
            member.delete(tx, caller(req), image_id, member_id)
        resp.status = "204 No Content"
