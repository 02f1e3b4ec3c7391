"""`stackling env`: credentials for clients."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from stackling.boot import credentials
from stackling.cli.setting import Setting, Trouble, show


def env(
    *,
    format: Annotated[Literal["openrc", "clouds.yaml", "json"], Parameter(help="What to print.")] = "openrc",
    setting: Setting | None = None,
) -> int:
    """Print the administrator's credentials. Use it as: eval "$(stackling env)" (with --fake for a fake cloud)."""
    setting = setting or Setting()
    config = setting.in_force
    if not (Path(config.paths.config_dir) / "admin-password").exists():
        raise Trouble(f"there are no credentials yet; start the cloud with `{setting.command('up')}`")
    try:
        values = credentials.admin(config)
    except PermissionError as e:
        raise Trouble(f"{e.filename} is the administrator's alone; run it with sudo") from None
    if format == "json":
        show(values)
    else:
        print(credentials.openrc(values) if format == "openrc" else credentials.clouds_yaml(values), end="")
    return 0
