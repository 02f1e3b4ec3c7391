"""How Alembic reaches the database: over the connection that `boot.schema` hands it."""

from typing import Any, Literal

import sqlalchemy as sa
from alembic import context

from stackling.base.db import metadata


def render_item(kind: str, item: Any, autogen: Any) -> str | Literal[False]:
    """JSON columns as they are meant: JSONB where there is one."""
    if kind == "type" and isinstance(item, sa.JSON):
        autogen.imports.add("from sqlalchemy.dialects import postgresql")
        return 'sa.JSON().with_variant(postgresql.JSONB(), "postgresql")'
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    render_item=render_item,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
