"""The `stackling` command."""

import sys

from cyclopts import App

from stackling import __version__
from stackling.base.config import ConfigError
from stackling.cli import config, docs, doctor, down, env, mapping, status, up
from stackling.cli.setting import Trouble

app = App(
    name="stackling",
    help="A whole private cloud behind the OpenStack APIs.",
    version=__version__,
    version_flags=["--version"],
)
app.command(up.up)
app.command(down.down)
app.command(status.status)
app.command(doctor.doctor)
app.command(env.env)
app.command(config.config)
app.command(docs.app)
identity = App(name="identity", help="Who comes in, and as whom.")
identity.command(mapping.app)
app.command(identity)
app.register_install_completion_command()


def main() -> None:
    """Run the command; trouble is one sentence on standard error and exit status 1."""
    try:
        done = app(result_action="return_value")
    except (Trouble, ConfigError) as e:
        print(f"stackling: {e}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(done if isinstance(done, int) else 0)


if __name__ == "__main__":
    main()
