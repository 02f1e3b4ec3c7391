"""A server's ports: attach and detach while it lives, and their addresses and security groups."""

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, NotFound
from stackling.compute.actions import instance_action, server
from stackling.compute.state import nic as state
from stackling.compute.state.nic import Plugged, nic
from stackling.network.actions import floating_ip as floating_ips
from stackling.network.actions import network as networks
from stackling.network.actions import port as ports
from stackling.network.actions import security_group as security_groups
from stackling.network.actions.floating_ip import FloatingIPChanges
from stackling.network.actions.ipam import WantedIP
from stackling.network.actions.port import Face, Plug, PortChanges
from stackling.network.errors import PortInUse

_STATES = ("active", "stopped", "paused")


def of(tx: Tx, caller: Caller, server_id: str, rule: str) -> list[Plug]:
    """The ports of a server, in the order in which they were attached."""
    return ports.plugs(tx, server.get(tx, caller, server_id, rule).id)


def face(tx: Tx, caller: Caller, server_id: str, rule: str) -> Face:
    """The addresses and security groups of a server."""
    id = server.get(tx, caller, server_id, rule).id
    return ports.faces(tx, [id]).get(id) or Face({}, [])


def get(tx: Tx, caller: Caller, server_id: str, port_id: str, rule: str) -> Plug:
    for plug in of(tx, caller, server_id, rule):
        if plug.port_id == port_id:
            return plug
    raise NotFound(f"Port id {port_id[:64]} could not be found.")


def create(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    server_id: str,
    *,
    network_id: str | None = None,
    port_id: str | None = None,
    fixed_ip: str | None = None,
    tag: str | None = None,
) -> Plug:
    """Attach an existing port, or a new one. Raises NotFound, BadRequest, Conflict."""
    row = server.unlocked(tx, caller, server_id, "os_compute_api:os-attach-interfaces:create")
    server.require(row, "attach_interface", *_STATES)
    zone = row.availability_zone or cloud.config.compute.availability_zone
    if port_id is None and network_id is None:
        found = networks.for_servers(tx, caller)
        if len(found) != 1:
            raise BadRequest(
                "Multiple possible networks found, use a Network ID to be more specific."
                if found
                else "There is no network to attach to."
            )
        network_id = found[0].id
    if port_id is not None:
        try:
            made = ports.take_for_server(
                tx, cloud, caller, port_id, server_id=row.id, host=row.host, availability_zone=zone
            )
        except PortInUse as e:
            raise BadRequest(e.says) from None  # upstream's answer here, unlike at create
        if port_id in state.of(tx, row.id):
            raise BadRequest(f"Port {port_id} is still in use.")
    else:
        try:
            made = ports.create_for_server(
                tx,
                cloud,
                caller,
                server_id=row.id,
                network_id=network_id or "",
                fixed_ip=fixed_ip,
                host=row.host,
                availability_zone=zone,
            )
        except Conflict as e:
            raise BadRequest(e.says) from None
    tx.execute(
        sa.insert(nic).values(
            port_id=made.id, server_id=row.id, state=Plugged.WANTED, tag=tag, created_at=cloud.clock.now()
        )
    )
    instance_action.record(tx, cloud, caller, row.id, "attach_interface")
    server.look_again(tx, cloud, row.id)
    return get(tx, caller, server_id, made.id, "os_compute_api:os-attach-interfaces:create")


def delete(tx: Tx, cloud: Cloud, caller: Caller, server_id: str, port_id: str) -> None:
    """Detach a port; one that was made for the server goes. Raises NotFound, Conflict."""
    row = server.unlocked(tx, caller, server_id, "os_compute_api:os-attach-interfaces:delete")
    server.require(row, "detach_interface", *_STATES)
    get(tx, caller, server_id, port_id, "os_compute_api:os-attach-interfaces:delete")
    if port_id in state.of(tx, row.id):
        tx.execute(sa.update(nic).where(nic.c.port_id == port_id).values(state=Plugged.UNPLUGGING))
    else:  # one whose device_id was set by the network API
        tx.execute(
            sa.insert(nic).values(
                port_id=port_id, server_id=row.id, state=Plugged.UNPLUGGING, created_at=cloud.clock.now()
            )
        )
    instance_action.record(tx, cloud, caller, row.id, "detach_interface")
    server.look_again(tx, cloud, row.id)


# -- addresses of what is attached -------------------------------------------------------------------------------------


def add_fixed_ip(tx: Tx, cloud: Cloud, caller: Caller, server_id: str, network_id: str) -> None:
    """Another address for the server's port on a network. Raises BadRequest when it has none there."""
    row = server.unlocked(tx, caller, server_id, "os_compute_api:os-multinic:add")
    for plug in ports.plugs(tx, row.id):
        if plug.network_id == network_id and plug.fixed_ips:
            have = [WantedIP(subnet_id=f.subnet_id, ip_address=f.ip_address) for f in plug.fixed_ips]
            wanted = [*have, WantedIP(subnet_id=plug.fixed_ips[0].subnet_id)]
            ports.update(tx, cloud, _elevated(caller, row), plug.port_id, PortChanges(fixed_ips=wanted))
            server.look_again(tx, cloud, row.id)
            return
    raise BadRequest(f"Network could not be found for instance {row.id}: {network_id[:64]}")


def remove_fixed_ip(tx: Tx, cloud: Cloud, caller: Caller, server_id: str, address: str) -> None:
    """Take an address from the server. Raises BadRequest when it does not have it."""
    row = server.unlocked(tx, caller, server_id, "os_compute_api:os-multinic:remove")
    for plug in ports.plugs(tx, row.id):
        left = [
            WantedIP(subnet_id=f.subnet_id, ip_address=f.ip_address)
            for f in plug.fixed_ips
            if f.ip_address != address
        ]
        if len(left) < len(plug.fixed_ips):
            ports.update(tx, cloud, _elevated(caller, row), plug.port_id, PortChanges(fixed_ips=left))
            server.look_again(tx, cloud, row.id)
            return
    raise BadRequest(f"Fixed IP {address[:64]} not found for instance {row.id}")


def _elevated(caller: Caller, row: Row) -> Caller:
    """Compute has asked its own policy; the network's rule on choosing addresses is for those who call it themselves."""
    return Caller(
        policy=caller.policy,
        user_id=caller.user_id,
        project_id=row.project_id,
        roles=frozenset({"admin", "manager", "member", "reader"}),
    )


# -- security groups ---------------------------------------------------------------------------------------------------


def groups_of(tx: Tx, caller: Caller, server_id: str) -> list[str]:
    """The ids of a server's security groups."""
    row = server.get(tx, caller, server_id, "os_compute_api:os-security-groups:list")
    return list(dict.fromkeys(id for p in ports.plugs(tx, row.id) for id in p.security_group_ids))


def add_group(tx: Tx, cloud: Cloud, caller: Caller, server_id: str, name: str) -> None:
    """All ports of the server join a group. Raises NotFound."""
    row = server.unlocked(tx, caller, server_id, "os_compute_api:os-security-groups:add")
    id = security_groups.resolve(tx, cloud, caller, [name])[0]
    for plug in ports.plugs(tx, row.id):
        if id not in plug.security_group_ids:
            ports.update(
                tx, cloud, caller, plug.port_id, PortChanges(security_groups=[*plug.security_group_ids, id])
            )
    server.look_again(tx, cloud, row.id)


def remove_group(tx: Tx, cloud: Cloud, caller: Caller, server_id: str, name: str) -> None:
    """All ports of the server leave a group. Raises NotFound when none is in it."""
    row = server.unlocked(tx, caller, server_id, "os_compute_api:os-security-groups:remove")
    id = security_groups.resolve(tx, cloud, caller, [name])[0]
    holding = [p for p in ports.plugs(tx, row.id) if id in p.security_group_ids]
    if not holding:
        raise NotFound(f"Security group {name[:255]} not associated with the instance {row.id}")
    for plug in holding:
        ports.update(
            tx,
            cloud,
            caller,
            plug.port_id,
            PortChanges(security_groups=[g for g in plug.security_group_ids if g != id]),
        )
    server.look_again(tx, cloud, row.id)


def add_floating_ip(
    tx: Tx, cloud: Cloud, caller: Caller, server_id: str, ip_address: str, fixed_ip: str | None
) -> None:
    """Lead a floating IP, wherever it led before, to a server. Raises NotFound, BadRequest."""
    row = server.unlocked(tx, caller, server_id, "os_compute_api:os-floating-ips:add")
    found = floating_ips.of_project(tx, row.project_id, ip_address=ip_address)
    if not found:
        raise NotFound("floating IP not found")
    ends = [
        (p.port_id, ip.ip_address)
        for p in ports.plugs(tx, row.id)
        for ip in p.fixed_ips
        if ip.ip_version == 4
    ]
    if not ends:
        raise BadRequest("No fixed IPs associated to instance")
    if fixed_ip is not None:
        ends = [e for e in ends if e[1] == fixed_ip]
        if not ends:
            raise BadRequest("Specified fixed address not assigned to instance")
    try:
        floating_ips.update(
            tx, cloud, caller, found[0].id, FloatingIPChanges(port_id=ends[0][0], fixed_ip_address=ends[0][1])
        )
    except (Conflict, NotFound) as e:  # the address has another already, or no router leads there
        raise BadRequest(e.says) from None


def remove_floating_ip(tx: Tx, cloud: Cloud, caller: Caller, server_id: str, ip_address: str) -> None:
    """Raises NotFound, Conflict when it leads elsewhere."""
    row = server.unlocked(tx, caller, server_id, "os_compute_api:os-floating-ips:remove")
    found = floating_ips.of_project(tx, row.project_id, ip_address=ip_address)
    if not found:
        raise NotFound("floating IP not found")
    if found[0].device_id != row.id:
        raise Conflict(f"Floating IP {ip_address} is not associated with instance {row.id}.")
    floating_ips.update(tx, cloud, caller, found[0].id, FloatingIPChanges(port_id=None))
