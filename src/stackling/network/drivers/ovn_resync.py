"""Resync: the northbound database made equal to a full description, and nothing beyond our own rows touched."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from stackling.network.driver import FloatingIP, Network, Port, Ref, Report, Router, SecurityGroup, Thing, ref
from stackling.network.drivers import ovn_acl, ovn_dhcp, ovn_router, ovn_switch
from stackling.network.drivers.ovn_rows import (
    PARENTS,
    ROOTS,
    Editor,
    Row,
    owner_of,
    references,
    uuid_of,
)


class Resync:
    """Everything that shall be, worked out once; `run` brings a transaction's tables there."""

    def __init__(self, things: Iterable[Thing]) -> None:
        self._rows: dict[tuple[str, UUID], Row] = {}
        self._members: dict[UUID, set[UUID]] = {}
        self._names: dict[UUID, dict[str, str]] = {}
        self._served: dict[str, ovn_dhcp.Served | None] = {}
        self._domains: dict[str, str] = {}
        self._known: set[Ref] = set()
        # Networks first: ports take their DHCP and DNS from them.
        for thing in sorted(things, key=lambda thing: not isinstance(thing, Network)):
            self._known.add(ref(thing))
            self._describe(thing)
        if self._known:
            self._want(ovn_acl.drop_rows())

    def _describe(self, thing: Thing) -> None:
        match thing:
            case Network():
                self._served |= {subnet.id: ovn_dhcp.serve(subnet, thing) for subnet in thing.subnets}
                self._domains[thing.id] = thing.dns_domain
                self._names[ovn_switch.dns_uuid(thing.id)] = {}
                self._want(ovn_switch.network_rows(thing))
            case Port():
                self._want(ovn_switch.port_rows(thing, self._served.get))
                for group in ovn_switch.groups_of(thing):
                    self._members.setdefault(group, set()).add(uuid_of(thing.id))
                names = ovn_switch.names_of(thing, self._domains.get(thing.network_id, ""))
                self._names.setdefault(ovn_switch.dns_uuid(thing.network_id), {}).update(names)
                if ovn_switch.guarded(thing):
                    self._stubs(thing.security_group_ids)
            case Router():
                self._want(ovn_router.router_rows(thing))
            case FloatingIP():
                self._want(ovn_router.floating_ip_rows(thing))
            case SecurityGroup():
                self._want([ovn_acl.group_row(thing.id), *ovn_acl.acl_rows(thing)])
                self._stubs(ovn_acl.remote_group_ids(thing))

    def _want(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._rows[row.table, row.uuid] = row

    def _stubs(self, ids: Iterable[str]) -> None:
        for id in ids:
            row = ovn_acl.group_row(id)
            self._rows.setdefault((row.table, row.uuid), row)

    def run(self, editor: Editor) -> Report:
        """Mend what differs and remove what is ours but not wanted; say what was done."""
        self._remove_children(editor)
        self._remove_roots(editor)
        # Parents before children: first roots, then legs, then what hangs on legs.
        order = [*ROOTS, *PARENTS]
        for row in sorted(self._rows.values(), key=lambda row: order.index(row.table)):
            editor.put(row)
        for row in self._rows.values():
            if row.table == "Port_Group":
                self._mend_members(editor, row)
            elif row.table == "DNS":
                self._mend_names(editor, row)
        # `pg_drop` belongs to no user's thing, so no caller could look after it.
        created = editor.created - {ovn_acl.DROP_OWNER}
        return Report(
            created=tuple(sorted(created)),
            changed=tuple(sorted(((editor.changed | editor.removed) & self._known) - created)),
            removed=tuple(sorted(editor.removed - self._known - {ovn_acl.DROP_OWNER})),
        )

    def _remove_children(self, editor: Editor) -> None:
        for table, (parent_table, column) in PARENTS.items():
            ours = {}
            for row in editor.rows(table):
                owner = owner_of(row)
                if owner is not None:
                    ours[row.uuid] = owner
            for parent in editor.rows(parent_table):
                for uuid in references(parent, column):
                    want = self._rows.get((table, uuid))
                    if uuid not in ours or (want is not None and want.parent == parent.uuid):
                        continue
                    editor.leave(parent_table, parent.uuid, column, uuid)
                    (editor.changed if want is not None else editor.removed).add(ours[uuid])

    def _remove_roots(self, editor: Editor) -> None:
        for table in ROOTS:
            for row in editor.rows(table):
                owner = owner_of(row)
                if owner is not None and (table, row.uuid) not in self._rows:
                    editor.destroy(table, row.uuid)
                    editor.removed.add(owner)

    def _mend_members(self, editor: Editor, row: Row) -> None:
        group = editor.row("Port_Group", row.uuid)
        wanted = self._members.get(row.uuid, set())
        present = set(references(group, "ports"))
        edits = [editor.leave("Port_Group", row.uuid, "ports", uuid) for uuid in present - wanted]
        edits += [editor.join("Port_Group", row.uuid, "ports", uuid) for uuid in wanted - present]
        if any(edits):
            editor.changed.add(row.owner)

    def _mend_names(self, editor: Editor, row: Row) -> None:
        dns = editor.row("DNS", row.uuid)
        wanted = self._names.get(row.uuid, {})
        if dns is not None and (dns._data is None or dict(dns.records) != wanted):
            if dns._data is None and not wanted:
                return
            dns.records = wanted
            editor.changed.add(row.owner)
