"""Networking v2.0 over HTTP: below `/network`."""

from collections.abc import Iterable

from falcon import Request, Response

from stackling.base import rest
from stackling.base.cloud import Cloud
from stackling.base.errors import (
    BadRequest,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    QuotaExceeded,
    Unsupported,
)
from stackling.base.rest import Envelope, Problem, Service
from stackling.network.api import (
    agent,
    extension,
    floating_ip,
    metering,
    network,
    port,
    quota,
    rbac,
    router,
    scheduler,
    security_group,
    subnet,
    topology,
)
from stackling.network.api.resource import routes

KINDS = (
    network.KIND,
    subnet.KIND,
    subnet.POOLS,
    subnet.SCOPES,
    port.KIND,
    router.KIND,
    floating_ip.KIND,
    security_group.KIND,
    security_group.RULES,
    security_group.ADDRESS_GROUPS,
    metering.LABELS,
    metering.RULES,
    rbac.KIND,
)
_PLAIN = {
    BadRequest: "HTTPBadRequest",
    Forbidden: "PolicyNotAuthorized",
    MethodNotAllowed: "HTTPMethodNotAllowed",
    NotFound: "HTTPNotFound",
    QuotaExceeded: "OverQuota",
}


def envelope(problem: Problem) -> Envelope:
    """`NeutronError`; the type is the name of the error, or what upstream calls the status."""
    error = problem.error
    if isinstance(error, Unsupported):
        return Envelope(
            {"NotImplementedError": {"message": error.says, "type": "NotImplementedError", "detail": ""}}
        )
    name = _PLAIN.get(type(error), type(error).__name__)
    if problem.kind == "route":
        name = "HTTPNotFound"
    status = 409 if isinstance(error, QuotaExceeded) else None
    return Envelope({"NeutronError": {"type": name, "message": error.says, "detail": ""}}, status=status)


class Versions:
    """`/network`"""

    public = True

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        href = f"{rest.base_url(req, self.cloud)}/network/v2.0/"
        resp.media = {
            "versions": [{"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": href}]}]
        }


class Resources:
    """`/network/v2.0`: the collections"""

    public = True

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        base = f"{rest.base_url(req, self.cloud)}/network/v2.0"
        resp.media = {
            "resources": [
                {
                    "name": k.singular,
                    "collection": k.plural,
                    "links": [{"rel": "self", "href": f"{base}/{k.paths[0]}"}],
                }
                for k in KINDS
            ]
        }


def _routes(cloud: Cloud) -> Iterable[tuple[str, object]]:
    yield "", Versions(cloud)
    yield "/v2.0", Resources(cloud)
    for kind in KINDS:
        yield from routes(cloud, kind)
    for add in (True, False):
        verb = "add" if add else "remove"
        for path in ("address-groups", "address_groups"):
            yield f"/v2.0/{path}/{{id}}/{verb}_addresses", security_group.Addresses(cloud, add=add)
        yield f"/v2.0/subnetpools/{{id}}/{verb}_prefixes", subnet.Prefixes(cloud, add=add)
        yield f"/v2.0/routers/{{id}}/{verb}_router_interface", router.Interface(cloud, add=add)
        yield f"/v2.0/routers/{{id}}/{verb}_extraroutes", router.ExtraRoutes(cloud, add=add)
    yield "/v2.0/network-ip-availabilities", network.Availabilities(cloud)
    yield "/v2.0/network-ip-availabilities/{id}", network.Availability(cloud)
    yield "/v2.0/quotas", quota.Quotas(cloud)
    yield "/v2.0/quotas/{project_id}", quota.Quota(cloud)
    yield "/v2.0/quotas/{project_id}/default", quota.QuotaDefaults(cloud)
    for details in ("details", "details.json"):
        yield f"/v2.0/quotas/{{project_id}}/{details}", quota.QuotaDetails(cloud)
    yield "/v2.0/extensions", extension.Extensions(cloud)
    yield "/v2.0/extensions/{alias}", extension.Extension(cloud)
    yield "/v2.0/agents", agent.Agents(cloud)
    yield "/v2.0/agents/{id}", agent.Agent(cloud)
    yield "/v2.0/agents/{id}/l3-routers", scheduler.AgentRouters(cloud)
    yield "/v2.0/agents/{id}/l3-routers/{router_id}", scheduler.AgentRouter(cloud)
    yield "/v2.0/agents/{id}/dhcp-networks", scheduler.AgentNetworks(cloud)
    yield "/v2.0/agents/{id}/dhcp-networks/{network_id}", scheduler.AgentNetwork(cloud)
    yield "/v2.0/routers/{id}/l3-agents", scheduler.RouterAgents(cloud)
    yield "/v2.0/networks/{id}/dhcp-agents", scheduler.NetworkAgents(cloud)
    yield "/v2.0/auto-allocated-topology/{project_id}", topology.Topology(cloud)
    yield "/v2.0/availability_zones", agent.Zones(cloud)
    yield "/v2.0/service-providers", agent.Providers(cloud)


SERVICE = Service(name="network", prefix="/network", routes=_routes, envelope=envelope)
