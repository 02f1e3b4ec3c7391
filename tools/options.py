"""Write docs/configuration.md from the options in the code: python -m tools.options"""

from pathlib import Path

from msgspec import Struct

from stackling.base import config
from stackling.base.directory import DomainDirectory
from stackling.cli.config import toml

# Options that are lists of tables.
_TABLES = (
    (
        "image.stores",
        "One table for each store. Without any: `file` (weight 100), `spare` and `web` (type http).",
        config.ImageStore,
    ),
    (
        "network.external",
        "One table for each external network; the first is the default one.",
        config.ExternalNetwork,
    ),
    (
        "identity.directories",
        "One table for each domain whose users are in a directory (LDAP, Active Directory). The names are those of Keystone's"
        " `[ldap]`, and of the group `ldap` of a domain's configuration.",
        DomainDirectory,
    ),
)


def main() -> None:
    lines = [
        "# Configuration",
        "",
        "One file, `/etc/stackling/stackling.toml` (another with `--config` or `STACKLING_CONFIG`). Every option can be set in the",
        "environment as well: `port` in `[api]` is `STACKLING_API_PORT`. `stackling config` prints what is in force and where it came",
        "from. This page is made from the code by `python -m tools.options`.",
    ]
    section = ""
    for option in config.options(config.Config()):
        if option.section != section:
            section = option.section
            lines += ["", f"## [{section}]", "", "| option | default | meaning |", "|---|---|---|"]
        default = (
            "see below"
            if option.name in ("external", "stores", "directories")
            else f"`{toml(option.default)}`"
        )
        lines.append(f"| `{option.name}` | {default} | {option.says} |")
    for name, says, kind in _TABLES:
        lines += _table(name, says, kind)
    (Path(__file__).parents[1] / "docs" / "configuration.md").write_text("\n".join(lines) + "\n")


def _table(name: str, says: str, kind: type[Struct]) -> list[str]:
    lines = ["", f"### [[{name}]]", "", says, "", "| option | default | meaning |", "|---|---|---|"]
    for option, meaning, default in config.fields_of(kind):
        shown = "none" if default is None else f"`{toml(default)}`"
        lines.append(f"| `{option}` | {shown} | {meaning} |")
    return lines


if __name__ == "__main__":
    main()
