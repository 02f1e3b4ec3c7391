"""What the network itself consists of: `/v2.0/agents`, `/v2.0/availability_zones`, `/v2.0/service-providers`"""

import uuid
from datetime import UTC, datetime
from typing import Any

from falcon import Request, Response

from stackling.base import rest
from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest, Unavailable, Unsupported
from stackling.network.api import query
from stackling.network.api.network import ZONE
from stackling.network.api.resource import only
from stackling.network.driver import Chassis, Fabric
from stackling.network.errors import AgentNotFound

_LATE = 60  # seconds after which a host that has not been heard of counts as down
_SPACE = uuid.UUID("6f1b7a36-3c3d-4d0e-8f1a-2f5b8d7c9e10")  # names agents whose chassis' name is no UUID


def agents(cloud: Cloud) -> list[dict[str, Any]]:
    """One for each host of the fabric. A fabric that doesn't answer has none."""
    try:
        health = cloud.driver(Fabric).check()
    except Unavailable:
        return []
    latest = max((c.nb_cfg for c in health.chassis), default=0)
    return [_view(c, latest, cloud) for c in health.chassis]


def _view(host: Chassis, latest: int, cloud: Cloud) -> dict[str, Any]:
    now = cloud.clock.now()
    seen = datetime.fromtimestamp(host.seen_at / 1000, UTC).replace(tzinfo=None) if host.seen_at else now
    # A host that has reached the latest configuration is well, however long ago that was asked for.
    alive = host.nb_cfg >= latest or (now - seen).total_seconds() < _LATE
    try:
        id = str(uuid.UUID(host.name))
    except ValueError:
        id = str(uuid.uuid5(_SPACE, host.name))
    heard = f"{(now if alive else seen):%Y-%m-%d %H:%M:%S}"
    return {
        "id": id,
        "agent_type": "OVN Controller Gateway agent" if host.gateway else "OVN Controller agent",
        "binary": "ovn-controller",
        "host": host.hostname,
        "topic": "n/a",
        "availability_zone": ZONE,
        "admin_state_up": True,
        "alive": alive,
        "configurations": {
            "bridge-mappings": {p: f"br-{p}" for p in host.physical_networks},
            "chassis_name": host.name,
        },
        "created_at": f"{seen:%Y-%m-%d %H:%M:%S}",
        "started_at": f"{seen:%Y-%m-%d %H:%M:%S}",
        "heartbeat_timestamp": heard,
        "description": "",
        "resources_synced": None,
    }


_FILTERS = {
    "id",
    "agent_type",
    "binary",
    "host",
    "topic",
    "availability_zone",
    "admin_state_up",
    "alive",
    "description",
}


class Agents:
    """`/v2.0/agents`; who may not see them sees none"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        want = query.asked(req)
        unknown = [name for name in want.filters if name not in _FILTERS]
        if unknown:
            raise BadRequest(f"{unknown} is invalid attribute for filtering")
        found = agents(self.cloud) if rest.caller(req).can("get_agent") else []
        for name, texts in want.filters.items():
            found = [a for a in found if str(a[name]).lower() in {t.lower() for t in texts}]
        resp.media = {"agents": [only(a, want.fields) for a in found]}


class Agent:
    """`/v2.0/agents/{id}`"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def _find(self, req: Request, id: str) -> dict[str, Any]:
        if rest.caller(req).can("get_agent"):
            for one in agents(self.cloud):
                if one["id"] == id:
                    return one
        raise AgentNotFound(f"Agent {id} could not be found.")

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        resp.media = {"agent": self._find(req, id)}

    def on_put(self, req: Request, resp: Response, id: str) -> None:
        rest.caller(req).may("update_agent")
        self._find(req, id)
        raise Unsupported(
            "A host of the fabric can't be switched off by its agent; disable its compute service instead."
        )


class Zones:
    """`/v2.0/availability_zones`"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        want = query.asked(req)
        made = [
            {"name": ZONE, "resource": resource, "state": "available"} for resource in ("network", "router")
        ]
        for name, texts in want.filters.items():
            if name not in ("name", "resource", "state"):
                raise BadRequest(f"['{name[:64]}'] is invalid attribute for filtering")
            made = [m for m in made if m[name] in texts]
        resp.media = {"availability_zones": [only(m, want.fields) for m in made]}


class Providers:
    """`/v2.0/service-providers`"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        resp.media = {
            "service_providers": [{"service_type": "L3_ROUTER_NAT", "name": "ovn", "default": True}]
        }
