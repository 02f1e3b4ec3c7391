"""The `stackling` command."""

import os
import sys

from cyclopts import App

from stackling import __version__
from stackling.base.config import ConfigError
from stackling.cli import audit, config, docs, doctor, down, env, identity, image, mapping, policy, status, up
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
app.command(policy.app)
app.command(docs.app)
identity.app.command(mapping.app)
app.command(identity.app)
app.command(audit.app)
app.command(image.app)
app.register_install_completion_command()


def main() -> None:
    """Run the command; trouble is one sentence on standard error and exit status 1."""
    # Daemons and mkfs are in directories that plain `su`, sudo and cron may leave out.
    os.environ["PATH"] = (
        f"{os.environ.get('PATH', '/usr/local/bin:/usr/bin:/bin')}:/usr/local/sbin:/usr/sbin:/sbin"
    )
    try:
        done = app(result_action="return_value")
    except (Trouble, ConfigError) as e:
        print(f"stackling: {e}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(done if isinstance(done, int) else 0)


if __name__ == "__main__":
    main()
