"""Compute services, hypervisors and availability zones: the same hosts from three sides."""

import json
from typing import Annotated, Any, Literal

from falcon import Request, Response
from msgspec import UNSET, Meta

from stackling.base.clock import bare_micros
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound
from stackling.base.ids import is_uuid
from stackling.base.microversion import Body
from stackling.base.rest import body, boolean, caller, one_param
from stackling.compute.actions import host as actions
from stackling.compute.actions import scheduling
from stackling.compute.api.body import Name, Unset, or_none
from stackling.compute.api.link import known_queries, limit_of, next_page
from stackling.compute.api.version import only, since
from stackling.compute.state import aggregate, host
from stackling.placement.actions import provider

Reason = Annotated[str, Meta(min_length=1, max_length=255)]


class _Room:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud


# -- services ----------------------------------------------------------------------------------------------------------


class OldService(Body, kw_only=True):
    """Body of the four PUTs below 2.53."""

    host: Name
    binary: Name
    disabled_reason: Reason | Unset = UNSET
    forced_down: bool | str | Unset = UNSET


class ServiceChanges(Body, kw_only=True):
    status: Literal["enabled", "disabled"] | Unset = UNSET
    disabled_reason: Reason | Unset = UNSET
    forced_down: bool | str | Unset = UNSET


def _service(req: Request, cloud: Cloud, row: Row, zones: aggregate.Zones) -> dict[str, Any]:
    made = {
        "id": row.id if since(req, "2.53") else row.number,
        "binary": "nova-compute",
        "host": row.hostname,
        "zone": zones.of(row.hostname),
        "status": "disabled" if row.disabled else "enabled",
        "state": "up" if scheduling.alive(row, cloud) else "down",
        "updated_at": bare_micros(row.seen_at),
        "disabled_reason": row.disabled_reason,
    }
    return made | ({"forced_down": row.forced_down} if since(req, "2.11") else {})


class Services(_Room):
    """/os-services"""

    def on_get(self, req: Request, resp: Response) -> None:
        caller(req).may("os_compute_api:os-services:list")
        if since(req, "2.75"):
            known_queries(req, "host", "binary")
        with self.cloud.db.read() as tx:
            zones = aggregate.zones(tx, self.cloud.config.compute.availability_zone)
            rows = host.everyone(tx)
        name, binary = one_param(req, "host"), one_param(req, "binary")
        rows = [r for r in rows if name in (None, r.hostname) and binary in (None, "nova-compute")]
        resp.media = {"services": [_service(req, self.cloud, r, zones) for r in rows]}


class Service(_Room):
    """/os-services/{id}; below 2.53 also /os-services/enable and its like"""

    def on_put(self, req: Request, resp: Response, id: str) -> None:
        caller(req).may("os_compute_api:os-services:update")
        if not since(req, "2.53"):
            self._old(req, resp, id)
            return
        want = body(req, ServiceChanges)
        if want.status is UNSET and want.forced_down is UNSET:
            raise BadRequest(
                "No updates were requested. Fields 'status' or 'forced_down' should be specified."
            )
        if want.disabled_reason is not UNSET and want.status != "disabled":
            raise BadRequest("Specifying 'disabled_reason' requires that status is 'disabled'.")
        if not is_uuid(id):
            raise BadRequest(f"Invalid uuid {id[:64]}")
        with self.cloud.db.begin() as tx:
            zones = aggregate.zones(tx, self.cloud.config.compute.availability_zone)
            row = actions.update(
                tx,
                self.cloud,
                caller(req),
                actions.get(tx, id),
                disabled=None if want.status is UNSET else want.status == "disabled",
                reason=or_none(want.disabled_reason),
                forced_down=None if want.forced_down is UNSET else boolean(want.forced_down, "forced_down"),
            )
        resp.media = {"service": _service(req, self.cloud, row, zones)}

    def _old(self, req: Request, resp: Response, verb: str) -> None:
        if verb not in ("enable", "disable", "disable-log-reason") and not (
            verb == "force-down" and since(req, "2.11")
        ):
            raise NotFound("The resource could not be found.")
        want = body(req, OldService)
        reason = or_none(want.disabled_reason)
        if verb == "disable-log-reason" and reason is None:
            raise BadRequest(
                "Invalid input for field/attribute disabled_reason: 'disabled_reason' is a required property"
            )
        if verb == "force-down" and want.forced_down is UNSET:
            raise BadRequest(
                "Invalid input for field/attribute forced_down: 'forced_down' is a required property"
            )
        made: dict[str, Any] = {"host": want.host, "binary": want.binary}
        with self.cloud.db.begin() as tx:
            if want.binary != "nova-compute":
                raise NotFound(f"Could not find binary {want.binary} on host {want.host}.")
            row = actions.named(tx, want.host)
            if verb == "force-down":
                made["forced_down"] = boolean(want.forced_down, "forced_down")
                actions.update(tx, self.cloud, caller(req), row, forced_down=made["forced_down"])
            else:
                made["status"] = "enabled" if verb == "enable" else "disabled"
                actions.update(tx, self.cloud, caller(req), row, disabled=verb != "enable", reason=reason)
        if verb == "disable-log-reason":
            made["disabled_reason"] = reason
        resp.media = {"service": made}

    def on_delete(self, req: Request, resp: Response, id: str) -> None:
        caller(req).may("os_compute_api:os-services:delete")
        if since(req, "2.53") != is_uuid(id):
            raise BadRequest(f"Invalid service id {id[:64]}")
        with self.cloud.db.begin() as tx:
            actions.delete(tx, caller(req), actions.get(tx, id))
        resp.status = 204


# -- hypervisors -------------------------------------------------------------------------------------------------------


def _brief(req: Request, cloud: Cloud, row: Row) -> dict[str, Any]:
    return {
        "id": row.id if since(req, "2.53") else row.number,
        "hypervisor_hostname": row.hostname,
        "state": "up" if scheduling.alive(row, cloud) else "down",
        "status": "disabled" if row.disabled else "enabled",
    }


def _numbers(
    tx: Tx, cloud: Cloud, row: Row, running: int, usage: dict[str, dict[str, Row]]
) -> dict[str, int]:
    info, stock = row.info, usage.get(row.hostname, {})
    memory = cloud.config.compute.reserved_memory_mib + (
        stock["MEMORY_MB"].used if "MEMORY_MB" in stock else 0
    )
    disk = stock["DISK_GB"].used if "DISK_GB" in stock else 0
    return {
        "vcpus": info["vcpus"],
        "memory_mb": info["memory_mib"],
        "local_gb": info["disk_gib"],
        "vcpus_used": stock["VCPU"].used if "VCPU" in stock else 0,
        "memory_mb_used": memory,
        "local_gb_used": disk,
        "free_ram_mb": info["memory_mib"] - memory,
        "free_disk_gb": info["disk_gib"] - disk,
        "current_workload": 0,
        "running_vms": running,
        "disk_available_least": info["disk_free_gib"],
    }


def _full(req: Request, cloud: Cloud, row: Row, numbers: dict[str, int]) -> dict[str, Any]:
    """From 2.88 on without the numbers, which are placement's to tell."""
    info = row.info
    service = {
        "id": row.id if since(req, "2.53") else row.number,
        "host": row.hostname,
        "disabled_reason": row.disabled_reason,
    }
    made = _brief(req, cloud, row)
    made |= {
        "hypervisor_type": info["hypervisor_type"],
        "hypervisor_version": info["hypervisor_version"],
        "host_ip": "127.0.0.1",
    }
    made["service"] = service
    if since(req, "2.88"):
        return made | {"uptime": _uptime(row) if scheduling.alive(row, cloud) else None}
    cpu = info["cpu"] or {}
    return made | numbers | {"cpu_info": cpu if since(req, "2.28") else json.dumps(cpu)}


class Hypervisors(_Room):
    """/os-hypervisors and /os-hypervisors/detail"""

    def __init__(self, cloud: Cloud, *, detail: bool) -> None:
        super().__init__(cloud)
        self.detail = detail

    def on_get(self, req: Request, resp: Response) -> None:
        caller(req).may(f"os_compute_api:os-hypervisors:{'list-detail' if self.detail else 'list'}")
        if since(req, "2.75"):
            known_queries(req, "limit", "marker", "hypervisor_hostname_pattern", "with_servers")
        with self.cloud.db.read() as tx:
            rows, full = self._page(req, host.everyone(tx))
            counts, usage = (
                (actions.servers_per_host(tx), provider.usage_by_name(tx)) if self.detail else ({}, {})
            )
            made = []
            with_servers = since(req, "2.53") and boolean(
                one_param(req, "with_servers") or "false", "with_servers"
            )
            for row in rows:
                numbers = (
                    _numbers(tx, self.cloud, row, counts.get(row.hostname, 0), usage) if self.detail else {}
                )
                one = _full(req, self.cloud, row, numbers) if self.detail else _brief(req, self.cloud, row)
                if with_servers:
                    _add_servers(tx, req, row, one)
                made.append(one)
        resp.media = {"hypervisors": made}
        if full:
            resp.media["hypervisors_links"] = next_page(req, self.cloud, str(made[-1]["id"]))

    def _page(self, req: Request, rows: list[Row]) -> tuple[list[Row], bool]:
        if since(req, "2.53") and (part := one_param(req, "hypervisor_hostname_pattern")):
            if one_param(req, "limit") or one_param(req, "marker"):
                raise BadRequest(
                    "Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported."
                )
            rows = [r for r in rows if part in r.hostname]
            if not rows:
                raise NotFound(f"No hypervisor matching '{part[:64]}' could be found.")
        if not since(req, "2.33"):
            return rows, False
        if marker := one_param(req, "marker"):
            places = [
                i for i, r in enumerate(rows) if marker == (r.id if since(req, "2.53") else str(r.number))
            ]
            if not places:
                raise BadRequest(f"marker [{marker[:64]}] not found")
            rows = rows[places[0] + 1 :]
        limit = limit_of(req)
        return rows[:limit], 0 < limit <= len(rows)


def _add_servers(tx: Tx, req: Request, row: Row, made: dict[str, Any]) -> None:
    """Below 2.75 a host without servers has no such key."""
    found = [
        {"name": f"instance-{s.id}" if not since(req, "2.53") else s.name, "uuid": s.id}
        for s in actions.servers_on(tx, row.hostname)
    ]
    if found or since(req, "2.75"):
        made["servers"] = found


class Hypervisor(_Room):
    """/os-hypervisors/{id}"""

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        caller(req).may("os_compute_api:os-hypervisors:show")
        with self.cloud.db.read() as tx:
            row = _hypervisor(tx, req, id)
            numbers = _numbers(
                tx,
                self.cloud,
                row,
                actions.servers_per_host(tx).get(row.hostname, 0),
                provider.usage_by_name(tx),
            )
            made = _full(req, self.cloud, row, numbers)
            if since(req, "2.53") and boolean(one_param(req, "with_servers") or "false", "with_servers"):
                _add_servers(tx, req, row, made)
        resp.media = {"hypervisor": made}


def _hypervisor(tx: Tx, req: Request, id: str) -> Row:
    if since(req, "2.53") and not is_uuid(id):
        raise BadRequest(f"Invalid uuid {id[:64]}")
    try:
        return actions.get(tx, id)
    except NotFound:
        raise NotFound(f"Hypervisor with ID '{id[:64]}' could not be found.") from None


class HypervisorPart(_Room):
    """/os-hypervisors/{id}/uptime, and below 2.53 /search and /servers with part of a hostname"""

    def on_get(self, req: Request, resp: Response, id: str, part: str) -> None:
        who = caller(req)
        if part == "uptime":
            only(req, last="2.87")
            who.may("os_compute_api:os-hypervisors:uptime")
            with self.cloud.db.read() as tx:
                row = _hypervisor(tx, req, id)
            resp.media = {"hypervisor": _brief(req, self.cloud, row) | {"uptime": _uptime(row)}}
            return
        if part not in ("search", "servers"):
            raise NotFound("The resource could not be found.")
        only(req, last="2.52")
        who.may(f"os_compute_api:os-hypervisors:{part}")
        with self.cloud.db.read() as tx:
            rows = [r for r in host.everyone(tx) if id in r.hostname]
            if not rows:
                raise NotFound(f"No hypervisor matching '{id[:64]}' could be found.")
            made = []
            for row in rows:
                one = _brief(req, self.cloud, row)
                if part == "servers":
                    _add_servers(tx, req, row, one)
                made.append(one)
        resp.media = {"hypervisors": made}


def _uptime(row: Row) -> str:
    seconds = int(row.info.get("uptime_seconds", 0))
    days, rest = divmod(seconds, 86400)
    return f" {rest // 3600:02}:{rest % 3600 // 60:02}:00 up {days} days, {rest // 3600:2}:{rest % 3600 // 60:02},  0 users,  load average: 0.00, 0.00, 0.00"


class Statistics(_Room):
    """/os-hypervisors/statistics"""

    def on_get(self, req: Request, resp: Response) -> None:
        only(req, last="2.87")
        caller(req).may("os_compute_api:os-hypervisors:statistics")
        with self.cloud.db.read() as tx:
            rows, counts, usage = host.everyone(tx), actions.servers_per_host(tx), provider.usage_by_name(tx)
            each = [
                _numbers(tx, self.cloud, r, counts.get(r.hostname, 0), usage) for r in rows if not r.disabled
            ]
        names = _EMPTY if not each else each[0]
        resp.media = {
            "hypervisor_statistics": {"count": len(each), **{n: sum(e[n] for e in each) for n in names}}
        }


_EMPTY = [
    "vcpus",
    "memory_mb",
    "local_gb",
    "vcpus_used",
    "memory_mb_used",
    "local_gb_used",
    "free_ram_mb",
    "free_disk_gb",
    "current_workload",
    "running_vms",
    "disk_available_least",
]


# -- zones -------------------------------------------------------------------------------------------------------------


class Zones(_Room):
    """/os-availability-zone and /os-availability-zone/detail"""

    def __init__(self, cloud: Cloud, *, detail: bool) -> None:
        super().__init__(cloud)
        self.detail = detail

    def on_get(self, req: Request, resp: Response) -> None:
        caller(req).may(f"os_compute_api:os-availability-zone:{'detail' if self.detail else 'list'}")
        with self.cloud.db.read() as tx:
            zones = aggregate.zones(tx, self.cloud.config.compute.availability_zone)
            rows = host.everyone(tx)
        named: dict[str, list[Row]] = {}
        for row in rows:
            named.setdefault(zones.of(row.hostname), []).append(row)
        if not named:
            named[zones.default] = []
        made = []
        for name, members in sorted(named.items()):
            hosts = {r.hostname: self._services(r) for r in members} if self.detail else None
            available = any(not r.disabled for r in members) or not members
            made.append({"zoneName": name, "zoneState": {"available": available}, "hosts": hosts})
        resp.media = {"availabilityZoneInfo": made}

    def _services(self, row: Row) -> dict[str, Any]:
        alive = scheduling.alive(row, self.cloud)
        return {
            "nova-compute": {
                "available": alive,
                "active": not row.disabled,
                "updated_at": bare_micros(row.seen_at),
            }
        }
