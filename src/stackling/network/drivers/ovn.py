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
    Port,
    PortState,
    PortWatcher,
    Report,
    Router,
    SecurityGroup,
    Thing,
)
from stackling.network.drivers import ovn_edits
from stackling.network.drivers.ovn_connection import Database
from stackling.network.drivers.ovn_resync import Resync
from stackling.network.drivers.ovn_rows import Editor, uuid_of

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


class _Compared(Exception):
    """Carries what a resync would do out of a transaction that must not be committed."""

    def __init__(self, report: Report) -> None:
        super().__init__("compared")
        self.report = report


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
                self._edit(lambda editor: ovn_edits.ensure_network(editor, thing))
            case Port():
                self._edit(lambda editor: ovn_edits.ensure_port(editor, thing))
            case Router():
                self._edit(lambda editor: ovn_edits.ensure_router(editor, thing))
            case FloatingIP():
                self._edit(lambda editor: ovn_edits.ensure_floating_ip(editor, thing))
            case SecurityGroup():
                self._edit(lambda editor: ovn_edits.ensure_security_group(editor, thing))

    def remove(self, kind: Kind, id: str) -> None:
        """The thing is gone."""
        uuid = uuid_of(id)
        match kind:
            case Kind.NETWORK:
                self._edit(lambda editor: ovn_edits.remove_network(editor, id))
            case Kind.PORT:
                self._edit(lambda editor: ovn_edits.remove_port(editor, id))
            case Kind.ROUTER:
                self._edit(lambda editor: editor.destroy("Logical_Router", uuid))
            case Kind.FLOATING_IP:
                self._edit(lambda editor: editor.destroy("NAT", uuid))
            case Kind.SECURITY_GROUP:
                self._edit(lambda editor: editor.destroy("Port_Group", uuid))

    def resync(self, things: Iterable[Thing], *, repair: bool = True) -> Report:
        """The northbound database holds exactly these things."""
        resync = Resync(things)
        if repair:
            return self._edit(resync.run)

        def compare(editor: Editor) -> None:
            raise _Compared(resync.run(editor))  # raising takes the edits back

        try:
            self._edit(compare)
        except _Compared as compared:
            return compared.report
        return Report()

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
        until = time.monotonic() + timeout
        target = None
        while time.monotonic() < until:
            if target is None:
                target = self._nb.edit(_next_configuration)
            with self._nb.reading() as tables:
                reached = [row.hv_cfg for row in tables["NB_Global"].rows.values()]
            if target is not None and reached and reached[0] >= target:
                return
            time.sleep(0.01)
        raise FabricUnavailable(
            f"after {timeout:g} s not every host is at the last configuration; is ovn-northd running, and "
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


def _next_configuration(tables: Mapping[str, Any], txn: Any) -> int | None:
    """Count the configuration up; None while nobody has set up the database."""
    for row in tables["NB_Global"].rows.values():
        row.verify("nb_cfg")
        row.nb_cfg = row.nb_cfg + 1
        return int(row.nb_cfg)
    return None


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
