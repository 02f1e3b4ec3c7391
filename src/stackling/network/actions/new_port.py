"""How a port comes to be and goes, whoever wants it: the parts that users' ports, servers' and routers' share."""

import re
import secrets
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET, Struct

from stackling.base import jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.statement import Statement
from stackling.network.actions import address, ipam, security_group, standard
from stackling.network.actions import network as network_actions
from stackling.network.actions.ipam import Fixed, WantedIP
from stackling.network.actions.standard import New, Unset
from stackling.network.errors import (
    AddressPairAndPortSecurityRequired,
    DuplicateAddressPairInRequest,
    InvalidInput,
    MacAddressInUse,
    NetworkNotFound,
    PortSecurityAndIPRequiredForSecurityGroups,
)
from stackling.network.state import network as networks
from stackling.network.state import subnet as subnets
from stackling.network.state.floating_ip import floating_ip
from stackling.network.state.port import port, port_security_group
from stackling.network.state.standard import State

KIND = "network.port"
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class Pair(Struct, forbid_unknown_fields=True):
    """One of `allowed_address_pairs`."""

    ip_address: str
    mac_address: str | None = None


class DHCPOption(Struct, forbid_unknown_fields=True):
    """One of `extra_dhcp_opts`; `opt_value=None` takes it away."""

    opt_name: str
    opt_value: str | None = None
    ip_version: int = 4


class NewPort(New, kw_only=True):
    network_id: str
    mac_address: str | Unset | None = UNSET
    fixed_ips: list[WantedIP] | Unset | None = UNSET
    admin_state_up: bool = True
    device_id: str = ""
    device_owner: str | Unset = UNSET
    security_groups: list[str] | Unset | None = UNSET
    port_security_enabled: bool | Unset = UNSET
    allowed_address_pairs: list[Pair] | Unset | None = UNSET
    extra_dhcp_opts: list[DHCPOption] | Unset | None = UNSET
    host: str | Unset | None = UNSET
    vnic_type: str | Unset | None = UNSET
    profile: dict[str, Any] | Unset | None = UNSET
    dns_name: str = ""
    dns_domain: str = ""
    tags: list[str] = []


def insert(
    tx: Tx,
    cloud: Cloud,
    caller: Caller | None,
    net: Row,
    project_id: str,
    want: NewPort,
    *,
    fixed: Sequence[Fixed] | None = None,
    only_ipv4: bool = False,
    **more: Any,
) -> Row:
    """The port itself, without asking whether its user may; `fixed` are addresses that were chosen already."""
    if not networks.hold(tx, net.id):
        raise NetworkNotFound(f"Network {net.id} could not be found.")
    owner = "" if want.device_owner is UNSET else want.device_owner
    mac = make_mac(tx, net.id, want.mac_address)
    if fixed is None:
        wanted = None if want.fixed_ips is UNSET else want.fixed_ips or []
        rows = subnets.of_networks(tx, [net.id]).get(net.id, [])
        if only_ipv4:
            rows = [r for r in rows if r.ip_version == 4]
        fixed = ipam.choose(tx, net.id, rows, mac, owner, wanted)
    secured = net.port_security_enabled if want.port_security_enabled is UNSET else want.port_security_enabled
    groups = port_groups(tx, cloud, caller, project_id, want.security_groups, secured, owner)
    pairs = address_pairs(want.allowed_address_pairs, secured)
    values = standard.fresh(cloud, project_id, want) | {
        "state": State.BUILD,
        "network_id": net.id,
        "mac_address": mac,
        "admin_state_up": want.admin_state_up,
        "device_id": want.device_id,
        "device_owner": owner,
        "host": want.host or None,
        "vnic_type": checked_vnic_type(want.vnic_type or "normal"),
        "profile": want.profile or {},
        "port_security_enabled": secured and not owner.startswith("network:"),
        "allowed_address_pairs": pairs,
        "extra_dhcp_opts": dhcp_options([], want.extra_dhcp_opts or []),
        "dns_name": want.dns_name,
        "dns_domain": want.dns_domain,
        "up": False,
        "created_by_server": False,
        "plug_order": 0,
    }
    row = standard.insert(tx, port, values | more)
    ipam.add(tx, row.id, fixed)
    join(tx, row.id, groups)
    if owner != "network:floatingip":  # such a port only keeps an address; there is nothing to plug
        jobs.start(tx, KIND, row.id, now=cloud.clock.now())
    return row


def make_mac(tx: Tx, network_id: str, wanted: str | Unset | None) -> str:
    def used(mac: str) -> bool:
        return _HAS_MAC.first(tx, network_id=network_id, mac=mac) is not None

    if wanted is UNSET or wanted is None:
        while True:
            mac = "fa:16:3e:" + ":".join(f"{b:02x}" for b in secrets.token_bytes(3))
            if not used(mac):
                return mac
    mac = checked_mac(wanted)
    if used(mac):
        raise MacAddressInUse(
            f"Unable to complete operation for network {network_id}. The mac address {mac} is in use."
        )
    return mac


_HAS_MAC = Statement(
    sa.select(port.c.id).where(
        port.c.network_id == sa.bindparam("network_id"), port.c.mac_address == sa.bindparam("mac")
    )
)


def checked_mac(text: str) -> str:
    """Raises InvalidInput."""
    mac = text.lower().replace("-", ":")
    if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise InvalidInput(
            f"Invalid input for mac_address. Reason: '{text[:64]}' is not a valid MAC address."
        )
    return mac


def checked_vnic_type(kind: str) -> str:
    if kind not in ("normal",):
        raise InvalidInput(
            f"Invalid input for binding:vnic_type. Reason: '{kind[:32]}' is not in ['normal']."
        )
    return kind


def port_groups(
    tx: Tx,
    cloud: Cloud,
    caller: Caller | None,
    project_id: str,
    wanted: list[str] | Unset | None,
    secured: bool,
    owner: str,
) -> list[str]:
    if owner.startswith("network:"):
        return []
    if wanted is UNSET or wanted is None:
        return [security_group.ensure_default(tx, cloud, project_id)] if secured else []
    if wanted and not secured:
        raise PortSecurityAndIPRequiredForSecurityGroups(
            "Port security must be enabled and port must have an IP address in order to use security groups."
        )
    unique = list(dict.fromkeys(wanted))
    if caller is not None:
        security_group.check_usable(tx, caller, unique, project_id)
    return unique


def join(tx: Tx, port_id: str, groups: Sequence[str]) -> None:
    if groups:
        tx.execute(_JOIN, [{"port_id": port_id, "security_group_id": g} for g in groups])


_JOIN = sa.insert(port_security_group)


def address_pairs(wanted: list[Pair] | Unset | None, secured: bool) -> list[dict[str, Any]]:
    if wanted is UNSET or not wanted:
        return []
    if not secured:
        raise AddressPairAndPortSecurityRequired(
            "Port Security must be enabled in order to have allowed address pairs on a port."
        )
    made: list[dict[str, Any]] = []
    if len(wanted) > 10:
        raise InvalidInput("Invalid input for allowed_address_pairs. Reason: at most 10 pairs.")
    for pair in wanted:
        net = address.prefix(pair.ip_address, "allowed_address_pairs")
        if net.is_multicast:
            raise InvalidInput(
                f"Invalid input for allowed_address_pairs. Reason: '{pair.ip_address}' is a multicast address."
            )
        one = {
            "ip_address": pair.ip_address,
            "mac_address": checked_mac(pair.mac_address) if pair.mac_address else None,
        }
        if one in made:
            raise DuplicateAddressPairInRequest(
                f"Request contains duplicate address pair: mac_address {one['mac_address']} ip_address {one['ip_address']}."
            )
        made.append(one)
    return made


def dhcp_options(had: list[dict[str, Any]], wanted: list[DHCPOption]) -> list[dict[str, Any]]:
    made = {(o["opt_name"], o["ip_version"]): o for o in had}
    for option in wanted:
        if not option.opt_name or len(option.opt_name) > 64 or option.ip_version not in (4, 6):
            raise InvalidInput(
                f"Invalid input for extra_dhcp_opts. Reason: {option.opt_name[:64]!r} for IPv{option.ip_version} is not valid."
            )
        key = (option.opt_name, option.ip_version)
        if option.opt_value is None:
            made.pop(key, None)
        elif (
            not option.opt_value.strip() or len(option.opt_value) > 255 or not option.opt_value.isprintable()
        ):
            raise InvalidInput(
                f"Invalid input for extra_dhcp_opts. Reason: the value of {option.opt_name!r} is blank, too long or not printable."
            )
        else:
            made[key] = {
                "opt_name": option.opt_name,
                "opt_value": option.opt_value,
                "ip_version": option.ip_version,
            }
    return list(made.values())


def let_go(tx: Tx, cloud: Cloud, floating_ip_id: str) -> None:
    """Part a floating IP from its port."""
    standard.change(
        tx, cloud, floating_ip, floating_ip_id, {"port_id": None, "fixed_ip_address": None, "router_id": None}
    )
    jobs.start(tx, "network.floating_ip", floating_ip_id, now=cloud.clock.now())


def described_anew(tx: Tx, cloud: Cloud, row: Row) -> None:
    """The port has changed: tell the fabric, and whoever's description holds the port."""
    now = cloud.clock.now()
    jobs.start(tx, KIND, row.id, now=now)
    if row.device_owner.startswith("network:router"):
        jobs.start(tx, "network.router", row.device_id, now=now)
    elif row.device_owner == network_actions.DISTRIBUTED:
        jobs.start(tx, network_actions.KIND, row.network_id, now=now)


def erase(tx: Tx, cloud: Cloud, row: Row) -> None:
    """The port is gone, whoever had it; floating IPs that led to it lead nowhere."""
    now = cloud.clock.now()
    for id in list(tx.execute(sa.select(floating_ip.c.id).where(floating_ip.c.port_id == row.id)).scalars()):
        let_go(tx, cloud, id)
    tx.execute(sa.delete(port).where(port.c.id == row.id))  # addresses and memberships go with it
    standard.forget_tags(tx, [row.id])
    jobs.start(tx, KIND, row.id, now=now)
    if row.device_owner == network_actions.DISTRIBUTED:
        jobs.start(tx, network_actions.KIND, row.network_id, now=now)
    elif row.device_owner.startswith("compute:") and row.device_id:
        jobs.wake(tx, "compute.server", row.device_id, now=now)
