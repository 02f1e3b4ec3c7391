"""`stackling docs`: documentation made from the code."""

from typing import Annotated

from cyclopts import App, Parameter

from stackling.cli.setting import Trouble

app = App(name="docs", help="Documentation made from the code.")


@app.command(name="states")
def draw(
    kind: Annotated[str | None, Parameter(help="Only this kind, such as compute.server.")] = None,
) -> int:
    """Draw each resource's life: its states, and where the step of each may lead (Mermaid state diagrams)."""
    from stackling.boot import assembly, states  # half a second that other commands need not wait

    found = [m for m in assembly.machines() if kind in (None, m.kind)]
    if not found:
        raise Trouble(f"no kind {kind!r}; there are {', '.join(m.kind for m in assembly.machines())}")
    print("\n".join(states.drawing(machine) for machine in found), end="")
    return 0
