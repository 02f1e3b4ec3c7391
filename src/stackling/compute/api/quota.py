"""Quotas, limits and usage."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from falcon import Request, Response

from stackling.base.clock import parse
from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.base.errors import BadRequest
from stackling.base.rest import caller, json_body, one_param
from stackling.compute.actions import limits, usage
from stackling.compute.api.body import flag, whole
from stackling.compute.api.link import known_queries, limit_of, next_page
from stackling.compute.api.version import since
from stackling.identity.actions import project

_FILES = ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes")
_ALWAYS = (
    "instances",
    "cores",
    "ram",
    "metadata_items",
    "key_pairs",
    "server_groups",
    "server_group_members",
)
# What nova's own network once counted: kept and shown for clients that set it, but the network service's own quotas count.
_NETWORK = {"fixed_ips": -1, "floating_ips": -1, "security_groups": -1, "security_group_rules": -1}


class _Room:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud


def _names(req: Request) -> list[str]:
    """The items that a quota set has at the request's microversion."""
    return [*_ALWAYS, *(() if since(req, "2.57") else _FILES)]


def _shown(req: Request, values: Mapping[str, int], *, network: bool | None = None) -> dict[str, int]:
    made = {n: values[n] for n in _names(req)}
    if not since(req, "2.36") if network is None else network:
        made |= {n: values.get(n, none) for n, none in _NETWORK.items()}
    return made


def _check_project(tx: Tx, project_id: str) -> None:
    if not project.exists(tx, project_id):
        raise BadRequest(f"Project ID {project_id[:64]} is not a valid project.")


class QuotaSet(_Room):
    """/os-quota-sets/{project_id}"""

    def on_get(self, req: Request, resp: Response, project_id: str) -> None:
        caller(req).may("os_compute_api:os-quota-sets:show", {"project_id": project_id})
        if since(req, "2.75"):
            known_queries(req, "user_id")
        with self.cloud.db.read() as tx:
            _check_project(tx, project_id)
            found = limits.of(tx, self.cloud, project_id)
        resp.media = {"quota_set": {"id": project_id, **_shown(req, found)}}

    def on_put(self, req: Request, resp: Response, project_id: str) -> None:
        caller(req).may("os_compute_api:os-quota-sets:update", {"project_id": project_id})
        wanted, force = _wanted(req, "quota_set", allow_force=True)
        with self.cloud.db.begin() as tx:
            _check_project(tx, project_id)
            used = limits.usage(tx, [project_id])
            for name, limit in wanted.items():
                if not force and 0 <= limit < used.get(name, 0):
                    raise BadRequest(
                        f"Quota limit {limit} for {name} must be greater than or equal to already used and reserved {used[name]}."
                    )
            limits.QUOTAS.set_limits(tx, self.cloud, project_id, wanted)
            found = limits.of(tx, self.cloud, project_id)
        resp.media = {"quota_set": _shown(req, found)}

    def on_delete(self, req: Request, resp: Response, project_id: str) -> None:
        caller(req).may("os_compute_api:os-quota-sets:delete", {"project_id": project_id})
        with self.cloud.db.begin() as tx:
            limits.QUOTAS.forget(tx, self.cloud, project_id)
        resp.status = 202


def _wanted(req: Request, key: str, *, allow_force: bool) -> tuple[dict[str, int], bool]:
    given = json_body(req)
    if not isinstance(given, dict) or set(given) != {key} or not isinstance(given[key], dict):
        raise BadRequest(f"Invalid input for field/attribute {key}: '{key}' is a required property")
    known = {*_names(req), *(() if since(req, "2.36" if allow_force else "2.50") else _NETWORK)}
    made, force = {}, False
    for name, value in given[key].items():
        if name == "force" and allow_force:
            force = flag(value, "force")
        elif name == "tenant_id" or (name == "class_name" and not allow_force):
            continue
        elif name not in known:
            raise BadRequest(f"Additional properties are not allowed ({str(name)[:64]!r} was unexpected)")
        elif isinstance(value, (bool, float)) or not str(value).lstrip("-").isdigit() or len(str(value)) > 12:
            raise BadRequest(
                f"Invalid input for field/attribute {name}. Value: {str(value)[:64]}. It is a whole number from -1"
            )
        else:
            made[name] = whole(value, name, least=-1)
    return made, force


class QuotaDefaults(_Room):
    """/os-quota-sets/{project_id}/defaults"""

    def on_get(self, req: Request, resp: Response, project_id: str) -> None:
        caller(req).may("os_compute_api:os-quota-sets:defaults", {"project_id": project_id})
        with self.cloud.db.read() as tx:
            found = limits.QUOTAS.defaults(tx, self.cloud)
        resp.media = {"quota_set": {"id": project_id, **_shown(req, found)}}


class QuotaDetail(_Room):
    """/os-quota-sets/{project_id}/detail"""

    def on_get(self, req: Request, resp: Response, project_id: str) -> None:
        caller(req).may("os_compute_api:os-quota-sets:detail", {"project_id": project_id})
        with self.cloud.db.read() as tx:
            _check_project(tx, project_id)
            found = _shown(req, limits.of(tx, self.cloud, project_id))
            used = limits.usage(tx, [project_id])
        resp.media = {
            "quota_set": {
                "id": project_id,
                **{n: {"limit": v, "in_use": used.get(n, 0), "reserved": 0} for n, v in found.items()},
            }
        }


class QuotaClass(_Room):
    """/os-quota-class-sets/{name}"""

    def _shown(self, req: Request, values: Mapping[str, int]) -> dict[str, int]:
        made = _shown(req, values, network=not since(req, "2.50"))
        return (
            made
            if since(req, "2.50")
            else {n: v for n, v in made.items() if not n.startswith("server_group")}
        )

    def on_get(self, req: Request, resp: Response, name: str) -> None:
        caller(req).may("os_compute_api:os-quota-class-sets:show")
        with self.cloud.db.read() as tx:
            found = (
                limits.QUOTAS.defaults(tx, self.cloud) if name == "default" else limits.configured(self.cloud)
            )
        resp.media = {"quota_class_set": {"id": name, **self._shown(req, found)}}

    def on_put(self, req: Request, resp: Response, name: str) -> None:
        caller(req).may("os_compute_api:os-quota-class-sets:update")
        wanted, _ = _wanted(req, "quota_class_set", allow_force=False)
        if name != "default":
            raise BadRequest("The only quota class is 'default'.")
        with self.cloud.db.begin() as tx:
            limits.QUOTAS.set_defaults(tx, self.cloud, wanted)
            found = limits.QUOTAS.defaults(tx, self.cloud)
        resp.media = {"quota_class_set": self._shown(req, found)}


class Limits(_Room):
    """/limits"""

    def on_get(self, req: Request, resp: Response) -> None:
        who = caller(req)
        who.may("os_compute_api:limits")
        if since(req, "2.75"):
            known_queries(req, "tenant_id", "reserved")
        project_id = one_param(req, "tenant_id") or who.project_id or ""
        if project_id != who.project_id:
            who.may("os_compute_api:limits:other_project")
        with self.cloud.db.read() as tx:
            most = limits.of(tx, self.cloud, project_id)
            used = limits.usage(tx, [project_id])
        made = {
            "maxServerMeta": most["metadata_items"],
            "maxTotalInstances": most["instances"],
            "maxTotalCores": most["cores"],
            "maxTotalRAMSize": most["ram"],
            "maxTotalKeypairs": most["key_pairs"],
            "maxServerGroups": most["server_groups"],
            "maxServerGroupMembers": most["server_group_members"],
            "totalInstancesUsed": used["instances"],
            "totalCoresUsed": used["cores"],
            "totalRAMUsed": used["ram"],
            "totalServerGroupsUsed": used["server_groups"],
        }
        if not since(req, "2.36"):
            made |= {"maxSecurityGroups": -1, "maxSecurityGroupRules": -1, "maxTotalFloatingIps": -1}
            made |= {"totalSecurityGroupsUsed": 0, "totalFloatingIpsUsed": 0}
        if not since(req, "2.39"):
            made["maxImageMeta"] = most["metadata_items"]
        if not since(req, "2.57"):
            made |= {
                "maxPersonality": most["injected_files"],
                "maxPersonalitySize": most["injected_file_content_bytes"],
            }
        resp.media = {"limits": {"rate": [], "absolute": made}}


# -- usage -------------------------------------------------------------------------------------------------------------


def _span(req: Request, now: datetime) -> tuple[datetime, datetime]:
    found = []
    for name, fallback in (("start", now - timedelta(weeks=4)), ("end", now)):
        text = one_param(req, name)
        try:
            found.append(parse(text.replace(" ", "T")) if text else fallback)
        except (ValueError, OverflowError):
            raise BadRequest(
                f"Invalid input for query parameter {name}: {text!r:.64} is not a time"
            ) from None
    if found[0] >= found[1]:
        raise BadRequest("Invalid start time. The start time cannot occur after the end time.")
    return found[0], found[1]


class Usages(_Room):
    """/os-simple-tenant-usage and /os-simple-tenant-usage/{project_id}"""

    def on_get(self, req: Request, resp: Response, project_id: str | None = None) -> None:
        rule = "os_compute_api:os-simple-tenant-usage:" + ("list" if project_id is None else "show")
        caller(req).may(rule, {"project_id": project_id} if project_id else None)
        if since(req, "2.75"):
            known_queries(req, "start", "end", "detailed", "limit", "marker")
        now = self.cloud.clock.now()
        start, stop = _span(req, now)
        paging = since(req, "2.40")
        limit = limit_of(req) if paging else None
        with self.cloud.db.read() as tx:
            rows = usage.of(
                tx,
                project_id,
                start,
                stop,
                now,
                after=one_param(req, "marker") if paging else None,
                limit=limit,
            )
        parts: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            parts.setdefault(row.project_id, []).append(usage.one(row, start, stop, now))
        detailed = project_id is not None or one_param(req, "detailed") == "1"
        made = []
        for id, listed in parts.items():
            one = usage.total(id, listed, start, stop)
            made.append(one | ({"server_usages": listed} if detailed else {}))
        media: dict[str, Any] = (
            {"tenant_usages": made} if project_id is None else {"tenant_usage": made[0] if made else {}}
        )
        if paging and rows and len(rows) == limit:
            media["tenant_usage_links" if project_id else "tenant_usages_links"] = next_page(
                req, self.cloud, rows[-1].id
            )
        resp.media = media
