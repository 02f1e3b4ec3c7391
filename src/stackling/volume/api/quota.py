"""Quotas of projects, and what projects have that nothing was said about."""

from typing import Any

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest
from stackling.base.rest import boolean, caller, json_body, one_param
from stackling.volume.actions import quota

MOST = 2**31 - 1


def _wanted(req: Request, key: str, known: dict[str, int]) -> dict[str, int]:
    given = json_body(req)
    inside = given.get(key) if isinstance(given, dict) else None
    if not isinstance(inside, dict) or not inside:
        raise BadRequest(
            f"Invalid input for field/attribute {key}: '{key}' is a required property and an object"
        )
    made = {}
    for name, value in inside.items():
        if name in ("tenant_id", "project_id", "id", "class_name", "force"):
            continue
        if name not in known:
            raise BadRequest(f"Bad key(s) in quota set: {name[:64]}")
        try:
            number = (
                int(value)
                if isinstance(value, (int, str)) and not isinstance(value, bool) and len(str(value)) < 20
                else None
            )
        except ValueError:
            number = None
        if number is None or not -1 <= number <= MOST:
            raise BadRequest(
                f"Invalid input for field/attribute {name}: {str(value)[:64]!r} is not a whole number from -1 to {MOST}"
            )
        made[name] = number
    return made


class QuotaSet:
    """/v3/os-quota-sets/{project_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, project_id: str) -> None:
        with_usage = boolean(one_param(req, "usage") or "false", "usage")
        with self.cloud.db.read() as tx:
            limits, used = quota.show(tx, self.cloud, caller(req), project_id)
        made: dict[str, Any] = dict(limits)
        if with_usage:
            made = {n: {"limit": limit, "in_use": used[n], "reserved": 0} for n, limit in limits.items()}
        resp.media = {"quota_set": {"id": project_id, **made}}

    def on_put(self, req: Request, resp: Response, project_id: str) -> None:
        if len(project_id) > 64:
            raise BadRequest(
                "Invalid input for field/attribute project_id: a project id has at most 64 characters"
            )
        with self.cloud.db.begin() as tx:
            wanted = _wanted(req, "quota_set", quota.defaults(tx, self.cloud))
            limits = quota.change(tx, self.cloud, caller(req), project_id, wanted)
        resp.media = {"quota_set": limits}

    def on_delete(self, req: Request, resp: Response, project_id: str) -> None:
        with self.cloud.db.begin() as tx:
            quota.forget(tx, self.cloud, caller(req), project_id)


class Defaults:
    """/v3/os-quota-sets/{project_id}/defaults"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, project_id: str) -> None:
        with self.cloud.db.read() as tx:
            caller(req).may("volume_extension:quotas:show", {"project_id": project_id})
            made = quota.defaults(tx, self.cloud)
        resp.media = {"quota_set": {"id": project_id, **made}}


class ClassSet:
    """/v3/os-quota-class-sets/{name}; upstream knows several names and uses one, default"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, name: str) -> None:
        with self.cloud.db.read() as tx:
            made = quota.show_class(tx, self.cloud, caller(req))
        resp.media = {"quota_class_set": {"id": name, **made}}

    def on_put(self, req: Request, resp: Response, name: str) -> None:
        if name != "default":
            raise BadRequest(f"There is no quota class {name[:64]!r}; the one that is used is 'default'")
        with self.cloud.db.begin() as tx:
            wanted = _wanted(req, "quota_class_set", quota.defaults(tx, self.cloud))
            made = quota.change_class(tx, self.cloud, caller(req), wanted)
        resp.media = {"quota_class_set": made}
