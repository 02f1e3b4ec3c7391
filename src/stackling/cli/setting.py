"""What all commands share: which cloud is meant, and how trouble is told."""

import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from stackling.base import config as configuration
from stackling.base.config import Config, Paths
from stackling.boot.start import START, Start


class Trouble(Exception):
    """Something the operator has to know; the text says what to do."""


@Parameter(name="*")
@dataclass
class Setting:
    """Which cloud."""

    config_file: Annotated[
        Path | None,
        Parameter(name="--config", help="Configuration file; default /etc/stackling/stackling.toml."),
    ] = None
    fake: Annotated[
        bool,
        Parameter(
            negative=(),
            help="The cloud with fake hosts: needs no root, keeps its files below ~/.local/state.",
        ),
    ] = False

    def load(self) -> tuple[Config, dict[str, str]]:
        """The configuration in force and its sources. Raises ConfigError."""
        named = self.config_file or os.environ.get("STACKLING_CONFIG")
        if named and not Path(named).exists():
            raise Trouble(f"{named}: no such configuration file")
        file = Path(named or "/etc/stackling/stackling.toml")
        if self.fake and not named:
            file = fake_home() / "etc" / "stackling.toml"
        loaded, sources = configuration.load(file)
        if self.fake:
            home = fake_home()
            own = {
                n: str(home / n.removesuffix("_dir"))
                for n in Paths.__struct_fields__
                if f"paths.{n}" not in sources
            }
            loaded = msgspec.structs.replace(loaded, paths=msgspec.structs.replace(loaded.paths, **own))
            sources |= {f"paths.{n}": "--fake" for n in own}
        return loaded, sources

    @property
    def config(self) -> Config:
        return self.load()[0]

    @property
    def in_force(self) -> Config:
        """The configuration that the running cloud was started with: the environment may be another by now.

        That of this command where none runs, or where somebody else started it.
        """
        config = self.config
        if running(config) is None:
            return config
        try:
            return msgspec.json.decode((Path(config.paths.run_dir) / START).read_bytes(), type=Start).config
        except (OSError, msgspec.DecodeError):
            return config

    def command(self, name: str) -> str:
        """What to type for another command about the same cloud."""
        named = ["--config", shlex.quote(str(self.config_file))] if self.config_file else []
        return " ".join(["stackling", name, *(["--fake"] if self.fake else []), *named])


def fake_home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "stackling-fake"


def running(config: Config) -> int | None:
    """The process id of the cloud that runs with this configuration."""
    mark = Path(config.paths.run_dir) / "cloud.json"
    try:
        pid = int(json.loads(mark.read_text())["pid"])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, KeyError):
        return None
    return pid if b"stackling.boot.server" in command else None  # a later process may have its number


def show(value: Any) -> None:
    """Print JSON for programs."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode() + "\n")
