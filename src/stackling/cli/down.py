"""`stackling down`: stop the cloud."""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stackling.base.config import Config
from stackling.boot import credentials
from stackling.cli.setting import Setting, Trouble, fake_home, running


def down(
    *,
    purge: Annotated[
        bool,
        Parameter(negative=(), help="Also remove all servers, networks, disks and files: nothing is left."),
    ] = False,
    setting: Setting | None = None,
) -> int:
    """Stop the cloud. Guests go on running and are found again by the next `stackling up`."""
    setting = setting or Setting()
    config = setting.config
    if not setting.fake and os.geteuid() != 0:
        raise Trouble("stopping the cloud needs root; run it with sudo")
    stopped = stop(config)
    if not setting.fake:
        from stackling.boot import node

        if purge:
            node.purge(config)
        else:
            guests = node.stop_services(config)
            if guests:
                who = "1 guest goes" if len(guests) == 1 else f"{len(guests)} guests go"
                print(f"{who} on running, and with them Open vSwitch, OVN and libvirt.")
    if purge:
        left = _drop_tables(config)
        for name in ("state_dir", "run_dir", "log_dir"):
            shutil.rmtree(getattr(config.paths, name), ignore_errors=True)
        credentials.remove(config)
        if setting.fake:
            with contextlib.suppress(OSError):  # an operator's own configuration stays
                fake_home().rmdir()
    if purge and left:
        raise Trouble(left)
    print(
        "Stackling is down." if stopped else "Stackling was not running.",
        *(["Nothing of it is left."] if purge else []),
    )
    return 0


def _drop_tables(config: Config) -> str:
    """Empty a database that is a server's; one that is a file goes with its directory. Returns what went wrong."""
    import sqlalchemy as sa

    from stackling.base.db import Database
    from stackling.boot import assembly, schema

    if config.database_url.startswith("sqlite"):
        return ""
    assembly.load_tables()
    database = Database(config.database_url)
    try:
        schema.drop(database)
    except sa.exc.SQLAlchemyError as e:
        shown = database.url.render_as_string(hide_password=True)
        why = str(e.__cause__ or e).strip()
        return (
            f"this host is clean, but the cloud's tables in {shown} stay: {why}; drop that database by hand"
        )
    finally:
        database.close()
    return ""


def stop(config: Config) -> bool:
    """End the cloud's process; whether there was one."""
    pid = running(config)
    if pid is None:
        return False
    own_group = os.getpgid(pid) == pid
    try:
        return _end(config, pid)
    finally:
        if own_group:  # what it had started and not yet waited for, such as a package download
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)


def _end(config: Config, pid: int) -> bool:
    for sign, patience in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if running(config) != pid or not Path(f"/proc/{pid}").exists():
                return True
            time.sleep(0.05)
    return True
