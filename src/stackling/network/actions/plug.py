"""What compute needs to know of a server's ports, in few statements however many servers there are."""

from collections.abc import Sequence

import sqlalchemy as sa
from msgspec import Struct

from stackling.base.db import Row, Tx
from stackling.base.statement import Statement, among
from stackling.network.actions.address import prefixlen
from stackling.network.actions.network import DISTRIBUTED
from stackling.network.driver import HostRoute
from stackling.network.state import floating_ip as floating_ips
from stackling.network.state import port as ports
from stackling.network.state import subnet as subnets
from stackling.network.state.floating_ip import floating_ip
from stackling.network.state.network import network
from stackling.network.state.port import ip_allocation, port, port_security_group
from stackling.network.state.security_group import security_group


class PlugIP(Struct, frozen=True, kw_only=True):
    """One fixed IP of a plug with what its guest must know to use it."""

    ip_address: str
    subnet_id: str
    ip_version: int
    prefixlen: int
    gateway_ip: str | None
    dns_nameservers: tuple[str, ...]
    host_routes: tuple[HostRoute, ...]
    enable_dhcp: bool
    ipv6_address_mode: str | None
    floating_ips: tuple[str, ...]  # that lead to this address


class MetadataPort(Struct, frozen=True, kw_only=True):
    """The port through which the guests of a network reach the metadata service."""

    port_id: str
    mac_address: str
    cidrs: tuple[str, ...]  # its addresses with prefix lengths


class Plug(Struct, frozen=True, kw_only=True):
    """A port as a server has it."""

    port_id: str
    server_id: str
    name: str
    mac_address: str
    network_id: str
    network_name: str
    mtu: int  # bytes
    fixed_ips: tuple[PlugIP, ...]
    floating_ips: tuple[str, ...]
    metadata: MetadataPort | None
    status: str  # ACTIVE or DOWN, as the network API shows it
    up: bool
    host: str | None
    vnic_type: str
    security_group_names: tuple[str, ...]
    security_group_ids: tuple[str, ...]
    created_by_server: bool


class Face(Struct):
    """What those who look at a server see of its ports, in the order in which they were attached."""

    addresses: dict[str, list[tuple[str, str, str]]]  # by network name: (address, fixed or floating, MAC)
    security_groups: list[str]  # names


# Made once, because making a statement costs more than running it. One for both: a server rarely has more than one port,
# address and group, so few rows come twice.
_OF_SERVER = port.c.device_owner.like(
    sa.text("'compute:%'")
)  # as a parameter SQLite would plan anew each time
_FACES = Statement(
    sa.select(
        port.c.device_id,
        network.c.name,
        port.c.mac_address,
        ip_allocation.c.ip_address,
        floating_ip.c.floating_ip_address,
        security_group.c.name.label("security_group"),
    )
    .join(network, network.c.id == port.c.network_id)
    .outerjoin(ip_allocation, ip_allocation.c.port_id == port.c.id)
    .outerjoin(
        floating_ip,
        sa.and_(floating_ip.c.port_id == port.c.id, floating_ip.c.fixed_ip_address == ip_allocation.c.ip_address),
    )
    .outerjoin(port_security_group, port_security_group.c.port_id == port.c.id)
    .outerjoin(security_group, security_group.c.id == port_security_group.c.security_group_id)
    .where(among(port.c.device_id, "servers"), _OF_SERVER)
    .order_by(
        port.c.plug_order, port.c.created_at, port.c.id,
        ip_allocation.c.position, ip_allocation.c.ip_address,
        floating_ip.c.created_at, floating_ip.c.id,
        security_group.c.name,
    )
)  # fmt: skip


def faces(tx: Tx, server_ids: Sequence[str]) -> dict[str, Face]:
    """Addresses and security groups of each of the servers; none for a server without ports."""
    found: dict[str, Face] = {}
    for row in _FACES.all(tx, servers=list(server_ids)):
        group, mac = row.security_group, row.mac_address
        face = found.get(row.device_id)
        if face is None:
            face = found[row.device_id] = Face({}, [])
        listed = face.addresses.setdefault(row.name, [])
        for address in ((row.ip_address, "fixed", mac), (row.floating_ip_address, "floating", mac)):
            if address[0] is not None and address not in listed:
                listed.append(address)
        if group is not None and group not in face.security_groups:
            face.security_groups.append(group)
    return found


def plugs(tx: Tx, server_id: str) -> list[Plug]:
    """The ports of a server in the order in which they were attached."""
    return plugs_of(tx, [server_id])[server_id]


def plugs_of(tx: Tx, server_ids: Sequence[str], *, metadata: bool = True) -> dict[str, list[Plug]]:
    """The ports of each of the servers in the order in which they were attached; without `metadata` two statements cheaper."""
    found: dict[str, list[Plug]] = {id: [] for id in server_ids}
    for plug in _described(tx, _PORTS.all(tx, servers=list(server_ids)), metadata):
        found[plug.server_id].append(plug)
    return found


_PORTS = Statement(
    sa.select(port)
    .where(among(port.c.device_id, "servers"), _OF_SERVER)
    .order_by(port.c.plug_order, port.c.created_at, port.c.id)
)


def _described(tx: Tx, rows: list[Row], with_metadata: bool) -> list[Plug]:
    if not rows:
        return []
    port_ids = [r.id for r in rows]
    network_ids = list({r.network_id for r in rows})
    addresses, leads = ports.addresses(tx, port_ids), floating_ips.of_ports(tx, port_ids)
    names = _GROUP_NAMES.by(tx, "port_id", ids=port_ids)
    nets = {n.id: n for n in _NETWORKS.all(tx, ids=network_ids)}
    subnet_rows = {s.id: s for of_one in subnets.of_networks(tx, network_ids).values() for s in of_one}
    metadata = _metadata(tx, network_ids, subnet_rows) if with_metadata else {}
    made = []
    for row in rows:
        ends = {f.fixed_ip_address: f.floating_ip_address for f in leads.get(row.id, [])}
        groups = names.get(row.id, [])
        made.append(
            Plug(
                port_id=row.id,
                server_id=row.device_id,
                name=row.name,
                mac_address=row.mac_address,
                network_id=row.network_id,
                network_name=nets[row.network_id].name,
                mtu=nets[row.network_id].mtu,
                fixed_ips=tuple(
                    _fixed(a.ip_address, subnet_rows[a.subnet_id], ends) for a in addresses.get(row.id, [])
                ),
                floating_ips=tuple(ends.values()),
                metadata=metadata.get(row.network_id),
                status="ACTIVE" if row.up and row.admin_state_up else "DOWN",
                up=row.up,
                host=row.host,
                vnic_type=row.vnic_type,
                security_group_names=tuple(g.name for g in groups),
                security_group_ids=tuple(g.id for g in groups),
                created_by_server=row.created_by_server,
            )
        )
    return made


def _fixed(ip: str, row: Row, ends: dict[str, str]) -> PlugIP:
    return PlugIP(
        ip_address=ip,
        subnet_id=row.id,
        ip_version=row.ip_version,
        prefixlen=prefixlen(row.cidr),
        gateway_ip=row.gateway_ip,
        dns_nameservers=tuple(row.dns_nameservers),
        host_routes=tuple(HostRoute(r["destination"], r["nexthop"]) for r in row.host_routes),
        enable_dhcp=row.enable_dhcp,
        ipv6_address_mode=row.ipv6_address_mode,
        floating_ips=(ends[ip],) if ip in ends else (),
    )


_NETWORKS = Statement(sa.select(network).where(among(network.c.id, "ids")))
_GROUP_NAMES = Statement(
    sa.select(port_security_group.c.port_id, security_group.c.id, security_group.c.name)
    .join(security_group, security_group.c.id == port_security_group.c.security_group_id)
    .where(among(port_security_group.c.port_id, "ids"))
    .order_by(security_group.c.name, security_group.c.id)
)
_METADATA_PORTS = Statement(
    sa.select(port).where(among(port.c.network_id, "ids"), port.c.device_owner == DISTRIBUTED)
)


def _metadata(tx: Tx, network_ids: list[str], subnet_rows: dict[str, Row]) -> dict[str, MetadataPort]:
    rows = _METADATA_PORTS.all(tx, ids=network_ids)
    addresses = ports.addresses(tx, [r.id for r in rows])
    return {
        r.network_id: MetadataPort(
            port_id=r.id,
            mac_address=r.mac_address,
            cidrs=tuple(
                f"{a.ip_address}/{prefixlen(subnet_rows[a.subnet_id].cidr)}" for a in addresses.get(r.id, [])
            ),
        )
        for r in rows
    }
