"""`stackling identity`: the administrator's way back in, and the keys of tokens and credentials.

These commands go to the database and the key files themselves, so they work whether the cloud runs or not.
"""

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from stackling.base.config import Config
from stackling.cli.setting import Setting, Trouble, show

if TYPE_CHECKING:
    from stackling.base.cloud import Cloud

app = App(name="identity", help="The administrator's access, and the keys of tokens and credentials.")
Keys = Literal["tokens", "jws", "receipts", "credentials"]


@contextmanager
def _opened(config: Config) -> "Iterator[Cloud]":
    """The cloud of `config`, without drivers. Raises Trouble when its files or its database can't be had."""
    import sqlalchemy as sa  # this and the next are half a second that other commands need not wait

    from stackling.base.db import Database
    from stackling.boot import assembly, schema, server

    try:
        for made, mode in server.directories(config):
            made.mkdir(mode=mode, parents=True, exist_ok=True)
        database = Database(config.database_url, pool_size=2)
        try:
            schema.upgrade(database)
            yield assembly.assemble(config, database)
        finally:
            database.close()
    except PermissionError as e:
        raise Trouble(f"{e.filename}: {e.strerror}; run this as the user who runs the cloud") from None
    except sa.exc.OperationalError as e:
        raise Trouble(f"the database does not answer: {e.orig}") from None


@app.command
def bootstrap(
    *,
    new_password: Annotated[
        bool, Parameter(negative=(), help="Give the administrator a new random password.")
    ] = False,
    password_stdin: Annotated[
        bool, Parameter(negative=(), help="Give the administrator the password on standard input.")
    ] = False,
    setting: Setting | None = None,
) -> int:
    """Have what a cloud starts with: default domain, roles, an administrator who gets in, the catalog.

    What is there stays. The administrator is enabled and gets the role admin on the project admin and on the system;
    with a new password also logins that failed and second factors are forgotten, and the tokens so far end.
    """
    from stackling.boot import credentials, server
    from stackling.identity.actions import bootstrap as actions

    config = (setting or Setting()).config
    word = None
    if password_stdin:
        word = sys.stdin.readline().rstrip("\n")
        if not word:
            raise Trouble("there is no password on standard input")
    elif new_password:
        word = secrets.token_urlsafe(18)
    with _opened(config) as cloud:
        actions.restore(cloud, word)
        if config.api.tls:
            server.certificate(config)  # whose CA the clients are told of
        credentials.write(config)
    where = Path(config.paths.config_dir)
    print(
        f"{config.identity.admin_name} administers the cloud; the password is in {where / 'admin-password'}"
    )
    return 0


@app.command(name="rotate-keys")
def rotate_keys(
    *names: Annotated[Keys, Parameter(help="Which keys.")], setting: Setting | None = None
) -> int:
    """Rotate keys: the staged one becomes the primary. Tokens go on being valid, credentials are encrypted anew.

    Rotating as often as keys are kept ends all tokens that were made with the first of them.
    """
    from stackling.identity.actions import key_rotation, keys

    if not names:
        raise Trouble("say which keys: tokens, jws, receipts or credentials")
    with _opened((setting or Setting()).config) as cloud:
        for name in dict.fromkeys(names):
            if name == "credentials":
                key_rotation.rotate_credential_keys(cloud)
            else:
                with cloud.db.begin() as tx:
                    keys.rotate(tx, cloud, name)
            print(f"{name}: rotated")
    return 0


@app.command(name="keys")
def show_keys(
    *,
    json: Annotated[bool, Parameter(negative=(), help="Print JSON.")] = False,
    setting: Setting | None = None,
) -> int:
    """Show what keys there are, what each is for, and how old it is. Never the keys themselves."""
    from stackling.identity.actions import keys

    with _opened((setting or Setting()).config) as cloud:
        now = cloud.clock.now()
        rows = [(name, key) for name, store in keys.every(cloud).items() for key in store.listing()]
    if json:
        show([{"keys": name, **key._asdict()} for name, key in rows])
        return 0
    table = Table(box=None, pad_edge=False)
    for heading in ("keys", "number", "role", "made at (UTC)", "age"):
        table.add_column(heading)
    for name, key in rows:
        age = max(now - key.made_at, now - now)
        shown = f"{age.days} d {age.seconds // 3600} h"
        table.add_row(name, str(key.number), key.role, key.made_at.isoformat(" ", "seconds"), shown)
    Console(highlight=False).print(table)
    return 0
