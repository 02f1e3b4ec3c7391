"""`stackling doctor`: what is wrong, and what to do."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from stackling.cli.client import ask
from stackling.cli.setting import Setting, Trouble, running, show


def doctor(
    *,
    fix: Annotated[bool, Parameter(negative=(), help="Repair what can be repaired.")] = False,
    json: Annotated[bool, Parameter(negative=(), help="Print JSON.")] = False,
    setting: Setting | None = None,
) -> int:
    """Check the host, and the database against libvirt, OVN and the volumes; say what to do. Exit status 1 on errors."""
    from stackling.node import inspect  # a quarter of a second that other commands need not wait

    setting = setting or Setting()
    config = setting.config
    up = running(config)
    ports = {} if up else {"API": config.api.port}
    host = (
        []
        if setting.fake
        else inspect.findings(Path(config.paths.run_dir), Path(config.paths.state_dir), ports)
    )
    cloud: list[dict[str, Any]] = []
    silent = ""
    if up:
        try:
            cloud = ask(setting, "POST" if fix else "GET", "/stackling/v1/findings")["findings"]
        except Trouble as e:
            silent = str(e)
    bad = (
        bool(silent)
        or any(not f.ok and f.severity == "error" for f in host)
        or any(not f["fixed"] for f in cloud)
    )
    if json:
        show({"host": host, "cloud": cloud, "running": bool(up), "silent": silent})
        return int(bad)
    console = Console(highlight=False)
    colour = {"error": "red", "warning": "yellow", "note": "cyan"}
    for finding in host:
        mark = (
            "[green]ok[/green]     " if finding.ok else f"[{colour[finding.severity]}]{finding.severity:7}[/]"
        )
        console.print(f"{mark} {finding.name}: {finding.says}")
        if finding.do:
            console.print(f"          → {finding.do}")
    for entry in cloud:
        console.print(
            f"{'[green]fixed[/green]  ' if entry['fixed'] else '[red]error[/red]  '} {entry['name']}: {entry['says']}"
        )
        if not entry["fixed"]:
            console.print(f"          → {entry['do']}")
    if silent:
        console.print(f"[red]error[/red]   API: {silent}")
    elif not up:
        console.print(
            f"[cyan]note[/cyan]    the cloud is not running, so nothing was compared; start it with `{setting.command('up')}`"
        )
    elif not cloud:
        console.print("[green]ok[/green]      the database, the hypervisors, OVN and the volumes agree")
    return int(bad)
