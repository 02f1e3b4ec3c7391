"""`/v2.0/ports`"""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest
from stackling.base.statement import Statement, among
from stackling.network.actions import port as port_actions
from stackling.network.actions.network import DISTRIBUTED
from stackling.network.actions.new_port import NewPort
from stackling.network.actions.port import PortChanges
from stackling.network.api.resource import STANDARD, Kind, standard_view, tags_for
from stackling.network.state import port as ports
from stackling.network.state.network import network
from stackling.network.state.port import ip_allocation, port, port_security_group

_SHOWN = (
    "network_id", "mac_address", "admin_state_up", "device_id", "device_owner", "port_security_enabled",
    "extra_dhcp_opts", "dns_name",
)  # fmt: skip
_BINDING = {
    "binding:host_id",
    "binding:profile",
    "binding:vif_type",
    "binding:vif_details",
    "binding:vnic_type",
}
_ALWAYS_UP = ("network:router_interface", "network:router_gateway", DISTRIBUTED)


def status(row: Row) -> str:
    """ACTIVE while a host has plugged the port; legs of routers and the metadata port are there on every host."""
    if not row.admin_state_up:
        return "DOWN"
    if row.device_owner == "network:floatingip":
        return "N/A"
    return "ACTIVE" if row.up or row.device_owner in _ALWAYS_UP else "DOWN"


def view(tx: Tx, cloud: Cloud, caller: Caller, rows: Sequence[Row]) -> list[dict[str, Any]]:
    ids = [r.id for r in rows]
    tags, addresses, groups = tags_for(tx, rows), ports.addresses(tx, ids), ports.groups(tx, ids)
    domains = {r.id: r.dns_domain for r in _DOMAINS.all(tx, ids=list({r.network_id for r in rows}))}
    shown = {name for name in _BINDING if name == "binding:vnic_type" or caller.can(f"get_port:{name}")}
    made = []
    for row in rows:
        fixed = [{"subnet_id": a.subnet_id, "ip_address": a.ip_address} for a in addresses.get(row.id, [])]
        one = {
            **standard_view(row, tags),
            **{name: getattr(row, name) for name in _SHOWN},
            "status": status(row),
            "fixed_ips": fixed,
            "security_groups": groups.get(row.id, []),
            "allowed_address_pairs": [
                {"ip_address": p["ip_address"], "mac_address": p["mac_address"] or row.mac_address}
                for p in row.allowed_address_pairs
            ],
            "dns_domain": row.dns_domain,
            "dns_assignment": _names(row, domains[row.network_id], [f["ip_address"] for f in fixed]),
        }
        one |= {name: value for name, value in _binding(row).items() if name in shown}
        made.append(one)
    return made


_DOMAINS = Statement(sa.select(network.c.id, network.c.dns_domain).where(among(network.c.id, "ids")))


def _names(row: Row, domain: str, addresses: list[str]) -> list[dict[str, str]]:
    """Under which names the network's own resolver knows the port."""
    made = []
    for ip in addresses:
        host = row.dns_name or "host-" + ip.replace(".", "-").replace(":", "-")
        suffix = (domain or "openstacklocal.").rstrip(".") + "."
        made.append({"hostname": host, "ip_address": ip, "fqdn": f"{host}.{suffix}"})
    return made


def _binding(row: Row) -> dict[str, Any]:
    bound = bool(row.host) and not row.device_owner.startswith("network:")
    return {
        "binding:host_id": row.host or "",
        "binding:profile": row.profile,
        "binding:vnic_type": row.vnic_type,
        "binding:vif_type": "ovs" if bound else "unbound",
        "binding:vif_details": {
            "port_filter": True,
            "connectivity": "l2",
            "bridge_name": "br-int",
            "datapath_type": "netdev",
        }
        if bound
        else {},
    }


def _held(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return port.c.id.in_(sa.select(ip_allocation.c.port_id).where(condition))


def _fixed_ips(texts: list[str]) -> ColumnElement[bool]:
    """`fixed_ips=ip_address=…`, `subnet_id=…`, `ip_address_substr=…`; values of one key are alternatives, keys add up."""
    asked: dict[str, list[str]] = {}
    for text in texts:
        name, _, value = text.partition("=")
        asked.setdefault(name, []).append(value)
    made: list[ColumnElement[bool]] = []
    for name, values in asked.items():
        if name == "ip_address":
            made.append(_held(ip_allocation.c.ip_address.in_(values)))
        elif name == "subnet_id":
            made.append(_held(ip_allocation.c.subnet_id.in_(values)))
        elif name == "ip_address_substr":
            made.append(
                _held(sa.or_(*(ip_allocation.c.ip_address.contains(v, autoescape=True) for v in values)))
            )
        else:
            raise BadRequest(
                f"Invalid filter fixed_ips: {name[:64]!r} is not ip_address, subnet_id or ip_address_substr"
            )
    return sa.and_(*made)


def _status(texts: list[str]) -> ColumnElement[bool]:
    up = sa.and_(port.c.admin_state_up, sa.or_(port.c.up, port.c.device_owner.in_(_ALWAYS_UP)))
    fits: dict[str, Callable[[], ColumnElement[bool]]] = {
        "ACTIVE": lambda: up,
        "DOWN": lambda: sa.and_(~up, port.c.device_owner != "network:floatingip"),
        "N/A": lambda: port.c.device_owner == "network:floatingip",
    }
    return sa.or_(sa.false(), *(fits[t]() for t in texts if t in fits))


def _in_groups(texts: list[str]) -> ColumnElement[bool]:
    return port.c.id.in_(
        sa.select(port_security_group.c.port_id).where(port_security_group.c.security_group_id.in_(texts))
    )


KIND = Kind(
    singular="port",
    plural="ports",
    paths=("ports",),
    noun="Port",
    table=port,
    new=NewPort,
    changes=PortChanges,
    wire={"binding:host_id": "host", "binding:vnic_type": "vnic_type", "binding:profile": "profile"},
    attributes=STANDARD
    | {
        *_SHOWN,
        *_BINDING,
        "status",
        "fixed_ips",
        "security_groups",
        "allowed_address_pairs",
        "dns_assignment",
        "dns_domain",
    },
    find=port_actions.find,
    create=port_actions.create,
    update=port_actions.update,
    remove=port_actions.remove,
    visible=port_actions.visible,
    view=view,
    conditions={"fixed_ips": _fixed_ips, "status": _status, "security_groups": _in_groups},
    tags="ports",
)
