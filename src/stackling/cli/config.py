"""`stackling config`: what is in force and where from."""

from typing import Annotated

import msgspec
from cyclopts import Parameter

from stackling.base.config import Option, options
from stackling.cli.setting import Setting, show


def config(
    *,
    changed: Annotated[bool, Parameter(negative=(), help="Only what isn't the default.")] = False,
    json: Annotated[bool, Parameter(negative=(), help="Print JSON.")] = False,
    setting: Setting | None = None,
) -> int:
    """Print every option with its value, where it came from, and what it means."""
    loaded, sources = (setting or Setting()).load()
    found = [o for o in options(loaded, sources) if not changed or o.source != "default"]
    if json:
        show([{**{f: getattr(o, f) for f in Option.__struct_fields__}, "value": _plain(o)} for o in found])
        return 0
    section = ""
    for option in found:
        if option.section != section:
            section = option.section
            print(f"\n[{section}]")
        print(f"# {option.says}")
        print(f"{option.name} = {toml(_plain(option))}  # {option.source}")
    return 0


def _plain(option: Option) -> object:
    """A value that can be shown: passwords of the database and of directories can't."""
    if option.section == "database" and option.name == "url" and "@" in str(option.value):
        before, _, after = str(option.value).rpartition("@")
        scheme, _, who = before.partition("://")
        return f"{scheme}://{who.split(':')[0]}:***@{after}"
    if option.section == "identity" and option.name == "directories":
        return [msgspec.structs.replace(d, password=d.password and "***") for d in option.value]
    return option.value


def toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(k)} = {toml(v)}" for k, v in value.items()) + "}"
    fields = [f for f in getattr(value, "__struct_fields__", ()) if getattr(value, f) is not None]
    return "{ " + ", ".join(f"{f} = {toml(getattr(value, f))}" for f in fields) + " }"
