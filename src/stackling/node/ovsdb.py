"""Database files of Open vSwitch and OVN: made from their schema, converted when a package brings a newer one."""

import os
import subprocess
from pathlib import Path

from stackling.node.daemon import DaemonError


def prepare(database: Path, schema: Path) -> None:
    """The database file exists in the schema's version. Raises DaemonError.

    Only while its server is down. The file appears whole or not at all.
    """
    database = database.resolve()  # Debian's /etc/openvswitch/conf.db is a link into /var/lib
    if not schema.exists():
        raise DaemonError(f"{schema} does not exist: reinstall the package that holds it")
    if not database.exists():
        database.parent.mkdir(parents=True, exist_ok=True)
        fresh = database.with_name(f"{database.name}.fresh")
        fresh.unlink(missing_ok=True)
        _tool("create", str(fresh), str(schema))
        fresh.replace(database)
        lock(fresh).unlink(missing_ok=True)
    elif not _clustered(database) and _tool("needs-conversion", str(database), str(schema)) == "yes":
        kept = database.with_name(f"{database.name}.backup-{_tool('db-version', str(database))}")
        fresh = database.with_name(f"{database.name}.fresh")
        fresh.unlink(missing_ok=True)
        _tool("convert", str(database), str(schema), str(fresh))
        kept.unlink(missing_ok=True)
        os.link(database, kept)
        fresh.replace(database)
        lock(fresh).unlink(missing_ok=True)


def remove(database: Path) -> None:
    """The database file is gone, with its lock file and backups."""
    database = database.resolve()
    for path in database.parent.glob(f"{database.name}.backup-*"):
        path.unlink(missing_ok=True)
    database.unlink(missing_ok=True)
    lock(database).unlink(missing_ok=True)


def lock(database: Path) -> Path:
    """The file that a server of the database makes beside it, and leaves there."""
    database = database.resolve()
    return database.with_name(f".{database.name}.~lock~")


def _clustered(database: Path) -> bool:
    return subprocess.run(["ovsdb-tool", "db-is-clustered", str(database)], check=False).returncode == 0


def _tool(*arguments: str) -> str:
    done = subprocess.run(
        ["ovsdb-tool", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DaemonError(f"ovsdb-tool {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()
