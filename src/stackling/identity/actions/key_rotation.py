"""Rotating the credential keys: every secret that identity keeps is encrypted anew."""

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.identity.actions import domain_config, keys, oidc
from stackling.identity.state import credential as state


def rotate_credential_keys(cloud: Cloud) -> None:
    """Make a new primary key, and encrypt every credential anew with it.

    What a rotation that was cut short left behind is encrypted anew first, before its key could go.
    """
    with cloud.db.begin() as tx:
        _encrypt_anew(tx, cloud)
    with cloud.db.begin() as tx:
        keys.rotate_credentials(tx, cloud)
        _encrypt_anew(tx, cloud)


def _encrypt_anew(tx: Tx, cloud: Cloud) -> None:
    every = keys.fernets(cloud, keys.CREDENTIALS).every
    for table, column in (
        (state.credential, "blob"),
        (state.consumer, "secret"),
        (state.request_token, "secret"),
        (state.access_token, "secret"),
    ):
        for row in tx.execute(sa.select(table.c.id, table.c[column].label("kept"))).all():
            fresh = every.rotate(row.kept.encode()).decode()
            tx.execute(sa.update(table).where(table.c.id == row.id).values({column: fresh}))
    oidc.rotate_secrets(tx, cloud)
    domain_config.rotate_secrets(tx, cloud)
