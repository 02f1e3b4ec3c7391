"""The fabric on OVN: things become rows of the northbound database, ports' states come from the southbound one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from uuid import UUID

from ovsdbapp.backend.ovs_idl import event

from stackling.network.driver import (
    Chassis,
    FabricError,
    FabricUnavailable,
    FloatingIP,
    Health,
    Kind,
    Network,
    NotReady,
    Port,
    PortState,
    PortWatcher,
    Report,
    Router,
    SecurityGroup,
    Thing,
)
from stackling.network.drivers import ovn_acl, ovn_dhcp, ovn_router, ovn_switch
from stackling.network.drivers.ovn_connection import Database
from stackling.network.drivers.ovn_resync import Resync
from stackling.network.drivers.ovn_rows import Editor, own_ids, owner_of, references, uuid_of

T = TypeVar("T")

_MARK = "external_ids"
NORTHBOUND = {
    "NB_Global": ("nb_cfg", "sb_cfg", "hv_cfg"),
    "Logical_Switch": ("name", "ports", "dns_records", "other_config", _MARK),
    "Logical_Switch_Port": (
        "name", "type", "options", "tag", "addresses", "port_security", "enabled", "dhcpv4_options",
        "dhcpv6_options", _MARK,
    ),
    "DHCP_Options": ("cidr", "options", _MARK),
    "DNS": ("records", _MARK),
    "Port_Group": ("name", "ports", "acls", _MARK),
    "ACL": ("priority", "direction", "match", "action", _MARK),
    "Logical_Router": ("name", "ports", "static_routes", "nat", "enabled", "options", _MARK),
    "Logical_Router_Port": (
        "name", "mac", "networks", "options", "ipv6_ra_configs", "gateway_chassis", _MARK,
    ),
    "Logical_Router_Static_Route": ("ip_prefix", "nexthop", "output_port", _MARK),
    "NAT": ("type", "external_ip", "logical_ip", "external_mac", "logical_port", _MARK),
    "Gateway_Chassis": ("name", "chassis_name", "priority", _MARK),
}  # fmt: skip
SOUTHBOUND = {
    "Port_Binding": ("logical_port", "type", "up", "chassis"),
    "Chassis": ("name", "hostname", "other_config"),
    "Chassis_Private": ("name", "nb_cfg", "nb_cfg_timestamp"),
}
_REDIRECT = "cr-lrp-"  # the southbound name of a router gateway where it really is


class OvnFabric:
    """A `Fabric` on OVN 23.03 or later.

    `northbound` and `southbound` are OVSDB connection strings by address. `timeout`: seconds after which a
    database that does not answer counts as unavailable. Connects when first used.
    """

    def __init__(
        self,
        northbound: str = "unix:/run/ovn/ovnnb_db.sock",
        southbound: str = "unix:/run/ovn/ovnsb_db.sock",
        timeout: float = 10.0,
    ) -> None:
        self._nb = Database("OVN_Northbound", northbound, NORTHBOUND, timeout)
        self._sb = Database("OVN_Southbound", southbound, SOUTHBOUND, timeout, events=True)

    # --- things -------------------------------------------------------------------------------------------

    def ensure(self, thing: Thing) -> None:
        """The thing is exactly as described, by one transaction, or none when it already is."""
        match thing:
            case Network():
                self._edit(lambda editor: _ensure_network(editor, thing))
            case Port():
                self._edit(lambda editor: _ensure_port(editor, thing))
            case Router():
                self._edit(lambda editor: _ensure_router(editor, thing))
            case FloatingIP():
                self._edit(lambda editor: _ensure_floating_ip(editor, thing))
            case SecurityGroup():
                self._edit(lambda editor: _ensure_security_group(editor, thing))

    def remove(self, kind: Kind, id: str) -> None:
        """The thing is gone."""
        uuid = uuid_of(id)
        match kind:
            case Kind.NETWORK:
                self._edit(lambda editor: _remove_network(editor, id))
            case Kind.PORT:
                self._edit(lambda editor: _remove_port(editor, id))
            case Kind.ROUTER:
                self._edit(lambda editor: editor.destroy("Logical_Router", uuid))
            case Kind.FLOATING_IP:
                self._edit(lambda editor: editor.destroy("NAT", uuid))
            case Kind.SECURITY_GROUP:
                self._edit(lambda editor: editor.destroy("Port_Group", uuid))

    def resync(self, things: Iterable[Thing]) -> Report:
        """The northbound database holds exactly these things."""
        resync = Resync(things)
        return self._edit(resync.run)

    # --- states -------------------------------------------------------------------------------------------

    def ports(self) -> dict[str, PortState]:
        """What is true of every port, from the southbound database."""
        states: dict[str, PortState] = {}
        redirected: dict[str, str | None] = {}
        with self._sb.reading() as tables:
            for row in tables["Port_Binding"].rows.values():
                name = row.logical_port
                if name.startswith(_REDIRECT):
                    redirected[name.removeprefix(_REDIRECT)] = _chassis_name(row)
                elif _is_port(name):
                    states[name] = PortState(up=_is_up(row), chassis=_chassis_name(row))
        for id, chassis in redirected.items():
            if id in states:
                states[id] = PortState(up=True, chassis=chassis)
        return states

    def watch(self, callback: PortWatcher) -> None:
        """Call back with (port id, up) from the event thread."""
        self._sb.watch(_PortUp(callback))
        try:
            with self._sb.reading():
                pass  # opens the connection, so that events flow
        except FabricUnavailable:
            pass  # they will flow from the first call that gets through

    def check(self) -> Health:
        """Whether both databases answer, and the hosts they know."""
        northbound, why = self._answers(self._nb)
        southbound, why_not = self._answers(self._sb)
        chassis: tuple[Chassis, ...] = ()
        if southbound:
            try:
                chassis = self._chassis()
            except FabricUnavailable as lost:
                southbound, why_not = False, str(lost)
        return Health(
            northbound=northbound,
            southbound=southbound,
            chassis=chassis,
            reason="; ".join(text for text in (why, why_not) if text),
        )

    def synchronize(self, timeout: float = 10.0) -> None:
        """As `ovn-nbctl --wait=hv sync`: every host has reached what the northbound database says now."""
        target = self._nb.increment("NB_Global", "nb_cfg")
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            with self._nb.reading() as tables:
                reached = [row.hv_cfg for row in tables["NB_Global"].rows.values()]
            if reached and reached[0] >= target:
                return
            time.sleep(0.01)
        raise FabricUnavailable(
            f"after {timeout:g} s not every host is at configuration {target}; is ovn-northd running, and "
            "ovn-controller on each chassis?"
        )

    def close(self) -> None:
        """Let go of connections and threads."""
        self._nb.close()
        self._sb.close()

    # --- inside -------------------------------------------------------------------------------------------

    def _edit(self, work: Callable[[Editor], T]) -> T:
        result: T = self._nb.edit(lambda tables, txn: work(Editor(tables, txn)))
        return result

    def _answers(self, database: Database) -> tuple[bool, str]:
        try:
            with database.reading():
                return True, ""
        except FabricError as lost:
            return False, str(lost)

    def _chassis(self) -> tuple[Chassis, ...]:
        with self._sb.reading() as tables:
            private = {row.name: row for row in tables["Chassis_Private"].rows.values()}
            return tuple(
                _chassis_of(row, private.get(row.name))
                for row in sorted(tables["Chassis"].rows.values(), key=lambda row: str(row.name))
            )


# --- what a call edits ------------------------------------------------------------------------------------


def _ensure_network(editor: Editor, network: Network) -> None:
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
    owner = rows[0].owner
    localnet = [row.uuid for row in rows if row.table == "Logical_Switch_Port"]
    editor.keep_only("Logical_Switch", uuid, "ports", "Logical_Switch_Port", owner, localnet)
    if follow and switch is not None:
        served = {subnet.id: ovn_dhcp.serve(subnet, network) for subnet in network.subnets}
        _ports_follow(editor, switch, network, noted.get("dns_domain", ""), served.get)


def _ports_follow(editor: Editor, switch: Any, network: Network, domain: str, lookup: ovn_dhcp.Lookup) -> None:
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


def _ensure_port(editor: Editor, port: Port) -> None:
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


def _ensure_router(editor: Editor, router: Router) -> None:
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


def _ensure_floating_ip(editor: Editor, floating_ip: FloatingIP) -> None:
    for row in ovn_router.floating_ip_rows(floating_ip):
        editor.put(row)


def _ensure_security_group(editor: Editor, group: SecurityGroup) -> None:
    row = ovn_acl.group_row(group.id)
    editor.put(row)
    for id in ovn_acl.remote_group_ids(group):
        if editor.row("Port_Group", uuid_of(id)) is None:
            editor.put(ovn_acl.group_row(id))
    acls = ovn_acl.acl_rows(group)
    for acl in acls:
        editor.put(acl)
    editor.keep_only("Port_Group", row.uuid, "acls", "ACL", row.owner, [acl.uuid for acl in acls])


def _remove_network(editor: Editor, id: str) -> None:
    switch = editor.row("Logical_Switch", uuid_of(id))
    if switch is not None:
        for subnet_id in own_ids(switch).get("subnets", "").split():
            editor.destroy("DHCP_Options", UUID(subnet_id))
        for uuid in references(switch, "ports"):
            _drop_own_options(editor, str(uuid), set())
        editor.destroy("Logical_Switch", uuid_of(id))
    editor.destroy("DNS", ovn_switch.dns_uuid(id))


def _remove_port(editor: Editor, id: str) -> None:
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


# --- what the southbound database says --------------------------------------------------------------------


class _PortUp(event.RowEvent):  # type: ignore[misc, unused-ignore]
    """A guest's port came up or went down."""

    def __init__(self, callback: PortWatcher) -> None:
        self._callback = callback
        super().__init__((self.ROW_CREATE, self.ROW_UPDATE, self.ROW_DELETE), "Port_Binding", None)

    def match_fn(self, event: str, row: Any, old: Any) -> bool:
        """Only ports that hosts plug, and only when `up` may have changed."""
        if row.type != "" or not _is_port(row.logical_port):
            return False
        if event == self.ROW_CREATE:
            return _is_up(row)
        return event == self.ROW_DELETE or hasattr(old, "up")

    def run(self, event: str, row: Any, old: Any) -> None:
        """Tell the watcher, on the events' thread."""
        self._callback(row.logical_port, event != self.ROW_DELETE and _is_up(row))

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


def _is_port(name: str) -> bool:
    try:
        return len(name) == 36 and str(UUID(name)) == name
    except ValueError:
        return False


def _is_up(row: Any) -> bool:
    return row.type != "" or bool(row.up and row.up[0])


def _chassis_name(row: Any) -> str | None:
    return row.chassis[0].name if row.chassis else None


def _chassis_of(row: Any, private: Any | None) -> Chassis:
    mappings = row.other_config.get("ovn-bridge-mappings", "")
    return Chassis(
        name=row.name,
        hostname=row.hostname,
        physical_networks=tuple(sorted(part.split(":")[0] for part in mappings.split(",") if ":" in part)),
        gateway="enable-chassis-as-gw" in row.other_config.get("ovn-cms-options", ""),
        nb_cfg=private.nb_cfg if private is not None else 0,
        seen_at=private.nb_cfg_timestamp if private is not None else 0,
    )
