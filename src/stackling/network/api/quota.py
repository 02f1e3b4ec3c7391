"""`/v2.0/quotas`"""

from typing import Any

from falcon import HTTP_204, Request, Response

from stackling.base import rest
from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest
from stackling.network.actions import quota, standard
from stackling.network.api import body

_MOST = 2**31 - 1


def _wanted(given: dict[str, Any]) -> tuple[dict[str, int], bool]:
    wanted: dict[str, int] = {}
    check = False
    for name, value in given.items():
        if name == "check_limit":
            check = rest.boolean(value, name)
        elif name == "force":
            check = check and not rest.boolean(value, name)
        elif name in ("tenant_id", "project_id"):
            continue
        elif name not in standard.COUNTED:
            raise BadRequest(f"Unrecognized attribute(s) '{name[:64]}'")
        else:
            text = str(value)
            if (
                isinstance(value, (bool, float, dict, list))
                or not text.lstrip("-").isascii()
                or not text.lstrip("-").isdigit()
                or not -1 <= int(text[:12]) <= _MOST
            ):
                raise BadRequest(
                    f"Invalid input for {name}. Reason: '{text[:32]}' is not a whole number from -1 to {_MOST}."
                )
            wanted[name] = int(text)
    return wanted, check


class Quotas:
    """`/v2.0/quotas`: of the projects that have limits of their own"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        with self.cloud.db.read() as tx:
            found = quota.own(tx, self.cloud, rest.caller(req))
        resp.media = {"quotas": [{**limits, "project_id": p, "tenant_id": p} for p, limits in found.items()]}


class Quota:
    """`/v2.0/quotas/{project_id}`"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, project_id: str) -> None:
        caller = rest.caller(req)
        if project_id in ("tenant", "project"):
            resp.media = {"tenant": {"tenant_id": caller.project_id, "project_id": caller.project_id}}
            return
        with self.cloud.db.read() as tx:
            resp.media = {"quota": quota.limits(tx, self.cloud, caller, project_id)}

    def on_put(self, req: Request, resp: Response, project_id: str) -> None:
        wanted, check = _wanted(body.one(req, "quota"))
        with self.cloud.db.begin() as tx:
            resp.media = {
                "quota": quota.update(tx, self.cloud, rest.caller(req), project_id, wanted, check_limit=check)
            }

    def on_delete(self, req: Request, resp: Response, project_id: str) -> None:
        with self.cloud.db.begin() as tx:
            quota.reset(tx, self.cloud, rest.caller(req), project_id)
        resp.status = HTTP_204


class QuotaDefaults:
    """`/v2.0/quotas/{project_id}/default`"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, project_id: str) -> None:
        with self.cloud.db.read() as tx:
            resp.media = {"quota": quota.defaults(tx, self.cloud, rest.caller(req), project_id)}


class QuotaDetails:
    """`/v2.0/quotas/{project_id}/details`"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, project_id: str) -> None:
        with self.cloud.db.read() as tx:
            resp.media = {"quota": quota.details(tx, self.cloud, rest.caller(req), project_id)}
