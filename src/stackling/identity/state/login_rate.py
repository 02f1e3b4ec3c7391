"""How many logins there were lately: one row a user name or address that has used some of its share."""

import sqlalchemy as sa
from sqlalchemy import Column, DateTime, String, Table

from stackling.base.db import metadata

login_rate = Table(
    "identity_login_rate",
    metadata,
    Column("key", String(64), primary_key=True),  # a digest: what was typed as a name may be a password
    Column("used_until", DateTime, nullable=False, index=True),  # when all of the share is free again
)

OLD = sa.delete(login_rate).where(login_rate.c.used_until < sa.bindparam("now"))
