"""What the network service has from its first start: limits, the external networks of the configuration, and its periodic work."""

import ipaddress
from datetime import timedelta

import sqlalchemy as sa

from stackling.base import db, jobs
from stackling.base.cloud import Cloud
from stackling.base.config import ExternalNetwork
from stackling.base.db import Row, Tx
from stackling.identity.actions import project
from stackling.network.actions import address, standard
from stackling.network.actions import network as network_actions
from stackling.network.actions import subnet as subnet_actions
from stackling.network.actions.network import NewNetwork
from stackling.network.actions.subnet import NewSubnet, Pool
from stackling.network.state import subnet as subnets
from stackling.network.state.network import network
from stackling.network.state.subnet import subnet


def bootstrap(tx: Tx, cloud: Cloud) -> None:
    """Make what is missing, apply what changed in the configuration. Idempotent."""
    db.lock(tx, "network.bootstrap")
    standard.QUOTAS.register(tx, cloud)
    owner = project.by_name(tx, "admin")
    for place, wanted in enumerate(cloud.config.network.external):
        row = tx.execute(sa.select(network).where(network.c.configured == wanted.name)).first()
        if row is None:
            row = _create(tx, cloud, owner, wanted, place)
        else:
            _follow(tx, cloud, row, wanted, place)
        _subnet(tx, cloud, owner, row, wanted)
    for id in ("resync", "ports"):
        jobs.ensure(tx, "network.fabric", id, now=cloud.clock.now())
    jobs.start(tx, "network.fabric", "resync", now=cloud.clock.now())


def _create(tx: Tx, cloud: Cloud, owner: str, wanted: ExternalNetwork, place: int) -> Row:
    new = NewNetwork(
        name=wanted.name,
        shared=wanted.shared,
        external=True,
        is_default=place == 0,
        network_type="vlan" if wanted.vlan else "flat",
        physical_network=wanted.name,
        segmentation_id=wanted.vlan or None,
    )
    # Lists go by the time of creation: microseconds keep the order of the configuration.
    born = cloud.clock.now() + timedelta(microseconds=place)
    return network_actions.insert(tx, cloud, owner, new, configured=wanted.name, created_at=born)


def _follow(tx: Tx, cloud: Cloud, row: Row, wanted: ExternalNetwork, place: int) -> None:
    """What the configuration says of the network holds, whatever was done to it by API."""
    should = {
        "shared": wanted.shared,
        "external": True,
        "is_default": place == 0,
        "network_type": "vlan" if wanted.vlan else "flat",
        "physical_network": wanted.name,
        "segmentation_id": wanted.vlan or None,
    }
    differs = {name: value for name, value in should.items() if getattr(row, name) != value}
    if differs:
        if differs.get("is_default"):
            tx.execute(sa.update(network).where(network.c.is_default).values(is_default=False))
        standard.change(tx, cloud, network, row.id, differs)
        jobs.start(tx, network_actions.KIND, row.id, now=cloud.clock.now())
        network_actions.wake_routers(tx, cloud, row.id)


def _subnet(tx: Tx, cloud: Cloud, owner: str, net: Row, wanted: ExternalNetwork) -> None:
    cidr = address.prefix(wanted.cidr, "network.external.cidr")
    gateway = wanted.gateway or None
    pools = _pools(wanted, cidr)
    present = next(
        (s for s in subnets.of_networks(tx, [net.id]).get(net.id, []) if s.cidr == str(cidr)), None
    )
    if present is None:
        new = NewSubnet(
            name=f"{wanted.name}-subnet",
            network_id=net.id,
            cidr=str(cidr),
            gateway_ip=gateway,
            enable_dhcp=wanted.shared,  # only where guests may stand
            allocation_pools=[Pool(**p) for p in pools],
        )
        subnet_actions.insert(tx, cloud, None, net, owner, new)
        return
    should = {"gateway_ip": gateway, "allocation_pools": pools}
    differs = {name: value for name, value in should.items() if getattr(present, name) != value}
    if differs:
        standard.change(tx, cloud, subnet, present.id, {**differs, "next_ip": None})
        jobs.start(tx, network_actions.KIND, net.id, now=cloud.clock.now())
        network_actions.wake_routers(tx, cloud, net.id)


def _pools(wanted: ExternalNetwork, cidr: address.Prefix) -> list[dict[str, str]]:
    """The pool that is configured; else all but the gateway."""
    gateway = ipaddress.ip_address(wanted.gateway) if wanted.gateway else None
    if not wanted.pool_start and not wanted.pool_end:
        return address.default_pools(cidr, gateway)
    whole = address.default_pools(cidr, None)[0]
    pool = Pool(start=wanted.pool_start or whole["start"], end=wanted.pool_end or whole["end"])
    return address.checked_pools([pool], cidr, gateway)
