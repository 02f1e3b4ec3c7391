"""Which host serves what: `/v2.0/routers/{id}/l3-agents`, `/v2.0/agents/{id}/l3-routers`, and the same for DHCP.

Every host that has a guest of a network answers its DHCP itself, so there are no DHCP agents. A router's gateway is on
the hosts that the fabric was told; which of them carries it now is the fabric's own choice.
"""

from typing import Any

import sqlalchemy as sa
from falcon import Request, Response

from stackling.base import rest
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import Conflict
from stackling.network.actions import network, router
from stackling.network.actions.chassis import gateway_chassis
from stackling.network.api import agent as agent_api
from stackling.network.api import router as router_api
from stackling.network.driver import Chassis, Fabric
from stackling.network.errors import AgentNotFound
from stackling.network.state import network as networks
from stackling.network.state.port import port
from stackling.network.state.router import router as routers


class InvalidAgent(Conflict):
    """The agent can't serve it, or can't be told to."""


def _chassis(cloud: Cloud) -> tuple[Chassis, ...]:
    return cloud.driver(Fabric).check().chassis


def _carriers(tx: Tx, row: Row, chassis: tuple[Chassis, ...]) -> list[str]:
    """Names of the hosts that may carry the router's gateway, the first choice first."""
    leg = (
        tx.execute(sa.select(port.c.network_id).where(port.c.id == row.gateway_port_id)).first()
        if row.gateway_port_id
        else None
    )
    net = networks.by_id(tx, leg.network_id) if leg else None
    return [c.name for c in gateway_chassis(row.id, net.physical_network, chassis)] if net else []


def _agent(cloud: Cloud, caller: Caller, id: str) -> dict[str, Any]:
    caller.may("get_agent")
    for one in agent_api.agents(cloud):
        if one["id"] == id:
            return one
    raise AgentNotFound(f"Agent {id} could not be found.")


class RouterAgents:
    """`/v2.0/routers/{id}/l3-agents`"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        caller = rest.caller(req)
        with self.cloud.db.read() as tx:
            row = router.find(tx, caller, id)
            caller.may("get_l3-agents")
            names = _carriers(tx, row, _chassis(self.cloud))
        found = {a["configurations"]["chassis_name"]: a for a in agent_api.agents(self.cloud)}
        made = [
            {**found[n], "ha_state": "standby" if i else "active"} for i, n in enumerate(names) if n in found
        ]
        resp.media = {"agents": made}


class AgentRouters:
    """`/v2.0/agents/{id}/l3-routers`"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        caller = rest.caller(req)
        caller.may("get_l3-routers")
        name = _agent(self.cloud, caller, id)["configurations"]["chassis_name"]
        chassis = _chassis(self.cloud)
        with self.cloud.db.read() as tx:
            rows = list(
                tx.execute(
                    sa.select(routers)
                    .where(routers.c.gateway_port_id.isnot(None))
                    .order_by(routers.c.created_at)
                )
            )
            mine = [r for r in rows if name in _carriers(tx, r, chassis)]
            resp.media = {"routers": router_api.view(tx, self.cloud, caller, mine)}

    def on_post(self, req: Request, resp: Response, id: str) -> None:
        caller = rest.caller(req)
        caller.may("create_l3-router")
        _agent(self.cloud, caller, id)
        raise InvalidAgent(
            f"Agent {id} takes no routers by hand: the fabric spreads gateways over its hosts."
        )


class AgentRouter:
    """`/v2.0/agents/{id}/l3-routers/{router_id}`"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_delete(self, req: Request, resp: Response, id: str, router_id: str) -> None:
        caller = rest.caller(req)
        caller.may("delete_l3-router")
        _agent(self.cloud, caller, id)
        raise InvalidAgent(
            f"Router {router_id[:64]} can't be taken from agent {id}: the fabric spreads gateways over its hosts."
        )


class NetworkAgents:
    """`/v2.0/networks/{id}/dhcp-agents`"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        caller = rest.caller(req)
        with self.cloud.db.read() as tx:
            network.find(tx, caller, id)
        caller.may("get_dhcp-agents")
        resp.media = {"agents": []}


class AgentNetworks:
    """`/v2.0/agents/{id}/dhcp-networks`"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        caller = rest.caller(req)
        caller.may("get_dhcp-networks")
        _agent(self.cloud, caller, id)
        resp.media = {"networks": []}

    def on_post(self, req: Request, resp: Response, id: str) -> None:
        caller = rest.caller(req)
        caller.may("create_dhcp-network")
        _agent(self.cloud, caller, id)
        raise InvalidAgent(f"Agent {id} is not a DHCP agent: every host answers DHCP for its own guests.")


class AgentNetwork:
    """`/v2.0/agents/{id}/dhcp-networks/{network_id}`"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_delete(self, req: Request, resp: Response, id: str, network_id: str) -> None:
        caller = rest.caller(req)
        caller.may("delete_dhcp-network")
        _agent(self.cloud, caller, id)
        raise InvalidAgent(f"Network {network_id[:64]} is not hosted by agent {id}: it is not a DHCP agent.")
