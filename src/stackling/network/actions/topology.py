"""The network that a project gets when it asks for one and says nothing more: routed to the default external network."""

import sqlalchemy as sa

from stackling.base import db
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.network.actions import network, router, standard, subnet, subnetpool
from stackling.network.actions.network import NewNetwork
from stackling.network.actions.router import Gateway, Leg, NewRouter
from stackling.network.actions.subnet import NewSubnet
from stackling.network.errors import AutoAllocatedTopologyNotFound, AutoAllocationFailure
from stackling.network.state import subnet as subnets
from stackling.network.state.network import network as networks
from stackling.network.state.router import router as routers
from stackling.network.state.topology import auto_allocated_topology

_NAMES = {"network": "auto_allocated_network", "router": "auto_allocated_router"}


def find(tx: Tx, project_id: str) -> Row | None:
    return tx.execute(
        sa.select(auto_allocated_topology).where(auto_allocated_topology.c.project_id == project_id)
    ).first()


def check(tx: Tx, caller: Caller, project_id: str) -> None:
    """Whether `ensure` would work. Raises Forbidden, AutoAllocationFailure saying what an administrator must make first."""
    caller.may("get_auto_allocated_topology", standard.target(project_id))
    _requirements(tx, caller)


def _requirements(tx: Tx, caller: Caller) -> tuple[Row, list[Row]]:
    outside = tx.execute(sa.select(networks).where(networks.c.is_default, networks.c.external)).first()
    if outside is None:
        raise AutoAllocationFailure("Deployment error: No default external network is set.")
    pools = [p for version in (4, 6) if (p := subnetpool.default(tx, caller, version)) is not None]
    if not pools:
        raise AutoAllocationFailure("Deployment error: No default subnetpools defined.")
    return outside, pools


def ensure(tx: Tx, cloud: Cloud, caller: Caller, project_id: str) -> str:
    """The id of the project's network, made now with subnets and router if there is none.

    Raises Forbidden, AutoAllocationFailure, QuotaExceeded.
    """
    caller.may("get_auto_allocated_topology", standard.target(project_id))
    db.lock(tx, f"auto_allocated_topology:{project_id}")
    present = find(tx, project_id)
    if present is not None:
        return str(present.network_id)
    outside, pools = _requirements(tx, caller)
    net = network.create(tx, cloud, caller, NewNetwork(name=_NAMES["network"], project_id=project_id))
    made = router.create(
        tx,
        cloud,
        caller,
        NewRouter(name=_NAMES["router"], project_id=project_id, gateway=Gateway(network_id=outside.id)),
    )
    for pool in pools:
        new = NewSubnet(
            name=f"auto_allocated_subnet_v{pool.ip_version}", network_id=net.id, project_id=project_id,
            ip_version=pool.ip_version, use_default_subnetpool=True,
        )  # fmt: skip
        inside = subnet.create(tx, cloud, caller, new)
        router.add_interface(tx, cloud, caller, made.id, Leg(subnet_id=inside.id))
    values = {"project_id": project_id, "network_id": net.id, "router_id": made.id}
    tx.execute(sa.insert(auto_allocated_topology).values(**values))
    return str(net.id)


def remove(tx: Tx, cloud: Cloud, caller: Caller, project_id: str) -> None:
    """Take it all away. Raises AutoAllocatedTopologyNotFound, Forbidden, and NetworkInUse while ports are on it."""
    caller.may("delete_auto_allocated_topology", standard.target(project_id))
    present = find(tx, project_id)
    if present is None:
        raise AutoAllocatedTopologyNotFound(f"No auto-allocated topology for project {project_id[:64]}.")
    tx.execute(sa.delete(auto_allocated_topology).where(auto_allocated_topology.c.project_id == project_id))
    if tx.execute(sa.select(routers.c.id).where(routers.c.id == present.router_id)).first():
        for row in subnets.of_networks(tx, [present.network_id]).get(present.network_id, []):
            router.remove_interface(tx, cloud, caller, present.router_id, Leg(subnet_id=row.id))
        router.remove(tx, cloud, caller, present.router_id)
    network.remove(tx, cloud, caller, present.network_id)
