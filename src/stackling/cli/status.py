"""`stackling status`: how every part is."""

from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from stackling.cli.client import ask
from stackling.cli.setting import Setting, show


def status(
    *,
    json: Annotated[bool, Parameter(negative=(), help="Print JSON.")] = False,
    setting: Setting | None = None,
) -> int:
    """Show every part of the cloud: version, health, address, memory. Exit status 1 when one isn't healthy."""
    parts: list[dict[str, Any]] = ask(setting or Setting(), "GET", "/stackling/v1/status")["parts"]
    if json:
        show({"parts": parts})
    else:
        table = Table(box=None, pad_edge=False)
        for heading in ("part", "health", "version", "address"):
            table.add_column(heading)
        table.add_column("MiB", justify="right")
        table.add_column("says")
        for part in parts:
            health = "[green]ok[/green]" if part["healthy"] else "[red]not ok[/red]"
            memory = f"{part['memory'] / 1024:.1f}" if part["memory"] else ""
            table.add_row(part["name"], health, part["version"], part["address"], memory, part["why"])
        total = sum(part["memory"] for part in parts) / 1024
        console = Console()
        console.print(table)
        console.print(
            f"memory of all parts: {total:.0f} MiB (proportional share, guests not counted)", highlight=False
        )
    return 0 if all(part["healthy"] for part in parts) else 1
