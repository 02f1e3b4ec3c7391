"""An operator's `policy.yaml`: rule names with checks in oslo.policy's language, or a sentence that says what is wrong.

oslo.policy takes what it doesn't understand for "never" and logs it; a rule nobody can pass by mistake, or pass because
it stands in `not (…)`, is worse than a file that is refused.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from oslo_policy import _checks as checks
from oslo_policy import _parser, policy

from stackling.base.config import ConfigError

_NEVER = re.compile(r"(?<![^\s(])!(?![^\s)])")
logging.getLogger(_parser.__name__).disabled = True  # it would print a traceback; the sentence is ours


def read(path: Path, declared: Mapping[str, Any]) -> dict[str, Any]:
    """The checks of the file by rule. `declared` are the checks of the rules that it may override and refer to.

    Raises ConfigError naming the file, the rule and what is wrong.
    """
    try:
        parsed = policy.parse_file_contents(path.read_text())
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path}: {' '.join(str(e).split())}") from None
    if not isinstance(parsed, dict):
        raise ConfigError(f'{path}: it holds rules, one a line: "name": "check"')
    made = {}
    for name, text in parsed.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise ConfigError(f"{path}: rule {str(name)[:255]!r}: a rule's name and its check are texts")
        made[name] = _parser.parse_rule(text)
        never = sum(isinstance(c, checks.FalseCheck) for c in parts(made[name]))
        whole = isinstance(made[name], checks.FalseCheck) and text.strip("() ") != "!"
        if whole or never > len(_NEVER.findall(text)):
            raise ConfigError(f"{path}: rule {name!r}: {text!r} is not in the policy language")
    known = {**declared, **made}
    for name in made:
        _refers(path, name, known, ())
    return made


def parts(check: Any) -> Iterator[Any]:
    """A check and all that it consists of."""
    yield check
    for inner in getattr(check, "rules", None) or (
        [check.rule] if isinstance(check, checks.NotCheck) else []
    ):
        yield from parts(inner)


def _refers(path: Path, name: str, known: Mapping[str, Any], above: tuple[str, ...]) -> None:
    """Raise ConfigError when a rule refers to one that is nowhere, or to itself."""
    for part in parts(known[name]):
        if isinstance(part, checks.RuleCheck):
            if part.match not in known:
                raise ConfigError(
                    f"{path}: rule {name!r} refers to the rule {part.match!r}, which is nowhere"
                )
            if part.match in (*above, name):
                raise ConfigError(f"{path}: rule {part.match!r} refers to itself")
            _refers(path, part.match, known, (*above, name))
