"""What compute does with the ports of its servers. Its callers have asked their own policy; the network's is not asked again
except for whether the caller can see the network or port."""

from typing import Any

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden
from stackling.network.actions import network as network_actions
from stackling.network.actions import security_group, standard
from stackling.network.actions.ipam import WantedIP
from stackling.network.actions.new_port import NewPort, described_anew, erase, insert
from stackling.network.errors import PortInUse, PortNotFound
from stackling.network.state import network as networks
from stackling.network.state import port as ports
from stackling.network.state import subnet as subnets
from stackling.network.state.port import ip_allocation, port
from stackling.network.state.subnet import subnet


def create_for_server(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    *,
    server_id: str,
    network_id: str,
    fixed_ip: str | None = None,
    security_group_ids: list[str] | None = None,
    host: str | None = None,
    availability_zone: str = "nova",
) -> Row:
    """A port for the server on a network that the caller can see; it goes with the server.

    `security_group_ids=None` means the project's default group. Raises NetworkNotFound, Forbidden (an external
    network), BadRequest (no subnet, or no such address there), QuotaExceeded, IpAddressAlreadyAllocated,
    IpAddressGenerationFailure, SecurityGroupNotFound.
    """
    net = network_actions.find(tx, caller, network_id)
    if net.external and not caller.is_admin and not network_actions.target(tx, caller, net)["shared"]:
        raise Forbidden(f"It is not allowed to create an interface on external network {network_id}")
    if not subnets.of_networks(tx, [network_id]):
        raise BadRequest(f"Network {network_id} requires a subnet in order to boot instances on.")
    project_id = caller.project_id or net.project_id
    if not net.port_security_enabled:
        security_group_ids = []
    elif security_group_ids is not None:
        security_group.check_usable(tx, caller, security_group_ids, project_id)
    standard.check_quota(tx, cloud, project_id, port=1)
    want = NewPort(
        network_id=network_id,
        device_id=server_id,
        device_owner=f"compute:{availability_zone}",
        host=host,
        security_groups=security_group_ids,
    )
    if fixed_ip:
        want.fixed_ips = [WantedIP(ip_address=fixed_ip)]
    return insert(
        tx, cloud, None, net, project_id, want, created_by_server=True, plug_order=_next_order(tx, server_id)
    )


def _next_order(tx: Tx, server_id: str) -> int:
    most = tx.execute(sa.select(sa.func.max(port.c.plug_order)).where(port.c.device_id == server_id)).scalar()
    return (most or 0) + 1


def take_for_server(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    port_id: str,
    *,
    server_id: str,
    host: str | None = None,
    availability_zone: str = "nova",
) -> Row:
    """An existing port becomes the server's. Raises PortNotFound, PortInUse (a Conflict)."""
    row = ports.by_id(tx, port_id)
    missing = PortNotFound(f"Port id {port_id} could not be found.")
    if row is None:
        raise missing
    net = networks.by_id(tx, row.network_id)
    seen = standard.target(row.project_id, **({"network:tenant_id": net.project_id} if net else {}))
    standard.guard(caller, "get", "port", seen, missing)
    taken = tx.execute(
        sa.update(port)
        .where(port.c.id == port_id, port.c.device_id.in_(["", server_id]))
        .values(
            device_id=server_id,
            device_owner=f"compute:{availability_zone}",
            host=host,
            plug_order=_next_order(tx, server_id),
            updated_at=cloud.clock.now(),
            revision_number=port.c.revision_number + 1,
        )
        .returning(*port.c)
    ).first()
    if taken is None:
        raise PortInUse(f"Port {port_id} is still in use.")
    described_anew(tx, cloud, taken)
    return taken


def bind(tx: Tx, cloud: Cloud, server_id: str, host: str) -> None:
    """The server runs, or will run, on `host`: its ports may be plugged there and nowhere else."""
    moved = tx.execute(
        sa.update(port)
        .where(
            port.c.device_id == server_id,
            port.c.device_owner.like("compute:%"),
            port.c.host.is_distinct_from(host),
        )
        .values(host=host, updated_at=cloud.clock.now(), revision_number=port.c.revision_number + 1)
        .returning(*port.c)
    )
    for row in list(moved):
        described_anew(tx, cloud, row)


def release(tx: Tx, cloud: Cloud, port_id: str, server_id: str) -> None:
    """The server is done with the port: one that was made for it is gone, one that it was given is free. Already so: nothing."""
    row = ports.by_id(tx, port_id)
    if row is None or row.device_id != server_id:
        return
    if row.created_by_server:
        erase(tx, cloud, row)
        return
    values: dict[str, Any] = {
        "device_id": "",
        "device_owner": "",
        "host": None,
        "profile": {},
        "up": False,
        "plug_order": 0,
    }
    described_anew(tx, cloud, standard.change(tx, cloud, port, port_id, values))


def by_address(tx: Tx, network_id: str, ip_address: str) -> Row | None:
    """The port of a network that has the address: how the metadata service learns who asks."""
    query = (
        sa.select(port)
        .join(ip_allocation, ip_allocation.c.port_id == port.c.id)
        .join(subnet, subnet.c.id == ip_allocation.c.subnet_id)
        .where(port.c.network_id == network_id, ip_allocation.c.ip_address == ip_address)
    )
    return tx.execute(query).first()


def devices_with_address(pattern: str, ip_version: int) -> sa.Select[tuple[str]]:
    """The ids of devices that have a fixed address matching a regular expression; to be used inside a query."""
    return (
        sa.select(port.c.device_id)
        .join(ip_allocation, ip_allocation.c.port_id == port.c.id)
        .where(
            ip_allocation.c.ip_address.regexp_match(pattern),
            ip_allocation.c.ip_address.like("%:%" if ip_version == 6 else "%.%"),
        )
    )
