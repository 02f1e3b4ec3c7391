"""Backends, services, hosts and zones."""

from typing import Annotated, Any

from falcon import Request, Response
from msgspec import Meta, Struct

from stackling.base.clock import bare_micros
from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest, NotFound
from stackling.base.microversion import Version
from stackling.base.rest import body, boolean, caller, one_param, version
from stackling.volume.actions import host as hosts
from stackling.volume.actions import service
from stackling.volume.api.volume import pool

SCHEDULER = "cinder-scheduler"


class ServiceName(Struct, kw_only=True):
    """Unknown keys are let through, as upstream does."""

    host: Annotated[str, Meta(min_length=1, max_length=255)]
    binary: str | None = None
    service: str | None = None  # what clients before `binary` send
    disabled_reason: Annotated[str, Meta(max_length=255)] | None = None


class Services:
    """/v3/os-services"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        caller(req).may("volume_extension:services:index")
        with self.cloud.db.read() as tx:
            said = service.settings(tx)
        zone = self.cloud.config.compute.availability_zone
        found = service.pools(self.cloud)
        now = bare_micros(self.cloud.clock.now())
        made = []
        for each in found:
            settings = said.get(each.host)
            disabled = settings is not None and settings.disabled
            one: dict[str, Any] = {
                "binary": service.VOLUME,
                "host": f"{each.host}@{service.BACKEND}",
                "zone": zone,
                "status": "disabled" if disabled else "enabled",
                "state": "up" if each.info else "down",
                "updated_at": now,
                "disabled_reason": settings.reason if settings is not None and disabled else None,
                "replication_status": "disabled",
                "active_backend_id": None,
                "frozen": settings is not None and settings.frozen,
            }
            if version(req) >= Version(3, 49):
                one["backend_state"] = one["state"]
            made.append(one)
        for name in sorted({each.host for each in found}):
            made.append(
                {
                    "binary": SCHEDULER,
                    "host": name,
                    "zone": zone,
                    "status": "enabled",
                    "state": "up",
                    "updated_at": now,
                    "disabled_reason": None,
                }
            )
        if version(req) >= Version(3, 7):
            for one in made:
                one["cluster"] = None
        host, binary = one_param(req, "host"), one_param(req, "binary")
        resp.media = {
            "services": [
                s
                for s in made
                if (host is None or host in (s["host"], s["host"].partition("@")[0]))
                and binary in (None, s["binary"])
            ]
        }


class ServiceVerb:
    """/v3/os-services/{enable|disable|disable-log-reason|freeze|thaw}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_put(self, req: Request, resp: Response, verb: str) -> None:
        if verb not in ("enable", "disable", "disable-log-reason", "freeze", "thaw"):
            raise NotFound("The resource could not be found.")
        given = body(req, ServiceName)
        if verb in ("freeze", "thaw"):
            with self.cloud.db.begin() as tx:
                service.set_frozen(tx, self.cloud, caller(req), given.host, verb == "freeze")
            resp.status = 202
            return
        disabled = verb != "enable"
        reason = given.disabled_reason if verb == "disable-log-reason" else None
        if verb == "disable-log-reason" and not reason:
            raise BadRequest(
                "Invalid input for field/attribute disabled_reason: 'disabled_reason' is a required property"
            )
        binary = given.binary or given.service or service.VOLUME
        with self.cloud.db.begin() as tx:
            service.set_disabled(tx, self.cloud, caller(req), given.host, binary, disabled, reason)
        made = {
            "host": given.host,
            "service": binary,
            "binary": binary,
            "disabled": disabled,
            "status": "disabled" if disabled else "enabled",
        }
        if verb != "disable":
            made["disabled_reason"] = reason
        resp.media = made


class Hosts:
    """/v3/os-hosts"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        caller(req).may("volume_extension:hosts")
        zone, now = self.cloud.config.compute.availability_zone, bare_micros(self.cloud.clock.now())
        made = []
        for each in service.pools(self.cloud):
            for name, binary in ((f"{each.host}@{service.BACKEND}", service.VOLUME), (each.host, SCHEDULER)):
                made.append(
                    {
                        "host_name": name,
                        "service": binary,
                        "zone": zone,
                        "service-status": "available" if each.info else "unavailable",
                        "service-state": "enabled",
                        "last-update": now,
                    }
                )
        resp.media = {"hosts": made}


class Host:
    """/v3/os-hosts/{name}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, name: str) -> None:
        caller(req).may("volume_extension:hosts")
        with self.cloud.db.read() as tx:
            known, held = hosts.held(tx, self.cloud, name.partition("@")[0])
        if not known:
            raise NotFound(f"Host {name[:64]} could not be found.")
        total = ("(total)", [sum(n) for n in zip(*(h[1] for h in held), strict=True)] or [0, 0, 0, 0])
        made = []
        for project, (volumes, gigabytes, snapshots, snapshot_gigabytes) in (total, *held):
            made.append(
                {
                    "resource": {
                        "host": name,
                        "project": project,
                        "volume_count": str(volumes),
                        "total_volume_gb": str(gigabytes),
                        "snapshot_count": str(snapshots),
                        "total_snapshot_gb": str(snapshot_gigabytes),
                    }
                }
            )
        resp.media = {"host": made}


class Zones:
    """/v3/os-availability-zone"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        caller(req).may("volume:availability_zone_list")
        zone = self.cloud.config.compute.availability_zone
        resp.media = {"availabilityZoneInfo": [{"zoneName": zone, "zoneState": {"available": True}}]}


class Pools:
    """/v3/scheduler-stats/get_pools"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        caller(req).may("scheduler_extension:scheduler_stats:get_pools")
        detail = boolean(one_param(req, "detail") or "false", "detail")
        name = one_param(req, "name") if version(req) >= Version(3, 28) else None
        made: list[dict[str, Any]] = []
        for each in service.pools(self.cloud):
            if each.info is None:
                continue
            one: dict[str, Any] = {"name": pool(each.host)}
            if detail:
                one["capabilities"] = {
                    **service.capabilities(each),
                    "timestamp": bare_micros(self.cloud.clock.now()),
                }
            if name in (None, one["name"]):
                made.append(one)
        resp.media = {"pools": made}


class Capabilities:
    """/v3/capabilities/{name}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, name: str) -> None:
        caller(req).may("volume_extension:capabilities")
        found = next(
            (p for p in service.pools(self.cloud) if p.host == name.partition("@")[0] and p.info), None
        )
        if found is None or found.info is None:
            raise NotFound(f"Backend {name[:64]} could not be found.")
        resp.media = {
            "namespace": f"OS::Storage::Capabilities::{found.host}",
            "vendor_name": "Stackling",
            "volume_backend_name": found.info.name,
            "pool_name": service.BACKEND,
            "driver_version": "1.0",
            "storage_protocol": "local",
            "display_name": f"Files on {found.host}",
            "description": "Volumes as files on the host's own disk",
            "visibility": "public",
            "replication_targets": [],
            "properties": {},
        }
