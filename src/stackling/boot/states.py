"""Each resource's life, drawn from the code of its steps.

Where a step may lead is read from its source: every `move(State.X)` and `settle(State.X)` in it, or in a function
of the same file that it calls.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from stackling.base.jobs import Machine


def drawing(machine: Machine) -> str:
    """The Mermaid state diagram of one machine, under a heading."""
    lines = [f"## {machine.kind}", "", "```mermaid", "stateDiagram-v2"]
    if machine.on_always:
        lines += [f"    [*] --> again: {machine.on_always[0].__name__}", "    again --> again"]
    functions: dict[Any, list[str]] = {}
    for state, (step, _) in machine.steps.items():
        functions.setdefault(step, []).append(state)
    for state, (step, within) in machine.steps.items():
        limit = "" if within is None else f" (within {within:g} s)"
        for target in sorted(set(_targets(step, state))):
            lines.append(f"    {state} --> {target}: {step.__name__}{limit}")
    if machine.on_failed:
        failing = [s for s, (_, within) in machine.steps.items() if within is not None]
        for target in sorted(set(_targets(machine.on_failed))):
            lines += [f"    {s} --> {target}: fails" for s in failing if s != target]
    return "\n".join([*lines, "```", "", ""])


def _targets(
    function: Callable[..., Any], state: str | None = None, seen: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Where a function can move a row that is in `state`, as its source says."""
    module = inspect.getmodule(function)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("move", "settle") and node.args:
            yield from _states(node.args[0], module, state)
        elif name == "gone":
            yield "[*]"
        elif isinstance(node.func, ast.Name) and module and name not in seen:
            called = getattr(module, name, None)
            if inspect.isfunction(called) and called.__module__ == module.__name__:
                yield from _targets(called, state, seen | {name})


def _states(node: ast.expr, module: ModuleType | None, state: str | None) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Subscript) and isinstance(part.value, ast.Name) and module:
            table = getattr(module, part.value.id, None)  # a state that follows from the one before
            if isinstance(table, dict) and state in table:
                yield str(table[state])
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and module:
            member = getattr(getattr(module, part.value.id, None), part.attr, None)
            if isinstance(member, str):
                yield str(member)
