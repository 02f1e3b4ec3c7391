"""What ensuring or removing one thing writes into the northbound database, inside one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from stackling.network.driver import FloatingIP, Kind, Network, NotReady, Port, Router, SecurityGroup
from stackling.network.drivers import ovn_acl, ovn_dhcp, ovn_router, ovn_switch
from stackling.network.drivers.ovn_rows import Editor, own_ids, owner_of, references, uuid_of


def ensure_network(editor: Editor, network: Network) -> None:
    """A network's rows are as described, and its ports follow."""
    rows = ovn_switch.network_rows(network)
    uuid = uuid_of(network.id)
    switch = editor.row("Logical_Switch", uuid)
    noted = own_ids(switch) if switch is not None else {}
    stale = set(noted.get("subnets", "").split()) - {str(row.uuid) for row in rows}
    follow = bool(stale)
    for id in stale:
        editor.destroy("DHCP_Options", UUID(id))
    for row in rows:
        edited = editor.put(row)
        follow |= edited and row.table in ("DHCP_Options", "DNS", "Logical_Switch")
    if not any(row.table == "Logical_Switch_Port" for row in rows):
        editor.leave("Logical_Switch", uuid, "ports", ovn_switch.localnet_uuid(network.id))
    if follow and switch is not None:
        served = {subnet.id: ovn_dhcp.serve(subnet, network) for subnet in network.subnets}
        _ports_follow(editor, switch, network, noted.get("dns_domain", ""), served.get)


def _ports_follow(
    editor: Editor, switch: Any, network: Network, domain: str, lookup: ovn_dhcp.Lookup
) -> None:
    """A network's ports take up changes of its subnets' DHCP and of its DNS domain."""
    dns = ovn_switch.dns_uuid(network.id)
    for uuid in references(switch, "ports"):
        port = editor.row("Logical_Switch_Port", uuid)
        owner = owner_of(port) if port is not None else None
        if port is None or owner is None or owner.kind is not Kind.PORT:
            continue
        noted = own_ids(port)
        columns, own = ovn_dhcp.port_rows(owner.id, ovn_dhcp.unpack(noted.get("dhcp", "")), lookup)
        for row in own:
            editor.put(row)
        for column, value in columns.items():
            if references(port, column) != value:
                setattr(port, column, value)
        _drop_own_options(editor, owner.id, {row.uuid for row in own})
        before, after = _noted_names(noted, domain), _noted_names(noted, network.dns_domain)
        for name in before.keys() - after.keys():
            editor.drop_key("DNS", dns, "records", name, before[name])
        for name, addresses in after.items():
            editor.set_key("DNS", dns, "records", name, addresses)


def _noted_names(noted: Mapping[str, str], domain: str) -> dict[str, str]:
    return ovn_switch.dns_names(noted.get("dns_name", ""), domain, noted.get("addresses", ""))


def _drop_own_options(editor: Editor, port_id: str, keep: set[UUID]) -> None:
    for version in (4, 6):
        uuid = ovn_dhcp.own_uuid(port_id, version)
        if uuid not in keep:
            editor.destroy("DHCP_Options", uuid)


def ensure_port(editor: Editor, port: Port) -> None:
    """A port's rows are as described, and it is in its groups and its network's DNS. NotReady without the network."""
    switch = editor.row("Logical_Switch", uuid_of(port.network_id))
    if switch is None:
        raise NotReady(f"port {port.id} needs network {port.network_id}, which is not in OVN yet")
    uuid = uuid_of(port.id)
    existing = editor.row("Logical_Switch_Port", uuid)
    noted = own_ids(existing) if existing is not None else {}

    def lookup(subnet_id: str) -> ovn_dhcp.Served | None:
        row = editor.row("DHCP_Options", uuid_of(subnet_id))
        return None if row is None else ovn_dhcp.Served(row.cidr, dict(row.options))

    rows = ovn_switch.port_rows(port, lookup)
    for row in rows:
        editor.put(row)
    _drop_own_options(editor, port.id, {row.uuid for row in rows if row.table == "DHCP_Options"})
    _ensure_groups(editor, port, noted)
    dns = ovn_switch.dns_uuid(port.network_id)
    domain = own_ids(switch).get("dns_domain", "")
    before, after = _noted_names(noted, domain), ovn_switch.names_of(port, domain)
    for name in before.keys() - after.keys():
        editor.drop_key("DNS", dns, "records", name, before[name])
    for name, addresses in after.items():
        editor.set_key("DNS", dns, "records", name, addresses)


def _ensure_groups(editor: Editor, port: Port, noted: Mapping[str, str]) -> None:
    uuid = uuid_of(port.id)
    wanted = ovn_switch.groups_of(port)
    if wanted and editor.row("Port_Group", ovn_acl.DROP_UUID) is None:
        for row in ovn_acl.drop_rows():
            editor.put(row)
    for id in port.security_group_ids if wanted else ():
        if editor.row("Port_Group", uuid_of(id)) is None:
            editor.put(ovn_acl.group_row(id))
    for group in wanted:
        editor.join("Port_Group", group, "ports", uuid)
    before = {UUID(id) for id in noted.get("groups", "").split()}
    for group in (before | {ovn_acl.DROP_UUID}) - set(wanted):
        editor.leave("Port_Group", group, "ports", uuid)


def ensure_router(editor: Editor, router: Router) -> None:
    """A router's rows are as described, and it has no other ones."""
    rows = ovn_router.router_rows(router)
    owner = rows[0].owner
    for row in rows:
        editor.put(row)
    wanted = {row.uuid for row in rows}
    for column, table in ovn_router.OWNED:
        editor.keep_only("Logical_Router", rows[0].uuid, column, table, owner, wanted)
    for row in rows:
        if row.table == "Logical_Router_Port":
            editor.keep_only(row.table, row.uuid, "gateway_chassis", "Gateway_Chassis", owner, wanted)


def ensure_floating_ip(editor: Editor, floating_ip: FloatingIP) -> None:
    """A floating IP's row is as described. NotReady without the router."""
    for row in ovn_router.floating_ip_rows(floating_ip):
        editor.put(row)


def ensure_security_group(editor: Editor, group: SecurityGroup) -> None:
    """A security group's rows are as described, and it has no other ones."""
    row = ovn_acl.group_row(group.id)
    editor.put(row)
    for id in ovn_acl.remote_group_ids(group):
        if editor.row("Port_Group", uuid_of(id)) is None:
            editor.put(ovn_acl.group_row(id))
    acls = ovn_acl.acl_rows(group)
    for acl in acls:
        editor.put(acl)
    editor.keep_only("Port_Group", row.uuid, "acls", "ACL", row.owner, [acl.uuid for acl in acls])


def remove_network(editor: Editor, id: str) -> None:
    """A network's rows are gone, and those of its ports."""
    switch = editor.row("Logical_Switch", uuid_of(id))
    if switch is not None:
        for subnet_id in own_ids(switch).get("subnets", "").split():
            editor.destroy("DHCP_Options", UUID(subnet_id))
        for uuid in references(switch, "ports"):
            _drop_own_options(editor, str(uuid), set())
        editor.destroy("Logical_Switch", uuid_of(id))
    editor.destroy("DNS", ovn_switch.dns_uuid(id))


def remove_port(editor: Editor, id: str) -> None:
    """A port's rows and DNS names are gone; groups let it go by themselves."""
    port = editor.row("Logical_Switch_Port", uuid_of(id))
    _drop_own_options(editor, id, set())
    if port is None:
        return
    noted = own_ids(port)
    network_id = noted.get("network", "")
    if network_id and noted.get("dns_name"):
        switch = editor.row("Logical_Switch", uuid_of(network_id))
        domain = own_ids(switch).get("dns_domain", "") if switch is not None else ""
        for name, addresses in _noted_names(noted, domain).items():
            editor.drop_key("DNS", ovn_switch.dns_uuid(network_id), "records", name, addresses)
    editor.destroy("Logical_Switch_Port", uuid_of(id))
