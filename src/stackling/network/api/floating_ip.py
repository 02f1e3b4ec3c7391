"""`/v2.0/floatingips`"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.network.actions import floating_ip
from stackling.network.actions.floating_ip import FloatingIPChanges, NewFloatingIP
from stackling.network.api import port as port_api
from stackling.network.api.resource import STANDARD, Kind, standard_view, tags_for
from stackling.network.state import floating_ip as floating_ips
from stackling.network.state.port import port

_SHOWN = (
    "floating_network_id",
    "floating_ip_address",
    "port_id",
    "fixed_ip_address",
    "router_id",
    "dns_name",
    "dns_domain",
)
_DETAILS = ("name", "network_id", "mac_address", "admin_state_up", "device_id", "device_owner")


def view(tx: Tx, cloud: Cloud, caller: Caller, rows: Sequence[Row]) -> list[dict[str, Any]]:
    tags = tags_for(tx, rows)
    inside = [r.port_id for r in rows if r.port_id]
    held = {p.id: p for p in tx.execute(sa.select(port).where(port.c.id.in_(inside)))} if inside else {}
    made = []
    for row in rows:
        end = held.get(row.port_id)
        one = {
            **standard_view(row, tags),
            **{name: getattr(row, name) for name in _SHOWN},
            "status": "ACTIVE" if row.port_id else "DOWN",
            "port_details": {**{n: getattr(end, n) for n in _DETAILS}, "status": port_api.status(end)}
            if end is not None
            else None,
        }
        del one["name"]
        made.append(one)
    return made


KIND = Kind(
    singular="floatingip",
    plural="floatingips",
    paths=("floatingips",),
    noun="Floating IP",
    table=floating_ips.floating_ip,
    new=NewFloatingIP,
    changes=FloatingIPChanges,
    attributes=(STANDARD - {"name"}) | {*_SHOWN, "status", "port_details"},
    find=floating_ip.find,
    create=floating_ip.create,
    update=floating_ip.update,
    remove=floating_ip.remove,
    visible=floating_ip.visible,
    view=view,
    conditions={
        "status": lambda texts: sa.or_(
            floating_ips.floating_ip.c.port_id.isnot(None) if "ACTIVE" in texts else sa.false(),
            floating_ips.floating_ip.c.port_id.is_(None) if "DOWN" in texts else sa.false(),
        ),
    },
    tags="floatingips",
)
