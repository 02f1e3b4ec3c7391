"""What older clients ask: which extensions there are, and lists that are empty here for a reason."""

from typing import Any

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest, Gone, NotFound, Unavailable
from stackling.base.ids import is_uuid
from stackling.base.rest import caller, json_body
from stackling.compute.actions import server
from stackling.compute.api.link import known_queries
from stackling.compute.api.version import only, since
from stackling.compute.driver import HostUnavailable, Hypervisor

# alias: name
_EXTENSIONS = {
    "os-aggregates": "Aggregates",
    "os-attach-interfaces": "AttachInterfaces",
    "os-availability-zone": "AvailabilityZone",
    "os-config-drive": "ConfigDrive",
    "os-console-output": "ConsoleOutput",
    "OS-DCF": "DiskConfig",
    "OS-EXT-AZ": "ExtendedAvailabilityZone",
    "OS-EXT-IPS": "ExtendedIps",
    "OS-EXT-IPS-MAC": "ExtendedIpsMac",
    "OS-EXT-SRV-ATTR": "ExtendedServerAttributes",
    "OS-EXT-STS": "ExtendedStatus",
    "os-extended-volumes": "ExtendedVolumes",
    "OS-FLV-DISABLED": "FlavorDisabled",
    "OS-FLV-EXT-DATA": "FlavorExtraData",
    "os-flavor-access": "FlavorAccess",
    "os-flavor-extra-specs": "FlavorExtraSpecs",
    "os-flavor-manage": "FlavorManage",
    "os-floating-ips": "FloatingIps",
    "os-floating-ip-pools": "FloatingIpPools",
    "os-hosts": "Hosts",
    "os-hypervisors": "Hypervisors",
    "os-instance-actions": "InstanceActions",
    "os-keypairs": "Keypairs",
    "os-quota-sets": "Quotas",
    "os-quota-class-sets": "QuotaClasses",
    "os-security-groups": "SecurityGroups",
    "os-server-groups": "ServerGroups",
    "os-server-password": "ServerPassword",
    "os-services": "Services",
    "os-simple-tenant-usage": "SimpleTenantUsage",
    "OS-SCH-HNT": "SchedulerHints",
    "OS-SRV-USG": "ServerUsage",
    "os-user-data": "UserData",
    "os-volumes": "Volumes",
}


def _shown(alias: str) -> dict[str, Any]:
    name = _EXTENSIONS[alias]
    space = "http://docs.openstack.org/compute/ext/fake_xml"
    return {
        "alias": alias,
        "name": name,
        "description": name,
        "links": [],
        "namespace": space,
        "updated": "2014-12-03T00:00:00Z",
    }


class Extensions:
    """/extensions"""

    def on_get(self, req: Request, resp: Response) -> None:
        caller(req).may("os_compute_api:extensions")
        resp.media = {"extensions": [_shown(a) for a in sorted(_EXTENSIONS)]}


class Extension:
    """/extensions/{alias}"""

    def on_get(self, req: Request, resp: Response, alias: str) -> None:
        caller(req).may("os_compute_api:extensions")
        if alias not in _EXTENSIONS:
            raise NotFound(f"Extension {alias[:64]} could not be found.")
        resp.media = {"extension": _shown(alias)}


class Migrations:
    """/os-migrations: servers do not migrate yet, so there are none."""

    def on_get(self, req: Request, resp: Response) -> None:
        caller(req).may("os_compute_api:os-migrations:index")
        if since(req, "2.59"):
            known = [
                "hidden",
                "host",
                "instance_uuid",
                "source_compute",
                "status",
                "migration_type",
                "limit",
                "marker",
                "changes-since",
            ]
            known += ["changes-before"] if since(req, "2.66") else []
            known_queries(req, *known, *(["user_id", "project_id"] if since(req, "2.80") else []))
            if marker := req.get_param("marker"):
                raise BadRequest(f"Marker {marker[:64]} could not be found.")
        resp.media = {"migrations": []}


class ServerMigrations:
    """/servers/{server_id}/migrations and …/{id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, server_id: str, id: str | None = None) -> None:
        only(req, first="2.23")
        rule = "os_compute_api:servers:migrations:" + ("index" if id is None else "show")
        caller(req).may(rule)
        with self.cloud.db.read() as tx:
            server.get(tx, caller(req), server_id, rule)
        if id is not None:
            raise NotFound(f"In-progress live migration {id[:64]} is not found for server {server_id}.")
        resp.media = {"migrations": []}

    def on_delete(self, req: Request, resp: Response, server_id: str, id: str | None = None) -> None:
        only(req, first="2.24")
        rule = "os_compute_api:servers:migrations:delete"
        caller(req).may(rule)
        with self.cloud.db.read() as tx:
            server.get(tx, caller(req), server_id, rule)
        raise NotFound(f"In-progress live migration {str(id)[:64]} is not found for server {server_id}.")


class ServerPassword:
    """/servers/{server_id}/os-server-password"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def _hypervisor(self, req: Request, server_id: str, rule: str) -> tuple[Hypervisor | None, str]:
        with self.cloud.db.read() as tx:
            row = server.get(tx, caller(req), server_id, rule)
        return (self.cloud.driver(Hypervisor, row.host) if row.host else None), row.id

    def on_get(self, req: Request, resp: Response, server_id: str) -> None:
        host, id = self._hypervisor(req, server_id, "os_compute_api:os-server-password:show")
        try:
            resp.media = {"password": host.password(id) if host else ""}
        except HostUnavailable as e:
            raise Unavailable(f"The password is on the server's host, which does not answer: {e}") from None

    def on_delete(self, req: Request, resp: Response, server_id: str) -> None:
        host, id = self._hypervisor(req, server_id, "os_compute_api:os-server-password:clear")
        try:
            if host:
                host.clear_password(id)
        except HostUnavailable as e:
            raise Unavailable(f"The password is on the server's host, which does not answer: {e}") from None
        resp.status = 204


class ExternalEvents:
    """/os-server-external-events: have the servers that something happened to looked at again."""

    _NAMES = ("network-changed", "network-vif-plugged", "network-vif-unplugged", "network-vif-deleted")

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_post(self, req: Request, resp: Response) -> None:
        caller(req).may("os_compute_api:os-server-external-events:create")
        given = json_body(req)
        events = given.get("events") if isinstance(given, dict) else None
        names = [
            *self._NAMES,
            *(["volume-extended"] if since(req, "2.51") else []),
            *(["power-update"] if since(req, "2.76") else []),
            *(["accelerator-request-bound"] if since(req, "2.82") else []),
        ]
        if not isinstance(events, list) or not 0 < len(events) <= 1000 or set(given) != {"events"}:
            raise BadRequest("Invalid input for field/attribute events: it is a list of events")
        for event in events:
            if (
                not isinstance(event, dict)
                or not is_uuid(str(event.get("server_uuid")))
                or event.get("name") not in names
            ):
                raise BadRequest(
                    "Invalid input for field/attribute events: an event has a name that is known and a server_uuid"
                )
            if not isinstance(event.get("tag", ""), str) or event.get("status", "completed") not in (
                "failed",
                "completed",
                "in-progress",
            ):
                raise BadRequest(
                    "Invalid input for field/attribute events: tag is a text, status is failed, completed or in-progress"
                )
        made, bad = [], False
        with self.cloud.db.begin() as tx:
            for event in events:
                try:
                    row = server.get(
                        tx,
                        caller(req),
                        event["server_uuid"],
                        "os_compute_api:os-server-external-events:create",
                    )
                except NotFound:
                    bad = True
                    made.append({**event, "status": "failed", "code": 404})
                    continue
                server.look_again(tx, self.cloud, row.id)
                made.append({"status": "completed", **event, "code": 200})
        if all(e["code"] == 404 for e in made):
            raise NotFound("No instances found for any event")
        resp.status, resp.media = 207 if bad else 200, {"events": made}


class Removed:
    """Calls that upstream removed for all microversions: 410."""

    def __init__(self, *_: object) -> None:
        pass

    def _gone(self, req: Request, resp: Response, **_: str) -> None:
        caller(req)
        raise Gone("This resource is no longer available. No forwarding address is given.")

    on_get = on_post = on_put = on_delete = _gone
