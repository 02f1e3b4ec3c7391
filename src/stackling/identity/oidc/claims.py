"""Claims as an assertion that mappings are written for.

A claim `groups` can be asked for as `groups`, and under the names that mod_auth_openidc gives it in front of Keystone:
`OIDC-groups`, `OIDC_CLAIM_groups`, `OIDC_GROUPS` and `HTTP_OIDC_GROUPS`. Claims within claims have names with dots
(`realm_access.roles`). A list is several values; a text is one, whatever separators it holds.
"""

import re
from collections.abc import Iterator
from typing import Any

from stackling.identity.mapping.evaluation import REMOTE_USER

_DEEPEST = 4
_MOST_VALUES = 2000


def assertion_of(claims: dict[str, Any]) -> dict[str, list[str]]:
    """What checked claims come to for a mapping. REMOTE_USER is `<sub>@<iss>`, which no claim can replace."""
    found = sorted(_flat(claims, "", 0), key=lambda pair: (pair[0] != pair[0].lower(), pair[0]))
    made: dict[str, list[str]] = {REMOTE_USER: [f"{claims['sub']}@{claims['iss']}"]}
    # Names that are made here come first: a claim can't pass itself off as another by being called like it.
    for name, values in found:
        loud = re.sub(r"[^A-Z0-9]", "_", name.upper())
        for alias in (f"OIDC-{name}", f"OIDC_CLAIM_{name}", f"OIDC_{loud}", f"HTTP_OIDC_{loud}"):
            made.setdefault(alias, values)
    for name, values in found:
        made.setdefault(name, values)
    return made


def _flat(value: dict[str, Any], above: str, depth: int) -> Iterator[tuple[str, list[str]]]:
    for name, one in value.items():
        if isinstance(one, dict):
            if depth < _DEEPEST:
                yield from _flat(one, f"{above}{name}.", depth + 1)
            continue
        values = [_text(v) for v in (one[:_MOST_VALUES] if isinstance(one, list) else [one])]
        kept = [v for v in values if v is not None]
        if kept:
            yield f"{above}{name}", kept


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value.replace("\0", "")
    return str(value) if isinstance(value, int | float) else None
