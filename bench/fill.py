"""Many servers without booting many: one is made through the API, and its rows are copied with other ids.

So the copies are as consistent as their template, whatever tables there are. They stand on a host of their own that is
disabled and has no hypervisor, or the watch over the hosts would see that their domains are missing; their ports are
down, and the looks at the whole fabric are put off, which would make all of them there. SQLite only.
"""

import ipaddress
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct

from bench.cloud import Cloud
from bench.measure import Failed

HOST = "bench1"
CIDR = "10.64.0.0/14"
_FIRST = int(ipaddress.ip_address("10.64.64.0"))  # below it the cloud goes on giving out addresses
_AT_ONCE = 1000  # servers a transaction, so that the cloud can write in between

Values = dict[str, Any]


class Template(Struct):
    """Rows by table: of the project's network and default security group, and of the server."""

    server_id: str
    network_id: str
    group_rows: list[tuple[str, Values]]
    network_rows: list[tuple[str, Values]]
    server_rows: list[tuple[str, Values]]


def template(cloud: Cloud) -> Template:
    """Make a network and a server through the API, and read all their rows."""
    network = cloud.call("network", "/networks", "POST", {"network": {"name": "bench"}}, expect=201).json[
        "network"
    ]["id"]
    subnet = {"network_id": network, "ip_version": 4, "cidr": CIDR}
    cloud.call("network", "/subnets", "POST", {"subnet": subnet}, expect=201)
    cloud.until(
        lambda: cloud.call("network", f"/networks/{network}").json["network"]["status"] == "ACTIVE",
        "the network",
    )
    groups = cloud.call("network", f"/security-groups?project_id={cloud.project_id}&name=default").json[
        "security_groups"
    ]
    with _open(cloud) as database:
        network_rows = _closure(database, network)
        group_rows = _closure(database, groups[0]["id"])
    want = {
        "name": "bench",
        "imageRef": cloud.image(),
        "flavorRef": cloud.flavor(),
        "networks": [{"uuid": network}],
    }
    server = cloud.call("compute", "/servers", "POST", {"server": want}, expect=202).json["server"]["id"]
    cloud.until(lambda: cloud.server(server)["status"] == "ACTIVE", "the first server")
    with _open(cloud) as database:
        _host(database, server)
        return Template(server, network, group_rows, network_rows, _closure(database, server))


def servers(cloud: Cloud, made: Template, count: int, *, first: int = 0, projects: int = 0) -> None:
    """Add `count` copies of the template's server, numbered from `first`: in its project, or spread over so many new projects."""
    with _open(cloud) as database:
        host = _host(database, made.server_id)
        for pragma in (
            "synchronous = OFF",
            "cache_size = -200000",
        ):  # the copies need not survive a power cut
            database.execute(f"PRAGMA {pragma}")
        with database:
            database.execute(
                "UPDATE job SET due_at = '2100-01-01 00:00:00.000000' WHERE kind = 'network.fabric'"
            )
        left = count
        if not projects:
            _insert(database, made, host, range(first, first + count))
        for number in range(projects):
            share = left // (projects - number)
            with database:
                names = _project(database, made, cloud.project_id, number)
            _insert(database, made, host | names, range(first, first + share))
            left, first = left - share, first + share
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def copies(cloud: Cloud, id: str, name: str, count: int, *, first: int = 0) -> None:
    """Add `count` copies, numbered from `first`, of what has this id and name, and of the rows that bear the id.

    For a user with his roles, or an image. Keystone's own database is understood as well.
    """
    with _open(cloud) as database:
        rows = _closure(database, id)
        made = []
        for number in range(first, first + count):
            fresh = uuid.uuid4().hex if "-" not in id else str(uuid.uuid4())
            made += _copied(database, rows, {id: fresh, name: f"{name}-{number}"})
        with database:
            _write(database, made)


def _open(cloud: Cloud) -> "_Database":
    if cloud.database is None or not cloud.database.exists():
        raise Failed("servers can only be copied in a cloud with SQLite on this machine")
    return _Database(cloud.database, timeout=60)


class _Database(sqlite3.Connection):
    """Rolls back or commits at the end of a block, and knows the columns of all tables."""

    def tables(self) -> Iterator[tuple[str, list[tuple[str, str, int]]]]:
        """(table, [(column, type, place in the primary key or 0)])"""
        for (name,) in self.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        ).fetchall():
            yield name, [(c[1], c[2].upper(), c[5]) for c in self.execute(f'PRAGMA table_info("{name}")')]

    def found(self, table: str, where: str, parameters: Iterable[Any]) -> list[Values]:
        cursor = self.execute(f'SELECT * FROM "{table}" WHERE {where}', tuple(parameters))
        names = [d[0] for d in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def _closure(database: _Database, root: str) -> list[tuple[str, Values]]:
    """Every row that bears the id `root`, or the id of such a row, and so on; jobs aside."""
    tables = [(name, columns) for name, columns in database.tables() if name != "job"]
    ids, made, seen = [root], [], set()
    for id in ids:
        for name, columns in tables:
            texts = [c for c, kind, _ in columns if "CHAR" in kind or kind == "TEXT"]
            if not texts:
                continue
            for row in database.found(name, " OR ".join(f'"{c}" = ?' for c in texts), [id] * len(texts)):
                key = (name, *(row[c] for c, _, place in columns if place))
                if key in seen:
                    continue
                seen.add(key)
                made.append((name, row))
                own = row.get("id")
                if isinstance(own, str) and own not in ids:
                    ids.append(own)
    return made


def _copied(database: _Database, rows: list[tuple[str, Values]], names: Values) -> list[tuple[str, Values]]:
    """The rows under new ids. `names` says what else is called otherwise, and learns the new ids."""
    for _, row in rows:
        if isinstance(row.get("id"), str) and row["id"] not in names:
            names[row["id"]] = str(uuid.uuid4())
    return [
        (
            t,
            {
                c: names.get(v, v) if isinstance(v, str) else v
                for c, v in row.items()
                if not (c in ("id", "number") and isinstance(v, int))
            },
        )
        for t, row in rows
    ]


def _write(database: _Database, rows: list[tuple[str, Values]]) -> None:
    """Insert rows, all of a table with one statement."""
    tables: dict[tuple[str, tuple[str, ...]], list[tuple[Any, ...]]] = {}
    for table, row in rows:
        tables.setdefault((table, tuple(row)), []).append(tuple(row.values()))
    for (table, columns), values in tables.items():
        listed = ", ".join(f'"{c}"' for c in columns)
        database.executemany(
            f'INSERT INTO "{table}" ({listed}) VALUES ({", ".join("?" * len(columns))})', values
        )


def _host(database: _Database, server_id: str) -> Values:
    """Have the copies' host; what of the template's host is called otherwise there."""
    real = database.found("server", "id = ?", [server_id])[0]["host"]
    provider = database.found("resource_provider", "name = ?", [real])[0]["id"]
    there = database.found("resource_provider", "name = ?", [HOST])
    if there:
        return {real: HOST, provider: there[0]["id"]}
    names: Values = {real: HOST, provider: str(uuid.uuid4())}
    rows = database.found("resource_provider", "id = ?", [provider])
    stock = database.found("inventory", "provider_id = ?", [provider])
    hosts = database.found("compute_host", "hostname = ?", [real])
    for row in hosts:
        row |= {"disabled": 1, "disabled_reason": "only copies of servers are here"}
    for row in stock:
        row |= {"total": 2**31 - 1, "used": 0}
    listed = [
        *(("resource_provider", r) for r in rows),
        *(("inventory", r) for r in stock),
        *(("compute_host", r) for r in hosts),
    ]
    with database:
        _write(database, _copied(database, listed, names))
    return {real: HOST, provider: names[provider]}


def _project(database: _Database, made: Template, project_id: str, number: int) -> Values:
    """A project with a network and a default security group; what of the template's project is called otherwise there."""
    names: Values = {project_id: uuid.uuid4().hex}
    row = database.found("identity_project", "id = ?", [project_id])[0]
    _write(database, [("identity_project", {**row, "id": names[project_id], "name": f"bench-{number}"})])
    rows = _copied(database, made.group_rows + made.network_rows, names)
    _write(database, rows)
    return names


def _insert(database: _Database, made: Template, names: Values, numbers: range) -> None:
    used: dict[tuple[str, str], int] = {}
    for start in range(numbers.start, numbers.stop, _AT_ONCE):
        rows: list[tuple[str, Values]] = []
        for number in range(start, min(start + _AT_ONCE, numbers.stop)):
            one = _copied(database, made.server_rows, dict(names))
            for table, row in one:
                if "ip_address" in row:
                    row["ip_address"] = str(ipaddress.ip_address(_FIRST + number))
                if "mac_address" in row:
                    row["mac_address"] = "fa:16:3f:" + ":".join(
                        f"{number >> shift & 255:02x}" for shift in (16, 8, 0)
                    )
                if table == "port":
                    row["up"] = 0
                if table == "server":
                    row |= {"name": f"bench-{number}", "hostname": f"bench-{number}"}
                    row["created_at"] = (
                        f"2026-01-{1 + number // 86400 % 28:02d} {number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}.000000"
                    )
                if table == "allocation":
                    key = row["provider_id"], row["resource_class"]
                    used[key] = used.get(key, 0) + row["used"]
            rows += one
        with database:
            _write(database, rows)
    with database:
        for (provider, resource), more in used.items():
            database.execute(
                "UPDATE inventory SET used = used + ? WHERE provider_id = ? AND resource_class = ?",
                (more, provider, resource),
            )
