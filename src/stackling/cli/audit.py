"""`stackling audit`: what was done in the cloud, by whom."""

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from stackling.cli.client import pages
from stackling.cli.setting import Setting

app = App(name="audit", help="What was done in the cloud, by whom.")

Since = Annotated[str | None, Parameter(help="From this ISO 8601 time on.")]
Until = Annotated[str | None, Parameter(help="Before this ISO 8601 time.")]
User = Annotated[str | None, Parameter(help="Only what this user (id) did.")]
Target = Annotated[str | None, Parameter(help="Only what was done to this (id).")]
Action = Annotated[str | None, Parameter(help="Only this, such as authenticate, create, update or delete.")]
Outcome = Annotated[str | None, Parameter(help="Only success or failure.")]


def _events(setting: Setting | None, **filters: str | None) -> Iterator[dict[str, Any]]:
    asked = urlencode({k: v for k, v in filters.items() if v is not None} | {"limit": "1000"})
    for page in pages(setting or Setting(), f"/stackling/v1/audit?{asked}"):
        yield from page["events"]


def _line(event: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(event).decode() + "\n")


@app.command(name="list")
def show(
    *,
    since: Since = None,
    until: Until = None,
    user: User = None,
    target: Target = None,
    action: Action = None,
    outcome: Outcome = None,
    limit: Annotated[int, Parameter(help="At most so many, the latest.")] = 50,
    json: Annotated[bool, Parameter(negative=(), help="Print CADF events, one a line.")] = False,
    setting: Setting | None = None,
) -> int:
    """Show the latest acts, newest first."""
    found = _events(
        setting, since=since, until=until, user_id=user, target_id=target, action=action, outcome=outcome
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("time", "outcome", "action", "what", "target", "by", "from"):
        table.add_column(heading)
    for event in islice(found, limit):
        if json:
            _line(event)
            continue
        who, what = event["initiator"], event["target"]
        table.add_row(
            event["eventTime"],
            event["outcome"],
            event["action"],
            what["typeURI"].removeprefix("data/security/").removeprefix("service/"),
            what["id"],
            who.get("name") or who["id"],
            who.get("host", {}).get("address", ""),
        )
    if not json:
        Console(highlight=False).print(table)
    return 0


@app.command
def export(*, since: Since = None, until: Until = None, setting: Setting | None = None) -> int:
    """Print all acts as CADF events in JSON, one a line, oldest first: for an archive or another system."""
    for event in _events(setting, since=since, until=until, sort_dir="asc"):
        _line(event)
    return 0
