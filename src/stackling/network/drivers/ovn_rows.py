"""Rows of the OVN northbound database as we want them, and the edits that make the database so.

Each row's UUID follows from the id of the thing it belongs to, so that a row is found without an index,
two writers cannot make it twice, and `ovn-nbctl` takes the ids that users see. Rows carry their owner in
`external_ids`; what carries no such mark is never removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID, uuid5

from msgspec import Struct, field
from ovs.db import data, types
from ovs.db import error as ovsdb_error

from stackling.network.driver import FabricError, Kind, NotReady, Ref

OWN = "stackling:"
"""Prefix of all keys that we write into `external_ids`; keys of others there are left alone."""
KIND, ID, PARENT = OWN + "kind", OWN + "id", OWN + "parent"

_SPACE = UUID("5f0c5ad5-5c1c-4f5e-9a1f-6d0f2b6d3c11")

PARENTS = {
    "Logical_Switch_Port": ("Logical_Switch", "ports"),
    "Logical_Router_Port": ("Logical_Router", "ports"),
    "Logical_Router_Static_Route": ("Logical_Router", "static_routes"),
    "NAT": ("Logical_Router", "nat"),
    "ACL": ("Port_Group", "acls"),
    "Gateway_Chassis": ("Logical_Router_Port", "gateway_chassis"),
}
"""Tables whose rows live only while a row of another table refers to them."""
ROOTS = ("Logical_Switch", "Logical_Router", "Port_Group", "DHCP_Options", "DNS")
MAIN = {
    Kind.NETWORK: "Logical_Switch",
    Kind.PORT: "Logical_Switch_Port",
    Kind.ROUTER: "Logical_Router",
    Kind.FLOATING_IP: "NAT",
    Kind.SECURITY_GROUP: "Port_Group",
}
"""The table that holds a thing's first row, whose UUID is the thing's own id."""


class Row(Struct, frozen=True, kw_only=True):
    """A row as it shall be. Columns that are not named are left as they are."""

    table: str
    uuid: UUID
    owner: Ref
    columns: dict[str, Any]
    external_ids: dict[str, str] = field(default_factory=dict)  # beyond the owner's mark
    parent: UUID | None = None  # for tables in PARENTS: the row that refers to this one


def uuid_of(id: str) -> UUID:
    """The UUID of a thing's first row. Raises FabricError when the id is no UUID."""
    try:
        return UUID(id)
    except ValueError as wrong:
        raise FabricError(f"{id!r} is not a UUID, and so cannot be kept in OVN") from wrong


def derived(*parts: str) -> UUID:
    """The UUID of a row that belongs to a thing beside its first one."""
    return uuid5(_SPACE, "/".join(parts))


def owner_of(row: Any) -> Ref | None:
    """Whose row this is; None when it is not ours."""
    if row._data is None:
        return None
    ids = row._data["external_ids"]
    kind, id = ids.get(KIND), ids.get(ID)
    if kind is None or id is None or kind not in Kind.__members__.values():
        return None
    return Ref(Kind(kind), id)


def own_ids(row: Any) -> dict[str, str]:
    """What we noted in a row's `external_ids`, without our prefix."""
    return {
        key.value.removeprefix(OWN): value.value
        for key, value in row._data["external_ids"].values.items()
        if key.value.startswith(OWN)
    }


def refers(row: Any, column: str, uuid: UUID) -> bool:
    """Whether a stored row's column holds that reference, without unpacking the whole column."""
    return row._data is not None and data.Atom(types.UuidType, uuid) in row._data[column].values


def references(row: Any, column: str) -> list[UUID]:
    """All references in a stored row's column."""
    return [] if row._data is None else [atom.value for atom in row._data[column].values]


class Editor:
    """Edits of one transaction: each writes only what differs, and notes whose rows it touched.

    Lives inside a command's `run_idl`, on the connection's thread.
    """

    def __init__(self, tables: Mapping[str, Any], txn: Any) -> None:
        self._tables = tables
        self._txn = txn
        self._moved: set[tuple[UUID, str, UUID]] = set()
        self.created: set[Ref] = set()
        self.changed: set[Ref] = set()
        self.removed: set[Ref] = set()

    def row(self, table: str, uuid: UUID) -> Any | None:
        """The row of that table as it is now, or None."""
        return self._tables[table].rows.get(uuid)

    def rows(self, table: str) -> list[Any]:
        """All rows of a table."""
        return list(self._tables[table].rows.values())

    def put(self, want: Row) -> bool:
        """Create or mend a row. True when anything had to be written. NotReady without its parent."""
        marked = {KIND: str(want.owner.kind), ID: want.owner.id}
        marked |= {OWN + key: value for key, value in want.external_ids.items() if value}
        if want.parent is not None:
            marked[PARENT] = str(want.parent)
        row = self.row(want.table, want.uuid)
        edited = False
        if row is None:
            row = self._txn.insert(self._tables[want.table], new_uuid=want.uuid, persist_uuid=True)
            row.external_ids = marked
            for column, value in want.columns.items():
                self._datum(want, column, value)
                setattr(row, column, value)
            self.created.add(want.owner) if _is_main(want) else self.changed.add(want.owner)
            edited = True
        else:
            edited = self._mend(row, want, marked)
        if want.parent is not None:
            edited |= self._adopt(row, want)
        if edited:
            self.changed.add(want.owner)
        return edited

    def _mend(self, row: Any, want: Row, marked: dict[str, str]) -> bool:
        edited = False
        if row._data is None:  # made by this very transaction
            row.external_ids = marked
            for column, value in want.columns.items():
                self._datum(want, column, value)
                setattr(row, column, value)
            return True
        now = {key.value: value.value for key, value in row._data["external_ids"].values.items()}
        ours = {key: value for key, value in now.items() if key.startswith(OWN)}
        if ours != marked:
            before = ours.get(PARENT)
            if before and want.parent is not None and before != marked[PARENT]:
                self.leave(PARENTS[want.table][0], UUID(before), PARENTS[want.table][1], want.uuid)
            row.external_ids = {k: v for k, v in now.items() if not k.startswith(OWN)} | marked
            edited = True
        for column, value in want.columns.items():
            if row._data[column] != self._datum(want, column, value):
                setattr(row, column, value)
                edited = True
        return edited

    def _datum(self, want: Row, column: str, value: Any) -> Any:
        """The value in OVSDB's form. The IDL itself would only log a bad value, and go on without it."""
        try:
            return data.Datum.from_python(self._tables[want.table].columns[column].type, value, lambda v: v)
        except ovsdb_error.Error as wrong:
            raise FabricError(
                f"{want.owner.kind} {want.owner.id}: {column} of {want.table}: {wrong}"
            ) from wrong

    def _adopt(self, row: Any, want: Row) -> bool:
        assert want.parent is not None
        table, column = PARENTS[want.table]
        parent = self.row(table, want.parent)
        if parent is None:
            raise NotReady(
                f"{want.owner.kind} {want.owner.id} needs {table} {want.parent}, which is not in OVN yet"
            )
        return self.join(table, want.parent, column, want.uuid)

    def join(self, table: str, uuid: UUID, column: str, member: UUID) -> bool:
        """A row's set of references holds that member. True when it did not."""
        row = self.row(table, uuid)
        if row is None:
            return False
        if refers(row, column, member) or (uuid, column, member) in self._moved:
            return False
        row.verify("name")  # were it gone meanwhile, the member would vanish with no error
        row.addvalue(column, member)
        self._moved.add((uuid, column, member))
        return True

    def leave(self, table: str, uuid: UUID, column: str, member: UUID) -> bool:
        """A row's set of references does not hold that member. True when it did."""
        row = self.row(table, uuid)
        if row is None or not refers(row, column, member) or (uuid, column, member) in self._moved:
            return False
        row.delvalue(column, member)
        self._moved.add((uuid, column, member))
        return True

    def set_key(self, table: str, uuid: UUID, column: str, key: str, value: str) -> bool:
        """A row's map has that entry. True when it had not."""
        row = self.row(table, uuid)
        if row is None or (row._data is not None and row._data[column].get(key) == value):
            return False
        row.setkey(column, key, value)
        return True

    def drop_key(self, table: str, uuid: UUID, column: str, key: str, value: str) -> bool:
        """A row's map has no such entry; one with another value stays. True when it had."""
        row = self.row(table, uuid)
        if row is None or row._data is None or row._data[column].get(key) != value:
            return False
        row.delkey(column, key)
        return True

    def keep_only(
        self, table: str, uuid: UUID, column: str, child: str, owner: Ref, wanted: Iterable[UUID]
    ) -> None:
        """Of the children in a row's column, those of `owner` are exactly the wanted ones."""
        row = self.row(table, uuid)
        if row is None:
            return
        keep = set(wanted)
        for member in references(row, column):
            found = self.row(child, member)
            if member not in keep and found is not None and owner_of(found) == owner:
                self.leave(table, uuid, column, member)
                self.changed.add(owner)

    def destroy(self, table: str, uuid: UUID) -> bool:
        """A row is gone; one that others refer to goes when its parent lets it go. True when it was there."""
        row = self.row(table, uuid)
        if row is None:
            return False
        if table in PARENTS:
            parent, column = PARENTS[table]
            noted = own_ids(row).get("parent")
            if noted and self.leave(parent, UUID(noted), column, uuid):
                return True
            left = [self.leave(parent, at, column, uuid) for at in list(self._tables[parent].rows)]
            return any(left)
        row.delete()
        return True


def _is_main(want: Row) -> bool:
    return MAIN[want.owner.kind] == want.table and str(want.uuid) == want.owner.id
