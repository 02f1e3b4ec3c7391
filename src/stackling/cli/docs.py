"""`stackling docs`: documentation made from the code."""

from typing import Annotated

from cyclopts import App, Parameter

from stackling.base.jobs import Machine
from stackling.boot import assembly, states
from stackling.cli.setting import Trouble

app = App(name="docs", help="Documentation made from the code.")


@app.command(name="states")
def draw(
    kind: Annotated[str | None, Parameter(help="Only this kind, such as compute.server.")] = None,
) -> int:
    """Draw each resource's life: its states, and where the step of each may lead (Mermaid state diagrams)."""
    found: list[Machine] = [m for m in assembly.machines() if kind in (None, m.kind)]
    if not found:
        raise Trouble(f"no kind {kind!r}; there are {', '.join(m.kind for m in assembly.machines())}")
    print("\n".join(states.drawing(machine) for machine in found), end="")
    return 0
