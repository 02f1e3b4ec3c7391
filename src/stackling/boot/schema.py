"""Bring the database to the tables that this release knows."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from stackling import migrations
from stackling.base.db import Database, metadata

_HISTORY = Path(migrations.__file__).parent


def newest() -> str:
    """The newest revision: migrations are numbered files."""
    return max(f.name.split("_")[0] for f in (_HISTORY / "versions").glob("[0-9]*.py"))


def current(database: Database) -> str | None:
    """The revision that the database is at; None for an empty one."""
    with database.read() as tx:
        if not sa.inspect(tx).has_table("alembic_version"):
            return None
        return tx.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(database: Database) -> None:
    """Apply what is missing. Several processes may do so at once: one does, the others wait."""
    if current(database) == newest():
        return
    from alembic import command

    with database.begin() as tx:
        if not database.is_sqlite:
            tx.execute(sa.text("SELECT pg_advisory_xact_lock(7239458120)"))
        command.upgrade(_alembic(tx), "head")


def drop(database: Database) -> None:
    """Remove all tables of the cloud; those of others in the same database stay."""
    with database.begin() as tx:
        metadata.drop_all(tx)
        tx.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))


def make(database: Database, number: str, says: str) -> None:
    """Write the migration from the newest revision to the tables in the code, for its author to read and mend."""
    from alembic import command

    with database.begin() as tx:
        command.revision(_alembic(tx), says, autogenerate=True, rev_id=number)


def difference(database: Database) -> list[Any]:
    """What the tables in the code have that the database has not, and the other way round."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.read() as tx:
        return list(compare_metadata(MigrationContext.configure(tx, opts={"compare_type": True}), metadata))


def _alembic(connection: Any) -> Any:
    from alembic.config import Config

    config = Config(stdout=open("/dev/null", "w"))  # noqa: SIM115 (lives as long as the configuration)
    config.set_main_option("script_location", str(_HISTORY))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes["connection"] = connection
    return config
