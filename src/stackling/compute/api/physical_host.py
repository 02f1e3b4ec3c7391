"""Hosts as admins saw them before 2.43: what each has, and what its servers use of it."""

from typing import Any

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Unsupported
from stackling.base.rest import caller, json_body, one_param
from stackling.compute.actions import host as actions
from stackling.compute.api.version import only
from stackling.compute.state import aggregate, host
from stackling.placement.actions import provider

LAST = "2.42"


class _Room:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud


class Hosts(_Room):
    """/os-hosts"""

    def on_get(self, req: Request, resp: Response) -> None:
        only(req, last=LAST)
        caller(req).may("os_compute_api:os-hosts:list")
        zone, service = one_param(req, "zone"), one_param(req, "service")
        with self.cloud.db.read() as tx:
            zones = aggregate.zones(tx, self.cloud.config.compute.availability_zone)
            made = [
                {"host_name": r.hostname, "service": "compute", "zone": zones.of(r.hostname)}
                for r in host.everyone(tx)
            ]
        resp.media = {
            "hosts": [h for h in made if zone in (None, "", h["zone"]) and service in (None, "", "compute")]
        }


class Host(_Room):
    """/os-hosts/{hostname}"""

    def on_get(self, req: Request, resp: Response, hostname: str) -> None:
        only(req, last=LAST)
        caller(req).may("os_compute_api:os-hosts:show")
        with self.cloud.db.read() as tx:
            resp.media = {"host": self._resources(tx, actions.named(tx, hostname))}

    def _resources(self, tx: Tx, row: Row) -> list[dict[str, Any]]:
        """Memory in MiB, disk in GiB: all there is, what is used now, what the servers may use at most, and of that each project's part."""

        def resource(project: str, cpu: int, memory: int, disk: int) -> dict[str, Any]:
            return {
                "resource": {
                    "host": row.hostname,
                    "project": project,
                    "cpu": cpu,
                    "memory_mb": memory,
                    "disk_gb": disk,
                }
            }

        stock = provider.usage_by_name(tx).get(row.hostname, {})
        used = {name: stock[name].used if name in stock else 0 for name in ("VCPU", "MEMORY_MB", "DISK_GB")}
        projects: dict[str, list[int]] = {}
        for server in actions.servers_on(tx, row.hostname):
            sums = projects.setdefault(server.project_id, [0, 0, 0])
            size = server.flavor
            for i, more in enumerate((size["vcpus"], size["ram"], size["disk"] + size["ephemeral"])):
                sums[i] += more
        most = [sum(p[i] for p in projects.values()) for i in range(3)]
        return [
            resource("(total)", row.info["vcpus"], row.info["memory_mib"], row.info["disk_gib"]),
            resource(
                "(used_now)",
                used["VCPU"],
                used["MEMORY_MB"] + self.cloud.config.compute.reserved_memory_mib,
                used["DISK_GB"],
            ),
            resource("(used_max)", *most),
            *(resource(project, *sums) for project, sums in projects.items()),
        ]

    def on_put(self, req: Request, resp: Response, hostname: str) -> None:
        only(req, last=LAST)
        who = caller(req)
        who.may("os_compute_api:os-hosts:update")
        given = json_body(req)
        if not isinstance(given, dict) or not given or set(given) - {"status", "maintenance_mode"}:
            raise BadRequest(
                "Invalid input for field/attribute body: it has status, maintenance_mode, or both"
            )
        for name, value in given.items():
            if not isinstance(value, str) or value.strip().lower() not in ("enable", "disable"):
                raise BadRequest(f"Invalid input for field/attribute {name}: it is enable or disable")
        with self.cloud.db.begin() as tx:
            row = actions.named(tx, hostname)
            if "maintenance_mode" in given:
                raise Unsupported(
                    "This hypervisor has no maintenance mode; disable the host's compute service instead."
                )
            disabled = given["status"].strip().lower() == "disable"
            actions.update(tx, self.cloud, who, row, disabled=disabled)
        resp.media = {"host": row.hostname, "status": "disabled" if disabled else "enabled"}


class Power(_Room):
    """/os-hosts/{hostname}/startup, /shutdown and /reboot, which upstream's libvirt driver does not have either"""

    def __init__(self, cloud: Cloud, verb: str) -> None:
        super().__init__(cloud)
        self.verb = verb

    def on_get(self, req: Request, resp: Response, hostname: str) -> None:
        only(req, last=LAST)
        caller(req).may(f"os_compute_api:os-hosts:{self.verb}")
        with self.cloud.db.read() as tx:
            row = actions.named(tx, hostname)
        raise Unsupported(f"Host {row.hostname} can't be switched on, off or over by the cloud.")
